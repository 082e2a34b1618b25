"""Copies of what a run reads from production: whatever happens there later, the run does not notice.

    STAGING/<key>/files.json      names, sizes and digests of the files, written last
    STAGING/<key>/content/...     the files

STAGING is `model.staging`, or `OUTPUT/_temporary/staging`. The launcher copies the checkpoint, the transform and the files
that the graph reads (pipeline/artifacts.py says which); every process then reads the copies, and TensorFlow never opens
a remote path. `<key>` is a digest of what is copied, so runs that share a staging folder share a copy, and a restart
finds its own. A copy that is half made has no `files.json`; one that does not match it is damaged. Neither is used: it
is made again. Who uses a copy knows the digest of its `files.json` from the launcher, and so proves every byte of it.

A copy on a local disk, or on one that machines share, is used where it is. One on an object store is fetched to the
cache of the machine (pipeline/machine_cache.py) by the first process that needs it, while the others wait for a lock.
The launcher fills the cache first and uploads from there, so it reads production once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import files
from pipeline.errors import ModelError
from pipeline.machine_cache import locked, machine_cache, mark_used

MANIFEST = "files.json"
CONTENT = "content"
_CHUNK = 8 << 20
_KEY = re.compile(r"[0-9a-f]{32}")


class ChangedError(ModelError):
    """A file of production is no longer what it was a moment ago: something writes there."""


class DamagedError(ModelError):
    """A copy is gone, or is not what the launcher made."""


class Source(NamedTuple):
    """A file to copy. sha256: of its content, in hex; None where `prove` of `stage` tells whether the copy is good."""

    path: str
    sha256: str | None = None


Sources = Mapping[str, Source | bytes]
Prove = Callable[[str], None]


def _believe(folder: str) -> None:
    """For sources that have a digest each."""


@dataclass(frozen=True)
class Staged:
    """A copy as the launcher made it: its folder, and the digest of its `files.json`. It travels to the workers."""

    folder: str
    digest: str


@dataclass(frozen=True)
class Copy:
    """A copy on this machine. folder: of its content, on a local path."""

    staged: Staged
    folder: str


def stage(
    staging: str,
    sources: Sources,
    identity: str = "",
    prove: Prove = _believe,
) -> Copy:
    """Copy files to a staging folder, or find the copy that is there.

    Args:
      staging: a folder of any filesystem.
      sources: name in the copy, with slashes for folders -> what to copy, or the content itself.
      identity: what tells the content of sources without a digest.
      prove: called with the folder of what was copied; raises ChangedError where that is not what was meant.

    Raises:
      ChangedError: a source changed while it was copied, or `prove` said so.
      OSError: a source cannot be read, or the folder not written to.
    """
    known = {name: _sha256(source) if isinstance(source, bytes) else source.sha256 for name, source in sources.items()}
    key = _sha256(json.dumps([identity, known], sort_keys=True).encode())[:32]
    if files.is_local(staging):
        folder = files.join(staging, key)
        digest = _made(folder, lambda: sources, known=known, prove=prove)
        mark_used(folder)
        return Copy(Staged(folder, digest), _content(folder))
    here = stage(machine_cache(), sources, identity, prove)
    staged = Staged(files.join(staging, key), here.staged.digest)
    _upload(here.staged.folder, staged.folder)
    return Copy(staged, here.folder)


def fetch(staged: Staged) -> Copy:
    """The copy on this machine: where it is, if it is on a local path, else in the cache of the machine; every byte proved.

    Raises:
      DamagedError: it is gone, or damaged.
    """
    if files.is_local(staged.folder):
        if _checked(staged.folder) != staged.digest:
            raise DamagedError(f"{files.join(staged.folder, MANIFEST)} is not what the launcher wrote")
        return Copy(staged, _content(staged.folder))
    key = files.base_name(staged.folder)
    if not _KEY.fullmatch(key):
        raise DamagedError(f"{staged.folder} is no folder of a copy")
    folder = files.join(machine_cache(), key)
    try:
        _made(folder, lambda: _staged_sources(staged), staged.digest)
    except ChangedError as error:
        raise DamagedError(str(error)) from error
    mark_used(folder)
    return Copy(staged, _content(folder))


def listed_digests(staged: Staged) -> dict[str, str]:
    """Name -> SHA-256, in hex, of each file of a copy, as its `files.json` says."""
    path = files.join(staged.folder, MANIFEST)
    return {name: digest for name, _, digest in _listed(files.read_bytes(path), path)}


def file_digest(path: str) -> str:
    """SHA-256, in hex, of a file of any filesystem."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _made(
    folder: str,
    sources: Callable[[], Sources],
    digest: str | None = None,
    known: Mapping[str, str | None] | None = None,
    prove: Prove = _believe,
) -> str:
    """Make a local copy unless a good one is there; returns the digest of its manifest.

    digest: which it has to be. known: the names that it has to list, each with the digest of the file where that is known.
    """

    def found() -> str | None:
        try:
            there = _checked(folder, known)
        except DamagedError:
            return None
        return there if digest in (None, there) else None

    there = found()
    if there is None:
        with locked(folder):
            there = found() or _make(folder, sources(), prove)
    return there


def _make(folder: str, sources: Sources, prove: Prove) -> str:
    temporary = f"{folder}.tmp"
    files.delete_folder(temporary)  # of a process that was killed
    try:
        listed = [
            _copied(name, source, files.join(temporary, CONTENT, name)) for name, source in sorted(sources.items())
        ]
        prove(_content(temporary))
        manifest = json.dumps({"format_version": 1, "files": listed}, indent=1).encode()
        Path(temporary, MANIFEST).write_bytes(manifest)
        files.delete_folder(folder)
        Path(temporary).rename(folder)
    except BaseException:
        files.delete_folder(temporary)
        raise
    return _sha256(manifest)


def _copied(name: str, source: Source | bytes, target: str) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    files.make_folder(target.rpartition("/")[0])
    with Path(target).open("wb") as writer:
        for chunk in [source] if isinstance(source, bytes) else _chunks(source.path):
            digest.update(chunk)
            size += writer.write(chunk)
    if isinstance(source, Source) and source.sha256 not in (None, digest.hexdigest()):
        raise ChangedError(f"{source.path} is no longer what it was when its digest was taken")
    return {"name": name, "bytes": size, "sha256": digest.hexdigest()}


def _checked(folder: str, known: Mapping[str, str | None] | None = None) -> str:
    """The digest of the manifest of a local copy, when every file is what that says. known: as for `_made`."""
    path = Path(folder, MANIFEST)
    try:
        manifest = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{folder} is gone or was never finished, or this machine cannot reach it") from None
    listed = {name: (size, digest) for name, size, digest in _listed(manifest, str(path))}
    if known is not None:
        found = {name: digest and listed.get(name, ("", ""))[1] for name, digest in known.items()}
        if listed.keys() != known.keys() or found != known:
            raise DamagedError(f"{path} does not list what was staged")
    for name, (size, digest) in listed.items():
        file = Path(_content(folder), name)
        if not file.is_file():
            raise DamagedError(f"{file} is gone")
        if file.stat().st_size != size or file_digest(str(file)) != digest:
            raise DamagedError(f"{file} is not what the launcher copied")
    return _sha256(manifest)


def _staged_sources(staged: Staged) -> Sources:
    path = files.join(staged.folder, MANIFEST)
    if not files.exists(path):
        raise DamagedError(f"{staged.folder} is gone or was never finished")
    manifest = files.read_bytes(path)
    if _sha256(manifest) != staged.digest:
        raise DamagedError(f"{path} is not what the launcher wrote")
    listed = list(_listed(manifest, path))
    there = {info.path: info.bytes for info in files.match(files.join(staged.folder, CONTENT, "**"))}
    for name, size, _ in listed:
        file = files.join(staged.folder, CONTENT, name)
        if there.get(file) != size:
            raise DamagedError(f"{file} is {'not what the launcher copied' if file in there else 'gone'}")
    return {name: Source(files.join(staged.folder, CONTENT, name), digest) for name, _, digest in listed}


def _listed(manifest: bytes, path: str) -> Iterator[tuple[str, int, str]]:
    try:
        for file in json.loads(manifest)["files"]:
            if file["name"].startswith("/") or ".." in file["name"].split("/"):
                raise ValueError(file["name"])
            yield file["name"], file["bytes"], file["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is damaged ({type(error).__name__})") from error


def _upload(folder: str, target: str) -> None:
    manifest = files.read_bytes(files.join(folder, MANIFEST))
    try:
        _staged_sources(Staged(target, _sha256(manifest)))
        return
    except DamagedError:
        pass  # made now
    for name, _, _ in _listed(manifest, folder):
        files.copy(files.join(folder, CONTENT, name), files.join(target, CONTENT, name))
    files.write_bytes(files.join(target, MANIFEST), manifest)


def _content(folder: str) -> str:
    return files.join(folder, CONTENT)


def _chunks(path: str) -> Iterator[bytes]:
    with files.open_read(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
