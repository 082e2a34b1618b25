"""An object store in the memory of this process, known to Beam, and `root`: a folder on every kind of filesystem."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem
from object_stores import STORES, new_bucket


class MemoryFileSystem(FileSystem):
    """An object store: no folders, an object appears when it is closed, a rename is a copy and a delete."""

    objects: ClassVar[dict[str, tuple[bytes, float]]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "memory"

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        raise AssertionError("a store without folders was asked to make one")

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        yield from (self.metadata(path) for path in list(self.objects) if path.startswith(dir_or_prefix))

    def create(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        objects = self.objects

        class Writer(io.BytesIO):
            def close(self) -> None:
                if not self.closed:
                    objects[path] = (self.getvalue(), time.time())
                super().close()

        return Writer()

    def open(self, path: str, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._object(path)[0])

    def copy(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            self.objects[target] = self._object(source)

    def rename(self, source_file_names: list[str], destination_file_names: list[str]) -> None:
        self.copy(source_file_names, destination_file_names)
        for source in source_file_names:
            del self.objects[source]

    def exists(self, path: str) -> bool:
        return path in self.objects

    def size(self, path: str) -> int:
        return len(self._object(path)[0])

    def last_updated(self, path: str) -> float:
        return self._object(path)[1]

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            self.objects.pop(path, None)

    def _object(self, path: str) -> tuple[bytes, float]:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]


KINDS = ["local", "store"]


def new_folder(kind: str, tmp_path: Path) -> str:
    """A folder that does not exist yet, on either kind of filesystem."""
    MemoryFileSystem.objects.clear()
    return str(tmp_path / "root") if kind == "local" else "memory://bucket/root"


@pytest.fixture(params=[*KINDS, *STORES])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param in STORES:
        with new_bucket(request.param, request) as (bucket, _):
            yield f"{bucket}/root"
    else:
        yield new_folder(request.param, tmp_path)
