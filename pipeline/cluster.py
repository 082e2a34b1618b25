"""A run on a cluster: submitted, followed by what it leaves in its output, and cancelled where nobody wants it any more."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn, Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineState, create_runner
from apache_beam.transforms.environments import SDK_VERSION_CAPABILITY_PREFIX

from pipeline import files, progress
from pipeline.commit import plan_under_way
from pipeline.dataflow import DataflowJob, is_dataflow, packaged, refused_in_words
from pipeline.errors import ScoringError, Terminated
from pipeline.failure import read_verdict
from pipeline.flink import Flink, error_in_words, flink_of
from pipeline.graph import Run, build
from pipeline.handover import Job, job_name, runner_name
from pipeline.plan import STARTED, temporary
from pipeline.results import RESULT, PartResult
from pipeline.threads import in_thread, let_break

_LOOK_EVERY = 1.0
_SILENCE = 60.0
"""Seconds after which a cluster on which no worker has begun is told of."""
_OUT_OF_REACH = 120.0
"""Seconds for which a cluster, or the output, may give no answer."""
_LAST_WORDS = 30.0
"""Seconds that submitting, cancelling, and telling the error may take once the end is known."""


def run_on_cluster(run: Run, options: PipelineOptions) -> dict[str, str]:
    """Submit the pipeline and wait until it is done, with progress as the results of parts appear in the output.

    A run that is left is not waited for.

    Returns:
      `runner` and `name` of the job, and `id` and `url` as far as they are known.

    Raises:
      VerdictError: a worker has found what no retry can mend; the job is cancelled at once.
      ScoringError: the job failed; the message is that of the Python error, without the Java one around it.
      KeyboardInterrupt, Terminated: after the job was cancelled.
    """
    name = job_name(options, run.spec.job.name, run.lease.run_id)
    called = {"runner": runner_name(options), "name": name}
    if is_dataflow(options):
        with packaged(options, name), refused_in_words(name), _without_messages():
            pipeline = beam.Pipeline(options=options)
            build(pipeline, run)
            return called | _submit_and_follow(pipeline, partial(DataflowJob.of, options), run)
    flink = flink_of(options, name)
    runner = _runner(options)
    pipeline = beam.Pipeline(runner=runner, options=options)
    build(pipeline, run)
    try:
        with _without_messages():
            return called | _submit_and_follow(pipeline, partial(ClusterJob, flink=flink), run)
    finally:
        server = getattr(runner, "server", None)
        if server is not None:
            server.stop()


def _submit_and_follow(
    pipeline: beam.Pipeline, as_job: Callable[[PipelineResult], SubmittedJob], run: Run
) -> dict[str, str]:
    job = _submit(pipeline, as_job)
    if not run.lease.is_left:
        _follow(job, run)
    return job.known_as()


class _OwnServer(PortableRunner):
    """A runner of Beam's whose job server ends with the run.

    Beam's own way ends it with the process, and on Ctrl-C before the job could be cancelled through it.
    """

    server: Any = None

    def default_job_server(self, options: PipelineOptions) -> Any:
        server = super().default_job_server(options)
        self.server = getattr(server, "_job_server", server)
        return self.server

    def run_portable_pipeline(self, pipeline: Any, options: PipelineOptions) -> PipelineResult:
        """Submit the pipeline without the versions of Python and Beam that its workers are to have, which `ReadPlan` compares.

        Beam's workers would refuse others before they answer the runner, which waits three minutes and tries again.
        """
        for environment in pipeline.components.environments.values():
            others = [name for name in environment.capabilities if not name.startswith(SDK_VERSION_CAPABILITY_PREFIX)]
            environment.capabilities[:] = others
        return super().run_portable_pipeline(pipeline, options)


def _runner(options: PipelineOptions) -> Any:
    runner = create_runner(options.view_as(StandardOptions).runner)
    if not isinstance(runner, PortableRunner):
        return runner
    return type(type(runner).__name__, (_OwnServer, type(runner)), {})()


class SubmittedJob(Job, Protocol):
    """A job of this process."""

    def retried(self) -> str | None: ...

    def known_as(self) -> dict[str, str]: ...


class ClusterJob:
    """A job that was submitted through Beam's job interface."""

    def __init__(self, result: PipelineResult, flink: Flink | None):
        self._result, self._flink = result, flink
        self._waited = in_thread(result.wait_until_finish)  # nothing else reads the messages

    @property
    def state(self) -> str:
        return self._result.state

    def cancel(self) -> None:
        """Cancel the job, and wait a moment for its end."""
        flink = self._flink
        if flink is not None and flink.cancel():  # also where Ctrl-C has ended the job server, a process of its own
            has_ended = flink.has_ended
        else:
            self._result.cancel()

            def has_ended() -> bool:
                return PipelineState.is_terminal(self.state)

        until = time.monotonic() + _LAST_WORDS
        while not has_ended() and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
        _ = self.state  # which deletes an uber jar from the cluster

    def raise_error(self) -> NoReturn:
        """Raise what made the job fail: in words where it comes out of Java, as the runner raises it otherwise."""
        text = "" if self._flink is None or (failure := self._flink.last_failure()) is None else failure.text
        if not text:
            try:
                self._waited.result(_LAST_WORDS)
            except TimeoutError:
                pass
            except RuntimeError as error:
                text = str(error)
                if "\tat " not in text:
                    raise
        if os.environ.get("ESTIMATOR_SCORE_TRACEBACK"):
            print(text, file=sys.stderr)
        raise ScoringError(f"the job failed on the cluster: {error_in_words(text)}")

    def retried(self) -> str | None:
        """What a cluster that runs the job again has met since the last call, in words."""
        failure = self._flink.new_failure() if self._flink is not None else None
        return None if failure is None else error_in_words(failure)

    def known_as(self) -> dict[str, str]:
        """The job's id on the cluster, if that tells it."""
        with suppress(OSError):  # what is done is done, known or not
            if self._flink is not None and (found := self._flink.job_id()) is not None:
                return {"id": found}
        return {}


def _submit(pipeline: beam.Pipeline, as_job: Callable[[PipelineResult], SubmittedJob]) -> SubmittedJob:
    submitted: Future[PipelineResult] = in_thread(pipeline.run)
    try:
        return as_job(submitted.result())
    except (KeyboardInterrupt, Terminated):
        with suppress(Exception):
            as_job(submitted.result(_LAST_WORDS)).cancel()
        raise


def _follow(job: SubmittedJob, run: Run) -> None:
    """Wait for the end of a job."""
    looks = _Looks(job, run)
    answered = time.monotonic()
    try:
        while True:
            try:
                state = job.state
                if PipelineState.is_terminal(state):
                    break
                looks.look()
                answered = time.monotonic()
            except OSError:  # of a store, or of the cluster; or `_temporary` was deleted at this moment
                if time.monotonic() - answered > _OUT_OF_REACH:
                    raise
            time.sleep(_LOOK_EVERY)
    except BaseException:
        with suppress(Exception):  # the reason to cancel is what is told
            job.cancel()
        raise
    if state == PipelineState.CANCELLED:
        raise ScoringError("the job was cancelled on the cluster; finished parts are kept for the next run")
    if state != PipelineState.DONE:
        if (found := read_verdict(run.lease.output, run.lease.run_id)) is not None:
            raise found.to_error()
        job.raise_error()


class _Looks:
    """What is looked at while a job runs: its verdict, its progress, and what goes wrong."""

    def __init__(self, job: SubmittedJob, run: Run):
        self._job, self._lease = job, run.lease
        self._finished = _FinishedParts(run)
        # Dataflow starts machines, which takes minutes, and tells by itself why it cannot
        self._silent_until = None if isinstance(job, DataflowJob) else time.monotonic() + _SILENCE

    def look(self) -> None:
        """Raises VerdictError, or LeaseLost, where the run cannot come to a good end any more."""
        output, run_id = self._lease.output, self._lease.run_id
        found = read_verdict(output, run_id)
        if found is not None:
            raise found.to_error()
        self._finished.count()
        if (error := self._job.retried()) is not None:
            self._lease.check()  # else that is what failed
            progress.current.tell(f"the cluster runs again what failed: {error}")
        if self._silent_until is None:
            return
        if _is_started(output, run_id):
            self._silent_until = None
        elif time.monotonic() > self._silent_until:
            self._silent_until = None
            progress.current.tell(
                f"no worker has begun for {_SILENCE:.0f} s; look whether the cluster has free slots, and whether the worker "
                "pool finds a python with this project installed"
            )


def _is_started(output: str, run_id: str) -> bool:
    path = temporary(output, STARTED)
    return files.exists(path) and files.read_bytes(path).decode() == run_id


class _FinishedParts:
    """Counts the parts of a run whose results have appeared, and their rows, into the progress of this process."""

    def __init__(self, run: Run):
        self._output = run.lease.output
        plan = plan_under_way(run.lease)
        self._missing = {temporary(self._output, part.key, RESULT) for part in plan.parts} if plan else set()
        self._next = 0.0

    def count(self) -> None:
        """Look, unless the last look was a moment ago by the time that it took."""
        start = time.monotonic()
        if start < self._next:
            return
        for info in files.match(temporary(self._output, "*", RESULT)):
            if info.path in self._missing:
                progress.current.rows += PartResult.from_json(files.read_bytes(info.path).decode()).read
                progress.current.parts += 1
                self._missing.remove(info.path)
        self._next = time.monotonic() + max(_LOOK_EVERY, 20 * (time.monotonic() - start))


@contextmanager
def _without_messages() -> Iterator[None]:
    """Keep from the terminal what runners say of a job: traces of Java and of Python, which may hold values of rows."""
    if os.environ.get("ESTIMATOR_SCORE_TRACEBACK"):
        yield
        return
    let_break("wait_until_finish_read")  # Beam's reader of messages, where its job server has ended before the reader

    def is_ours(record: logging.LogRecord) -> bool:
        return record.module != "portable_runner"

    logger = logging.getLogger()
    logger.addFilter(is_ours)
    try:
        yield
    finally:
        logger.removeFilter(is_ours)
