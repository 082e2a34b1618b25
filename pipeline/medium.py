"""How the files of an output are changed by a run that may have lost the output without knowing it.

On local disks whatever is moved or deleted goes through the folder of the run, and a successor first renames that
folder: a run that wakes up between asking for its lease and acting finds no file to move and no place to put one.
Stores have no rename; there each request asks for the lease first, deletes only the very file that was listed, and
copies from `_temporary`, where a successor that has published left nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline import files
from pipeline.files import FileInfo
from pipeline.lease import LOCK, Lease
from pipeline.plan import temporary

INTENT = "intent.json"
PUBLISH = "publish"
_DELETED_AT_ONCE = 100
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Move(NamedTuple):
    """A file on its way to its final name; `bytes` tells whether it has arrived."""

    source: str
    target: str
    bytes: int


class Medium(Protocol):
    """How the files of an output are changed by a run that may have lost it without knowing."""

    lease: Lease

    def open(self) -> None: ...

    def path(self, name: str) -> str: ...

    def write_once(self, name: str, data: bytes) -> None: ...

    def take_over(self) -> list[Medium]: ...

    def retire(self, info: FileInfo) -> None: ...

    def move(self, move: Move) -> None: ...

    def copy(self, move: Move) -> None: ...

    def write(self, data: bytes, target: str) -> None: ...

    def clear(self) -> None: ...

    def unlock(self) -> None: ...

    def remove(self) -> None: ...


def begun_intents(output: str) -> list[str]:
    """Paths of the intents of commits that have begun and not come to their end: an intent goes last, after the lock."""
    return [info.path for info in files.match(temporary(output, PUBLISH, "*", INTENT))]


def medium_of(lease: Lease) -> Medium:
    return Disk(lease, lease.run_id) if files.is_local(lease.output) else Store(lease, lease.run_id)


class Disk:
    """A local output: nothing is changed but by a rename out of, or into, the folder of the run."""

    def __init__(self, lease: Lease, folder: str):
        self.lease = lease
        self._folder = Path(temporary(lease.output, PUBLISH, folder))

    def open(self) -> None:
        for name in ("moved", "retired"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self.lease.check()

    def path(self, name: str) -> str:
        return str(self._folder / name)

    def write_once(self, name: str, data: bytes) -> None:
        written = self._folder / uuid.uuid4().hex
        written.write_bytes(data)
        if not (self._folder / name).exists():  # two attempts of one run write the same but for names of attempts
            written.rename(self._folder / name)

    def take_over(self) -> list[Medium]:
        begun: list[Medium] = []
        root = self._folder.parent
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            taken = Disk(self.lease, uuid.uuid4().hex)
            with suppress(FileNotFoundError):
                folder.rename(taken._folder)
            if Path(taken.path(INTENT)).exists():
                begun.append(taken)
            else:
                shutil.rmtree(taken._folder, ignore_errors=True)
        return begun

    def retire(self, info: FileInfo) -> None:
        self._take_away(Path(info.path))

    def move(self, move: Move) -> None:
        source, target = Path(move.source), Path(move.target)
        staged = self._folder / "moved" / uuid.uuid4().hex
        try:
            _second_name(source, staged)
        except FileNotFoundError:
            if source.exists() or not self._folder.exists() or not target.exists():
                raise
            if target.stat().st_size != move.bytes:
                raise
            return  # an attempt before this one has moved it
        target.parent.mkdir(parents=True, exist_ok=True)
        self._rename(staged, target)

    def copy(self, move: Move) -> None:
        staged = self._folder / "moved" / uuid.uuid4().hex
        shutil.copyfile(move.source, staged)
        Path(move.target).parent.mkdir(parents=True, exist_ok=True)
        self._rename(staged, Path(move.target))

    def write(self, data: bytes, target: str) -> None:
        written = self._folder / uuid.uuid4().hex
        written.write_bytes(data)
        self._rename(written, Path(target))

    def clear(self) -> None:
        root, own = Path(temporary(self.lease.output)), Path(self.lease.path)
        for path in [*root.iterdir(), *own.parent.iterdir()]:
            if path not in (root / LOCK, root / PUBLISH, own):
                self._take_away(path)

    def unlock(self) -> None:
        if self._folder.is_dir():
            with suppress(FileNotFoundError):  # a successor has taken the folder
                self._take_away(Path(self.lease.path))

    def remove(self) -> None:
        if not self._folder.is_dir():
            return
        # The intent goes last: as long as it is there, the next run knows that something is left to clean
        for path in sorted(self._folder.iterdir(), key=lambda path: path.name == INTENT):
            while path.exists():
                with suppress(FileNotFoundError):  # another attempt of this run is at it as well
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in (self._folder, self._folder.parent):
            files.delete_empty_folder(str(folder))

    def _take_away(self, path: Path) -> None:
        try:
            self._rename(path, self._folder / "retired" / uuid.uuid4().hex)
        except FileNotFoundError:
            if path.exists() or not self._folder.exists():
                raise

    def _rename(self, source: Path, target: Path) -> None:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self.lease.check()  # errors.rejected_path on another disk, which no rename reaches
            files.move(str(source), str(target))


def _second_name(source: Path, staged: Path) -> None:
    try:
        os.link(source, staged)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        source.rename(staged)


class Store:
    """An output in an object store, where a moved file is copied and nothing can be renamed out of reach."""

    def __init__(self, lease: Lease, folder: str):
        self.lease = lease
        self._folder = temporary(lease.output, PUBLISH, folder)

    def open(self) -> None:
        pass  # stores have no folders

    def path(self, name: str) -> str:
        return files.join(self._folder, name)

    def write_once(self, name: str, data: bytes) -> None:
        self.lease.check()
        files.create(self.path(name), data)

    def take_over(self) -> list[Medium]:
        return [Store(self.lease, path.split("/")[-2]) for path in begun_intents(self.lease.output)]

    def retire(self, info: FileInfo) -> None:
        self.lease.check()
        files.delete_unchanged(info)

    def move(self, move: Move) -> None:
        self.lease.check()
        try:
            files.move(move.source, move.target)
        except OSError:
            if files.exists(move.source) or not files.exists(move.target) or files.size(move.target) != move.bytes:
                raise

    def copy(self, move: Move) -> None:
        self.lease.check()
        files.copy(move.source, move.target)

    def write(self, data: bytes, target: str) -> None:
        # By way of `_temporary`, as the parts: a successor has taken the source away by the time it has published
        staged = self.path(files.base_name(target))
        self.lease.check()
        files.write_bytes(staged, data)
        self.move(Move(staged, target, len(data)))

    def clear(self) -> None:
        own = tuple(temporary(self.lease.output, name) + "/" for name in (LOCK, PUBLISH))
        self._delete(info for info in files.match(temporary(self.lease.output, "**")) if not info.path.startswith(own))

    def unlock(self) -> None:
        pass  # `Lease.release` deletes the very lock that it has looked at

    def remove(self) -> None:
        found = files.match(files.join(self._folder, "**"))
        self._delete(sorted(found, key=lambda info: files.base_name(info.path) == INTENT))

    def _delete(self, found: Iterable[FileInfo]) -> None:
        paths = [info.path for info in found]
        for start in range(0, len(paths), _DELETED_AT_ONCE):
            self.lease.check()
            files.delete(paths[start : start + _DELETED_AT_ONCE])
