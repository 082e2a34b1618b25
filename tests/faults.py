"""Faults at the N-th call that changes a filesystem: the end of the process, an error, or another run in between."""

from __future__ import annotations

import builtins
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DISK = [(os, name) for name in ("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir", "utime")]
"""What pathlib, shutil and Beam's local filesystem come down to; files that are opened for writing are counted too."""

_MADE_UP = re.compile(r"\.?[0-9a-f]{32}")


class Killed(BaseException):
    """Stands for the end of the process: nothing in the code handles it, and all threads meet it."""


class Calls:
    """Counts the calls that change files and names each; at number `at` of them it acts.

    act: raises, or does something and returns; then the call goes on, or is left out where `act` returned False.
    end_at: by the name of a call, whether the process ends before it.
    after: act when the call was done.
    dead: whether all calls after that one fail as well, as in a process that has ended.
    """

    def __init__(self, at: int = 0, act: Callable[[], Any] = lambda: None, after: bool = False, dead: bool = False):
        self.names: list[str] = []
        self.end_at: Callable[[str], bool] = lambda name: False
        self._at, self._act, self._after, self._dead = at, act, after, dead
        self._lock = threading.RLock()
        self._busy = False

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            if self._busy:  # what `act` does is none of ours
                return call()
            self.names.append(name)
            number = len(self.names)
            if self.end_at(name):
                self._at, self._act, self._dead = number, _end, True
        if self._dead and number > self._at > 0:
            raise Killed
        if number == self._at and not self._after:
            self._fire()
        result = call()
        if number == self._at and self._after:
            self._fire()
        return result

    def _fire(self) -> None:
        self._busy = True
        try:
            self._act()
        finally:
            self._busy = False


def _end() -> None:
    raise Killed


def requests_of(store: str) -> list[tuple[Any, str]]:
    """The calls of a client that may change an object store."""
    from pipeline.stores.google import GoogleStorage
    from pipeline.stores.s3 import S3

    names = ("send", "create", "replace", "copy", "delete_one", "delete_unchanged")
    return [({"gs": GoogleStorage, "s3": S3}[store], name) for name in names]


def in_short(name: str, folder: str) -> str:
    """The name of a call, the same in every run: paths below a folder, and a star for each name that was made up."""
    return _MADE_UP.sub("*", name.replace(f"{folder}/", "").replace(folder, "."))


@contextmanager
def watched(calls: Calls, targets: list[tuple[Any, str]], writes: bool = False) -> Iterator[Calls]:
    """Let `calls` see every call of these functions, and every file that is opened for writing, while this is open.

    writes: each write to such a file is a call as well, and reaches the disk at once.
    """
    real = [(owner, name, getattr(owner, name)) for owner, name in targets]
    opens = [(module, module.open) for module in (builtins, io)]
    for owner, name, function in real:
        setattr(owner, name, _seen(calls, name, function))
    for module, function in opens:
        module.open = _open_seen(calls, function, writes)  # type: ignore[attr-defined]
    try:
        yield calls
    finally:
        for owner, name, function in real:
            setattr(owner, name, function)
        for module, function in opens:
            module.open = function  # type: ignore[attr-defined]


def _seen(calls: Calls, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        named = (getattr(value, "path", value) for value in args)
        places = " ".join(str(value) for value in named if isinstance(value, (str, os.PathLike, list)))
        return calls(f"{name} {places}", lambda: function(*args, **options))

    return call


def _open_seen(calls: Calls, function: Callable[..., Any], writes: bool) -> Callable[..., Any]:
    def call(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if not isinstance(file, (str, os.PathLike)) or not set(mode) & set("wxa+"):
            return function(file, mode, *args, **options)
        opened = calls(f"open {file}", lambda: function(file, mode, *args, **options))
        return _SeenFile(calls, f"write {file}", opened) if writes else opened

    return call


class _SeenFile:
    """A file that is open for writing."""

    def __init__(self, calls: Calls, name: str, file: Any):
        self._calls, self._name, self._file = calls, name, file

    def write(self, data: Any) -> Any:
        def write_through() -> Any:
            written = self._file.write(data)
            self._file.flush()
            return written

        return self._calls(self._name, write_through)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _SeenFile:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()
