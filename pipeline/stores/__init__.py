"""Where files lie that are not on a local disk, one module a kind of store.

Amazon S3 and Google Cloud Storage are reached through their own clients, and all else through Beam's filesystems: those
do not tell etags, cannot create on condition, and let errors of copies on S3 pass without a word.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from pipeline.errors import JobError
from pipeline.patterns import scheme

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_EXTRAS = {"gs": "gcs", "s3": "aws", "azfs": "azure"}


class FileInfo(NamedTuple):
    """A file as it is listed.

    modified: seconds since 1970, or None where the filesystem does not tell.
    etag: what the store calls this version of the bytes, or None where it has no name for it.
    """

    path: str
    bytes: int
    modified: float | None
    etag: str | None = None


class Store(Protocol):
    """What `pipeline.files` asks of a filesystem that is not local.

    Errors are OSErrors: FileNotFoundError, PermissionError, and ConnectionError for a store that could not be reached or
    was too busy for about a minute; until then every call is tried again.
    """

    def info(self, path: str) -> FileInfo | None:
        """The file of that name; None if there is none."""

    def match(self, pattern: str) -> list[FileInfo]:
        """Files by Beam's pattern, or of that very name."""

    def list_folder(self, folder: str) -> list[FileInfo]:
        """Files in a folder, without those in folders below it."""

    def open_read(self, path: str) -> BinaryIO:
        """One version of a file, to read and to seek in."""

    def open_write(self, path: str) -> BinaryIO:
        """A file that appears whole when it is closed, and not at all when its `with` block fails."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless it is there; whether this call made it."""

    def touch(self, path: str) -> None:
        """Write a file anew with the bytes it has."""

    def copy(self, source: str, target: str) -> None:
        """Copy a file within the store, over an older target."""

    def move(self, source: str, target: str) -> None:
        """Move a file within the store, over an older target."""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files by name, or not at all if they are gone."""

    def delete_unchanged(self, info: FileInfo) -> bool:
        """Delete a file if it is still the one that was listed."""

    def delete_folder(self, path: str) -> None:
        """Delete all below a folder."""

    def make_folder(self, path: str) -> None:
        """Make a folder where there are any."""


def store_of(path: str) -> Store:
    """The store that a path with a scheme lies in.

    Raises:
      JobError: nothing here reaches it; names the extra to install, or the option that is missing.
    """
    kind = scheme(path)
    try:
        if kind == "gs":
            from pipeline.stores.google import GoogleStorage

            return GoogleStorage()
        if kind == "s3":
            from pipeline.stores.s3 import S3

            return S3()
        if kind == "azfs":
            import azure.storage.blob  # noqa: F401  Beam misses it only when it is asked for a file
    except ImportError as error:
        remedy = f"pip install 'estimator-score[{_EXTRAS[str(kind)]}]'"
        raise JobError(f"nothing here reaches {path}; install an extra: {remedy}") from error
    from apache_beam.io.filesystem import FileSystem
    from apache_beam.io.filesystems import FileSystems

    if all(filesystem.scheme() != kind for filesystem in FileSystem.get_all_subclasses()):
        raise JobError(f"nothing here reaches {path}; no filesystem has that scheme")
    from pipeline.stores.beam import BeamStore

    beam_options()
    try:
        return BeamStore(FileSystems.get_filesystem(path))
    except ValueError as error:
        raise JobError(f"{path}: Beam does not reach it: {error}") from error


def beam_options() -> PipelineOptions:
    """The options of the run, which a launcher and Beam's workers set; Beam's defaults in commands that take none."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = FileSystems._pipeline_options
    if options is None:
        options = PipelineOptions([])
        FileSystems.set_options(options)
    return options


def not_found(path: str) -> FileNotFoundError:
    """The error of the local filesystem for the same."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
