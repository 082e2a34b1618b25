"""Any other filesystem that Beam knows: HDFS, Azure Blob Storage, and what users register."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import BinaryIO, cast

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileSystem

from pipeline.stores import FileInfo, not_found
from pipeline.stores.streams import Upload


class BeamStore:
    """A filesystem through Beam. It retries what Beam retries, and knows no conditions."""

    def __init__(self, filesystem: FileSystem):
        self._filesystem = filesystem

    def info(self, path: str) -> FileInfo | None:
        if not self._filesystem.exists(path):
            return None
        found = self._filesystem.metadata(path)
        return FileInfo(path, found.size_in_bytes, found.last_updated_in_seconds or None)

    def match(self, pattern: str) -> list[FileInfo]:
        found = {
            file.path: FileInfo(file.path, file.size_in_bytes, file.last_updated_in_seconds or None)
            for result in self._filesystem.match([pattern])
            for file in result.metadata_list
            if not file.path.endswith("/")
        }
        if any(character in pattern for character in "*?[") and (named := self.info(pattern)):
            found[pattern] = named
        return list(found.values())

    def list_folder(self, folder: str) -> list[FileInfo]:
        return self.match(folder.rstrip("/") + "/*")

    def open_read(self, path: str) -> BinaryIO:
        return self._filesystem.open(path, compression_type=CompressionTypes.UNCOMPRESSED)

    def open_write(self, path: str) -> BinaryIO:
        return cast(BinaryIO, Upload(lambda file: self._send(path, file)))

    def create(self, path: str, data: bytes) -> bool:
        """Looks first and then writes, so two callers at the same moment may both be told yes."""
        if self._filesystem.exists(path):
            return False
        self._write(path, data)
        return True

    def touch(self, path: str) -> None:
        if not self._filesystem.exists(path):
            raise not_found(path)
        with self.open_read(path) as file:
            data = file.read()
        self._write(path, data)

    def copy(self, source: str, target: str) -> None:
        self._filesystem.copy([source], [target])

    def move(self, source: str, target: str) -> None:
        if self._filesystem.has_dirs():  # HDFS does not rename over a file
            self.delete([target])
        self._filesystem.rename([source], [target])

    def delete(self, paths: Iterable[str]) -> None:
        paths = list(paths)
        try:
            if paths:
                self._filesystem.delete(paths)
        except BeamIOError:
            if any(self._filesystem.exists(path) for path in paths):
                raise

    def delete_unchanged(self, info: FileInfo) -> bool:
        """Looks first and then deletes."""
        if self.info(info.path) != info:
            return False
        self.delete([info.path])
        return True

    def delete_folder(self, path: str) -> None:
        self.delete(info.path for info in self.match(path.rstrip("/") + "/**"))
        if self._filesystem.has_dirs() and self._filesystem.exists(path):
            self._filesystem.delete([path])

    def make_folder(self, path: str) -> None:
        if self._filesystem.has_dirs() and not self._filesystem.exists(path):
            self._filesystem.mkdirs(path)

    def _write(self, path: str, data: bytes) -> None:
        with self.open_write(path) as file:
            file.write(data)

    def _send(self, path: str, file: BinaryIO) -> None:
        try:
            with self._filesystem.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as target:
                shutil.copyfileobj(file, target)
        except OSError:
            self.delete([path])
            raise
