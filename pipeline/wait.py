"""Waiting for a run that was left to a cluster: how it ends, with the exit code that its launcher would have had.

It takes the launcher's place: a job that a verdict has ended is cancelled, and what failed is left beside the output.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipeline.commit import abandon, published_run
from pipeline.errors import CountError, JobError, OutputError, ScoringError, Terminated
from pipeline.failure import Failure, read_failed, read_verdict, write_failed
from pipeline.handover import find_job, is_over
from pipeline.lease import Holder, holder_of
from pipeline.manifest import read_manifest
from pipeline.report import Report
from pipeline.resume import unfinished_plan

if TYPE_CHECKING:
    from pipeline.handover import Job

LOOK_EVERY = 5.0
"""Seconds."""
_OUT_OF_REACH = 120.0
"""Seconds for which the output may give no answer."""


def wait(
    output: str,
    timeout: float | None = None,
    say: Callable[[str], None] = lambda message: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Wait for the end of the run that is at work on an output; of one that has ended it is told at once.

    Args:
      output: the output folder.
      timeout: seconds; None: as long as it takes.
      say: is told, once, what is waited for.

    Returns:
      The report of a run that has published.

    Raises:
      ScoringError: with the exit code of the run; or that there is no run, or that it is not over in time.
    """
    holder = holder_of(output)
    if holder is None:
        return _ended(output, None)
    say(f"waiting for {holder}")
    watched = _Watched(holder, clock)
    until = None if timeout is None else clock() + timeout
    try:
        _until_ended(watched, until, clock, sleep)
    except (KeyboardInterrupt, Terminated) as stopped:
        stopped.args = ("the run goes on",)
        raise
    except _Late:
        raise ScoringError(
            f"{output}: {holder} is at work still after {timeout:.0f} s (--timeout); wait again"
        ) from None
    return _ended(output, holder.run_id)


def _until_ended(
    watched: _Watched, until: float | None, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    answered = clock()
    while True:
        try:
            if watched.has_ended():
                return
            answered = clock()
        except OSError:
            if clock() - answered > _OUT_OF_REACH:
                raise
        if until is not None and clock() >= until:
            raise _Late
        sleep(LOOK_EVERY)


class _Late(Exception):
    """The time is over."""


class _Watched:
    """A run at work, and its job where that can be asked for."""

    def __init__(self, holder: Holder, clock: Callable[[], float]):
        self._holder, self._clock = holder, clock
        self._file, self._touched = holder.file, clock()
        self._job: Job | None = None

    def has_ended(self) -> bool:
        """Whether the run has let go of its output.

        Raises:
          ScoringError: it cannot come to a good end any more; it was told beside the output, and the lock is released.
        """
        state = self._state()  # before the output is looked at: of a job that is over, that is final
        holder, now = self._holder, holder_of(self._holder.output)
        if now is None:
            return True
        if now.run_id != holder.run_id:
            if published_run(holder.output) == holder.run_id:
                return True
            raise OutputError(f"{holder.output}: {holder} was replaced by {now}; wait for that one")
        if now.file != self._file:
            self._file, self._touched = now.file, self._clock()
        try:
            self._raise_if_failed(now, state)
        except ScoringError as error:
            self._tell(error)
            raise
        return False

    def _state(self) -> str | None:
        job = self._holder.content.get("job")
        try:
            if job is not None and self._job is None:
                self._job = find_job(job)
            return None if self._job is None else self._job.state
        except (OSError, ScoringError):  # out of reach, or not for us to ask: the lock itself tells in time
            return None

    def _raise_if_failed(self, now: Holder, state: str | None) -> None:
        output = now.output
        if (found := read_verdict(output, now.run_id)) is not None:
            if self._job is not None and not is_over(state or ""):
                with suppress(OSError, ScoringError):
                    self._job.cancel()
            raise found.to_error()
        if state == "FAILED" and self._job is not None:
            with suppress(OSError):
                self._job.raise_error()
            raise ScoringError("the job failed on the cluster, which does not tell why; see its log")
        if state == "CANCELLED":
            raise ScoringError("the job was cancelled on the cluster; finished parts are kept for the next run")
        if state is not None and is_over(state):
            raise CountError(f"{output}: the job ended without an error, and nothing was published; see its log")
        if now.is_gone:
            raise ScoringError(f"{output}: {now} has ended without a word; run again, and finished parts are kept")
        if self._clock() - self._touched > now.silent_for:
            raise ScoringError(
                f"{output}: {now} gives no sign of life for {now.silent_for:.0f} s; look at it on the cluster, or run again: "
                "finished parts are kept"
            )

    def _tell(self, error: ScoringError) -> None:
        holder = self._holder
        with suppress(OSError, OutputError):  # who may only read the output may wait for it all the same
            write_failed(holder.output, Failure.of(holder.run_id, error))
            abandon(holder.lease)


def _ended(output: str, run_id: str | None) -> Report:
    """How a run has ended; None: the last one."""
    manifest = read_manifest(output) if published_run(output) is not None else None
    failure = read_failed(output)
    if failure is not None and run_id in (None, failure.run_id):
        raise failure.to_error()
    if manifest is not None and run_id in (None, manifest["run_id"]):
        report = Report(manifest["name"], output, run_date=manifest["run_date"])
        report.of_manifest(manifest, manifest["job"].get("errors", {}).get("rejected_path"))
        return report
    if run_id is not None or unfinished_plan(output) is not None:
        raise ScoringError(f"{output}: the run has ended without a word; run again, and finished parts are kept")
    raise JobError(f"{output}: there is no output, and no run is at work on one")
