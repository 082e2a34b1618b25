"""The folder where the processes of one machine share what they fetched, and the lock by which one of them fetches it."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import files
from pipeline.errors import ScoringError

UNUSED_SECONDS = 7 * 24 * 3600
"""What no process has asked for in this time is deleted by the next one that comes here."""
_LOCK = ".lock"


def machine_cache() -> str:
    """The folder of this user below TMPDIR. Nobody else may write to it: models are read from it.

    Raises:
      ScoringError: it belongs to another user, or others may write to it.
    """
    path = Path(tempfile.gettempdir()) / f"estimator-score-{os.geteuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ScoringError(
            f"{path} has to be a folder of this user that nobody else may open (mode 700): files of models are kept there. "
            "Delete it, or set TMPDIR to another folder"
        )
    _forget_unused(path)
    return str(path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Be alone with `path` among the processes and threads that ask for the same; it need not be there."""
    files.make_folder(path.rpartition("/")[0])
    with Path(path + _LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        mark_used(path)
        yield


def break_locks(folder: str) -> None:
    """Let no process that stands still hold what lies in a local folder, which is that of the caller alone by now."""
    if files.is_local(folder):
        for lock in Path(folder).glob(f"*{_LOCK}"):
            lock.unlink(missing_ok=True)


def mark_used(path: str) -> None:
    """Note that a folder is wanted now."""
    with suppress(PermissionError):  # no folder of the cache, but one that another user staged
        Path(path + _LOCK).touch()


def _forget_unused(cache: Path) -> None:
    for lock in cache.glob(f"*{_LOCK}"):
        if not _is_old(lock):
            continue
        with lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # somebody fetches it
            if _is_old(lock):
                files.delete_folder(str(lock).removesuffix(_LOCK))


def _is_old(lock: Path) -> bool:
    return time.time() - lock.stat().st_mtime > UNUSED_SECONDS
