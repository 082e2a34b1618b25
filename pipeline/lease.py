"""The lock of an output: a lease that names the run which may write there.

    OUTPUT/_temporary/lock/000001.json      one file a holder; the highest number holds

Who takes the lock makes the file of the next number, which only one can do where the filesystem has create-if-absent
(local disks, gs, s3; elsewhere it is the best effort). The holder touches its file while it lives. A contender takes a
lease that it has not seen touched for `LOST_AFTER` seconds of its own clock, or whose process it sees to be gone: no
two clocks are compared. Who lost its lease finds out at the next `check`, however late it wakes up.

A run that its launcher leaves to a cluster is kept by its workers alone, which are not there at first: its file says for how
long it may be silent, and by which name the cluster knows its job.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import LeaseLost, OutputError
from pipeline.plan import temporary, utc_now

LOCK = "lock"
TOUCHED_EVERY = 5.0
"""Seconds; a holder's file is touched at least once in two of these."""
LOST_AFTER = 30.0
"""Seconds without a touch after which a lease is anybody's."""
SILENT_WHEN_LEFT = 600.0
"""As many where workers alone keep it: a cluster starts them in this time, and they fetch the model."""
_LOOK_EVERY = 0.5


@dataclass(frozen=True)
class Lease:
    """The right of one run to write to an output, as long as nobody has taken it over.

    is_left: the launcher does not wait for the run; its workers keep the lease, and leave word of how it failed.
    """

    output: str
    run_id: str
    number: int
    is_left: bool = False

    @property
    def path(self) -> str:
        """The file that stands for this lease."""
        return _path(self.output, self.number)

    def check(self) -> None:
        """Raise LeaseLost unless the lease is still that of this run."""
        latest = _latest(self.output)
        holder = _holder(latest) if latest else {}
        if holder.get("run_id") != self.run_id:
            now = f"run {holder['run_id']} has it" if holder else "that run was ended"
            raise LeaseLost(
                f"{self.output}: run {self.run_id} no longer has the lock, {now}; this one has published nothing since"
            )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Touch the lease while the context is open, unless another process of this run does.

        One thread does it for all that is under way in this process, and it waits a moment for what comes next.
        """
        with _keeping:
            _uses[self] += 1
            if self not in _keepers:
                _keepers[self] = _Keeper(self)
                _keepers[self].start()
        try:
            yield
        finally:
            with _keeping:
                _uses[self] -= 1

    def release(self) -> None:
        """Let the next run have the output at once."""
        with _keeping:
            keeper = _keepers.pop(self, None)
        if keeper is not None:  # a touch now would make another file of the one that is to be deleted
            keeper.stop()
        latest = _latest(self.output)
        if latest is not None and _holder(latest).get("run_id") == self.run_id:
            files.delete_unchanged(latest)
        for folder in (temporary(self.output, LOCK), temporary(self.output)):
            files.delete_empty_folder(folder)


class _Keeper(threading.Thread):
    """Touches a lease as long as anything is under way that it is kept for, or was a moment ago."""

    def __init__(self, lease: Lease):
        super().__init__(name="keeper of a lease", daemon=True)
        self._lease = lease
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        # Workers look at different moments, so that one of them touches the file and the others find it touched:
        # stores take about one write a second to one object
        lease = self._lease
        seen: files.FileInfo | None = None
        while not self._stopped.wait(TOUCHED_EVERY * random.uniform(0.5, 1)) and not self._is_over():
            try:
                latest = _latest(lease.output)
                if latest is None or _holder(latest).get("run_id") != lease.run_id:
                    self._leave()
                    return  # who works under this lease finds out by `check`
                if latest == seen:
                    files.touch(latest.path)
                    latest = _latest(lease.output)
                seen = latest
            except OSError:
                continue  # a lease outlives several touches that failed

    def _is_over(self) -> bool:
        with _keeping:
            over = not _uses[self._lease]
            if over:
                del _uses[self._lease]
                _keepers.pop(self._lease, None)
            return over

    def _leave(self) -> None:
        with _keeping:
            _keepers.pop(self._lease, None)


_keeping = threading.Lock()
_uses: Counter[Lease] = Counter()
"""How much is under way in this process that a lease is kept for."""
_keepers: dict[Lease, _Keeper] = {}


def is_locked(output: str) -> bool:
    """Whether a run has the lock of an output, or had it and did not come to its end."""
    return _latest(output) is not None


@dataclass(frozen=True)
class Holder:
    """Who has the lock of an output, as its file says.

    content: run_id, host, taken; process, of a run that ends with it; job, the name and place of one that was left.
    """

    output: str
    file: files.FileInfo
    content: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        return self.content.get("run_id", "")

    @property
    def lease(self) -> Lease:
        """The lease of that run."""
        return Lease(self.output, self.run_id, _number(self.file), "job" in self.content)

    @property
    def silent_for(self) -> float:
        """Seconds without a touch after which it counts as dead."""
        return self.content.get("silent_for", LOST_AFTER)

    @property
    def is_gone(self) -> bool:
        """Whether it was a process that this one would see, and does not."""
        return _is_gone(dict(self.content))

    def __str__(self) -> str:
        return _in_words(dict(self.content))


def holder_of(output: str) -> Holder | None:
    """Who has the lock of an output now."""
    latest = _latest(output)
    content = _holder(latest) if latest else {}
    return Holder(output, latest, content) if latest and content else None


def acquire(
    output: str,
    run_id: str,
    in_process: bool = True,
    on_wait: Callable[[str], None] = lambda message: None,
    job: Mapping[str, Any] | None = None,
    over: str | None = None,
) -> Lease:
    """Take the lock of an output; a lease whose holder gives no sign of life is taken over.

    Args:
      output: the output folder.
      run_id: who takes it.
      in_process: the run ends with this process, so that other processes of this machine may look whether it is there.
      on_wait: is told, once, that the holder of a lease is being watched; that takes `LOST_AFTER` seconds at most, and
        `SILENT_WHEN_LEFT` where the launcher has left the run.
      job: the run is left to a cluster, which knows it by this; plain JSON values.
      over: a run that is known to have ended.

    Raises:
      OutputError: another run has the lock, and is alive.
    """
    content: dict[str, Any] = {"run_id": run_id, "host": socket.gethostname(), "taken": utc_now()}
    if in_process:
        content["process"] = _this_process()
    if job is not None:
        content |= {"job": dict(job), "silent_for": SILENT_WHEN_LEFT}
    seen: files.FileInfo | None = None
    since = 0.0
    while True:
        latest = _latest(output)
        holder = _holder(latest) if latest else {}
        if latest and not _is_gone(holder) and not (over and holder.get("run_id") == over):
            if seen is None:
                seen, since = latest, time.monotonic()
                seconds = holder.get("silent_for", LOST_AFTER)
                on_wait(
                    f"{output} is locked by {_in_words(holder)}; watching for up to {seconds:.0f} s whether that run is alive"
                )
            elif latest != seen and latest.path == seen.path:
                raise OutputError(
                    f"output.path: {output} is locked by {_in_words(holder)}, which is alive; wait until it is done, "
                    "or stop it"
                )
            elif latest != seen:
                seen, since = latest, time.monotonic()
            if time.monotonic() - since < holder.get("silent_for", LOST_AFTER):
                time.sleep(min(_LOOK_EVERY, LOST_AFTER / 10))
                continue
        number = _number(latest) + 1 if latest else 1
        if files.create(_path(output, number), json.dumps(content).encode()):
            files.delete(_path(output, older) for older in range(max(1, number - 3), number))
            return Lease(output, run_id, number, job is not None)


def _path(output: str, number: int) -> str:
    return temporary(output, LOCK, f"{number:06d}.json")


def _all(output: str) -> list[files.FileInfo]:
    found = files.list_folder(temporary(output, LOCK))
    return sorted((info for info in found if info.path.endswith(".json")), key=_number)


def _latest(output: str) -> files.FileInfo | None:
    found = _all(output)
    return found[-1] if found else None


def _number(info: files.FileInfo) -> int:
    return int(files.base_name(info.path).partition(".")[0])


def _holder(info: files.FileInfo) -> dict[str, Any]:
    """What a lock file says; nothing where it is gone by now."""
    while True:
        try:
            return json.loads(files.read_bytes(info.path))
        except OSError as error:
            if error.errno == errno.ESTALE:
                continue  # touched while it was read, which on gs is another version of it
            if files.exists(info.path):
                raise
            return {}


def _in_words(holder: dict[str, Any]) -> str:
    if not holder:
        return "another run"
    process = f", process {holder['process']['pid']}" if "process" in holder else ""
    job = f", job {holder['job']['name']}" if "job" in holder else ""
    return f"run {holder['run_id']} ({holder['host']}{process}{job}, since {holder['taken']})"


def _this_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "started": _started(os.getpid()), "machine": _machine()}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process that this one would see, and does not."""
    process = holder.get("process")
    if not process or process["machine"] is None or process["machine"] != _machine():
        return False
    return _started(process["pid"]) != process["started"]


def _machine() -> str | None:
    """Where process numbers mean the same: one boot of one machine, one namespace of processes. None: not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process was started, in ticks since boot; None if it is gone, or dead and not yet buried."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
