"""What stores of objects have in common: no folders, an object appears whole, and a move is a copy and a delete."""

from __future__ import annotations

import errno
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, cast

from apache_beam.io.filesystem import FileSystem

from pipeline.stores import FileInfo, not_found
from pipeline.stores.streams import Upload, reader

TRANSIENT = (408, 429, 500, 502, 503, 504)
"""HTTP codes of a store that may answer if it is asked again."""

_DELETED_AT_ONCE = 8
_PATH = re.compile(r"\w+://([^/]+)/(.*)", re.DOTALL)


class ObjectStore(ABC):
    """A store of objects in buckets, by names that may hold slashes."""

    @abstractmethod
    def info(self, path: str) -> FileInfo | None: ...

    @abstractmethod
    def objects(self, prefix: str, below: bool) -> Iterator[FileInfo]:
        """Objects whose path begins with `prefix`; without `below`, those with no further slash."""

    @abstractmethod
    def read(self, info: FileInfo, start: int, end: int) -> bytes:
        """A range of the version that was listed."""

    @abstractmethod
    def send(self, path: str, file: BinaryIO) -> None:
        """Write an object."""

    @abstractmethod
    def create(self, path: str, data: bytes) -> bool: ...

    @abstractmethod
    def replace(self, info: FileInfo, data: bytes) -> None:
        """Write an object over the version that was listed; FileNotFoundError if it is no longer there."""

    @abstractmethod
    def copy(self, source: str, target: str) -> None: ...

    @abstractmethod
    def delete_one(self, path: str) -> None: ...

    @abstractmethod
    def delete_unchanged(self, info: FileInfo) -> bool: ...

    def match(self, pattern: str) -> list[FileInfo]:
        prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        if prefix == pattern:
            info = self.info(pattern)
            return [info] if info else []
        matches = re.compile(FileSystem.translate_pattern(pattern)).match
        return [
            info
            for info in self.objects(prefix, below=True)
            if (info.path == pattern or matches(info.path)) and not _stands_for_folder(info)
        ]

    def list_folder(self, folder: str) -> list[FileInfo]:
        return [info for info in self.objects(folder.rstrip("/") + "/", below=False) if not _stands_for_folder(info)]

    def open_read(self, path: str) -> BinaryIO:
        info = self.info(path)
        if info is None:
            raise not_found(path)
        return reader(info.bytes, lambda start, end: self.read(info, start, end))

    def open_write(self, path: str) -> BinaryIO:
        return cast(BinaryIO, Upload(lambda file: self.send(path, file)))

    def touch(self, path: str) -> None:
        info = self.info(path)
        if info is None:
            raise not_found(path)
        self.replace(info, self.read(info, 0, info.bytes))

    def move(self, source: str, target: str) -> None:
        self.copy(source, target)
        self.delete_one(source)

    def delete(self, paths: Iterable[str]) -> None:
        with ThreadPoolExecutor(_DELETED_AT_ONCE) as pool:
            for _ in pool.map(self.delete_one, paths):
                pass

    def delete_folder(self, path: str) -> None:
        self.delete(info.path for info in self.objects(path.rstrip("/") + "/", below=True))

    def make_folder(self, path: str) -> None:
        return


def split(path: str) -> tuple[str, str]:
    """Bucket and name of an object, or of a prefix of names."""
    parts = _PATH.fullmatch(path)
    if parts is None:
        raise OSError(errno.EINVAL, "no path of the form SCHEME://BUCKET/NAME", path)
    return parts[1], parts[2]


def store_error(path: str, code: int | None, reason: str) -> OSError:
    """The error for an HTTP code, or for None: no answer at all. `reason` goes into the message."""
    if code == 404:
        return FileNotFoundError(errno.ENOENT, f"not found ({reason})", path)
    if code in (401, 403):
        return PermissionError(errno.EACCES, f"not allowed ({reason})", path)
    if code == 412:
        return OSError(errno.ESTALE, "it was replaced or deleted meanwhile", path)
    if code is None or code in TRANSIENT:
        return ConnectionError(errno.ECONNABORTED, f"the store did not answer in spite of retries ({reason})", path)
    return OSError(errno.EIO, f"the store refused ({code}, {reason})", path)


def _stands_for_folder(info: FileInfo) -> bool:
    """Consoles of stores keep empty objects in place of folders."""
    return info.path.endswith("/")
