"""The user's code on its way to workers: one archive staged with the job, or the same paths on a worker's own disk.

Beam's boot program, which starts the workers of every runner that stages files, leaves what was staged in
SEMI_PERSISTENT_DIRECTORY/staged. Nothing of the archive is installed: a worker unpacks it, and proves that each file is
the one that the launcher recorded.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import progress
from pipeline.code import add_user_code, source_files
from pipeline.errors import JobError
from pipeline.plan import settings_digest
from pipeline.staging import file_digest

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

STAGED_ONLY_BY_BOOT = (
    "code: reaches the workers of a pool that starts Beam's boot program, as the worker image does; those of another pool "
    "(--environment_type=EXTERNAL) read it on their own disk, under the same paths as here"
)
"""What a launcher says of workers that are there already."""


@dataclass(frozen=True)
class Shipment:
    """`code:` of a job as the launcher has it; it travels to the workers.

    entries: absolute paths, in the order of the job file. digests: path -> SHA-256, in hex, of every file of them.
    """

    entries: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, code: Sequence[str], recorded: Mapping[str, str] | None = None) -> Shipment:
        """The shipment of `code:`, with the digests that were recorded of its files, and maybe of others; None: made now."""
        entries = tuple(os.path.abspath(entry) for entry in code)
        if recorded is None:
            recorded = {path: file_digest(path) for path in source_files(entries, ())}
        inside = {path: digest for path, digest in recorded.items() if any(_lies_in(path, entry) for entry in entries)}
        return cls(entries, inside)

    @property
    def name(self) -> str:
        """Of the archive; that of another content is another."""
        return f"code-{settings_digest({name: self.digests[path] for name, path in self._members()})[:16]}.zip"

    @contextmanager
    def archived(self) -> Iterator[str]:
        """The path of the archive, which is there while the context is open.

        Raises:
          JobError: a file is not any more what was recorded.
        """
        with tempfile.TemporaryDirectory() as folder:
            archive = os.path.join(folder, self.name)
            with zipfile.ZipFile(archive, "w") as members:
                for name, path in self._members():
                    content = _read(path)
                    if content is None or hashlib.sha256(content).hexdigest() != self.digests[path]:
                        raise JobError(f"code: {path} was changed while the run was launched; start it again")
                    members.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            yield archive

    @contextmanager
    def staged(self, options: PipelineOptions) -> Iterator[None]:
        """Let Beam stage the archive with the jobs that are submitted under these options while the context is open."""
        from apache_beam.options.pipeline_options import PortableOptions, SetupOptions  # late: `check` needs no Beam

        if not self.entries:
            yield
            return
        if options.view_as(PortableOptions).environment_type == "EXTERNAL":
            progress.current.tell(STAGED_ONLY_BY_BOOT)
        setup = options.view_as(SetupOptions)
        given = setup.files_to_stage
        with self.archived() as archive:
            setup.files_to_stage = [*(given or ()), archive]
            try:
                yield
            finally:
                setup.files_to_stage = given

    def add(self) -> None:
        """Make the code importable in this process: as it was staged, or from this machine's own disk.

        Raises:
          JobError: it was not staged here and a file is not on this disk, or is another.
        """
        unpacked = self._unpack()
        if unpacked is None:
            self._check({path: path for path in self.digests}, "")
            add_user_code(self.entries)
            return
        self._check({path: str(unpacked / name) for name, path in self._members()}, f"{unpacked}: ")
        places = [_on_path(unpacked / f"{number}" / Path(entry).name) for number, entry in enumerate(self.entries)]
        # First, for the launch has shown that these names hide nothing: a worker may start in a folder that has them too.
        sys.path[:0] = [place for place in places if place not in sys.path]
        importlib.invalidate_caches()

    def _members(self) -> Iterator[tuple[str, str]]:
        """Name in the archive, and path, of each file; the entry's number keeps apart what has one name."""
        for number, entry in enumerate(self.entries):
            for path in sorted(self.digests):
                if _lies_in(path, entry):
                    yield f"{number}/{os.path.relpath(path, os.path.dirname(entry))}", path

    def _unpack(self) -> Path | None:
        """The folder of what was staged, unpacked once for all processes of a machine; None: nothing was staged here."""
        staged = os.environ.get("SEMI_PERSISTENT_DIRECTORY")
        archive = Path(staged or "", "staged", self.name)
        if not staged or not archive.is_file():
            return None
        folder = archive.with_suffix("")
        if not folder.is_dir():
            partial = tempfile.mkdtemp(dir=archive.parent)
            with zipfile.ZipFile(archive) as members:
                members.extractall(partial)
            try:
                os.rename(partial, folder)
            except OSError:  # another process was faster
                shutil.rmtree(partial)
        return folder

    def _check(self, here: Mapping[str, str], place: str) -> None:
        for path, found in here.items():
            content = _read(found)
            if content is None:
                raise JobError(
                    f"code: {place}{path} is not on the worker {platform.node()}. It was not staged there, so the same "
                    "path has to be on the worker's own disk: copy it, or use a worker image that starts Beam's boot program"
                )
            if hashlib.sha256(content).hexdigest() != self.digests[path]:
                raise JobError(
                    f"code: {place}{path} on the worker {platform.node()} is another file than the launcher's; copy it again"
                )


def _on_path(entry: Path) -> str:
    """What goes on `sys.path` for an entry, as `pipeline.code.add_user_code` has it."""
    is_module = entry.suffix == ".py" or (entry / "__init__.py").is_file()
    return str(entry.parent if is_module else entry)


def _lies_in(path: str, entry: str) -> bool:
    return path == entry or path.startswith(entry + os.sep)


def _read(path: str) -> bytes | None:
    """The content of a file; None: it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return None
