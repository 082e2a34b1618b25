"""The one way of reaching files: local paths here, and those with a scheme by `pipeline.stores`.

Local paths do not go through Beam's `LocalFileSystem`: its `match` skips folders that it may not read without a word,
does not follow links to folders, and its `delete` takes the names of files for patterns.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from pipeline import patterns
from pipeline.patterns import has_glob, scheme
from pipeline.stores import FileInfo, not_found, store_of

_COPY_BYTES = 8 << 20


def is_local(path: str) -> bool:
    """Whether `path` has no scheme."""
    return scheme(path) is None


def join(folder: str, *names: str) -> str:
    """The path of a file in a folder of any filesystem."""
    return "/".join([folder.rstrip("/"), *names])


def base_name(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def match(pattern: str, ignore: Sequence[str] = ()) -> list[FileInfo]:
    """The files that `pattern` matches, sorted by path; folders are none.

    `*` and `?` stay within a folder, `**` crosses folders, and `**/` stands for no folder as well. A file whose real
    name is `pattern` is matched too, whatever characters it holds.

    Args:
      pattern: a path with wildcards, or a plain one.
      ignore: patterns of base names that are left out, before anything is asked about the file.

    Raises:
      OSError: a folder cannot be listed, or a matched link leads nowhere.
    """
    found: dict[str, FileInfo] = {}
    for plain in _without_empty_folders(pattern):
        for info in _match_local(plain, ignore) if is_local(plain) else _match_store(plain, ignore):
            found[info.path] = info
    return sorted(found.values())


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path is one that `match` takes `pattern` for, without looking at any file."""
    compiled = [patterns.compiled(plain) for plain in _without_empty_folders(pattern)]
    return lambda path: path == pattern or any(regex.match(path) for regex in compiled)


def list_folder(folder: str) -> list[FileInfo]:
    """The files in a folder, sorted by path; none if there is no such folder."""
    if not is_local(folder):
        return sorted(store_of(folder).list_folder(folder))
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found: list[FileInfo] = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # gone since, or a link that leads nowhere
            found += _regular_file(join(folder, name))
    return sorted(found)


def exists(path: str) -> bool:
    """Whether there is a file (locally: or a folder) of that name."""
    return Path(path).exists() if is_local(path) else store_of(path).info(path) is not None


def info(path: str) -> FileInfo | None:
    """The file of that name as it would be matched; None if there is none."""
    if not is_local(path):
        return store_of(path).info(path)
    try:
        return next(_regular_file(path), None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def size(path: str) -> int:
    """Bytes of a file. Raises OSError if it is not there."""
    found = info(path)
    if found is None:
        raise not_found(path)
    return found.bytes


def open_read(path: str) -> BinaryIO:
    """Open a file for reading its bytes as they are: nothing is decompressed. It can seek."""
    return open(path, "rb") if is_local(path) else store_of(path).open_read(path)


def read_bytes(path: str) -> bytes:
    """All bytes of a file."""
    with open_read(path) as file:
        return file.read()


def open_write(path: str) -> BinaryIO:
    """Open a file for writing; its folder is made. A local one may be seen before it is closed."""
    if not is_local(path):
        return store_of(path).open_write(path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        make_folder(folder)
    return open(path, "wb")


def write_bytes(path: str, data: bytes) -> None:
    """Write a small file so that a reader sees all of it or what was there before."""
    if not is_local(path):
        with open_write(path) as file:
            file.write(data)
        return
    temporary = _beside(path)
    try:
        with open_write(temporary) as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        delete([temporary])
        raise


def create(path: str, data: bytes) -> bool:
    """Write a small file unless there is one of that name: whether this call made it, of all that try at once.

    A reader sees the whole file or none. The folder is made. Filesystems other than local ones, gs:// and s3:// cannot
    create on condition: there this looks first and then writes, so two callers at one moment may both be told yes.
    """
    if not is_local(path):
        return store_of(path).create(path, data)
    make_folder(str(Path(path).parent))
    temporary = _beside(path)
    try:
        Path(temporary).write_bytes(data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        return _create_without_links(path, data)
    finally:
        delete([temporary])
    return True


def touch(path: str) -> None:
    """Mark a file as just used: its `FileInfo` is another one then, if only by a time in whole seconds (S3).

    Raises:
      FileNotFoundError: it is not there; nothing is made.
    """
    if not is_local(path):
        store_of(path).touch(path)
        return
    try:
        os.utime(path)
    except FileNotFoundError:  # it does not name the file
        raise not_found(path) from None


def delete_unchanged(info: FileInfo) -> bool:
    """Delete a file if it is still the one that was listed; whether it was, and is gone now by this call.

    On gs:// the store decides. Elsewhere there is a moment between looking and deleting.
    """
    if not is_local(info.path):
        return store_of(info.path).delete_unchanged(info)
    try:
        if [info] != list(_regular_file(info.path)):
            return False
        Path(info.path).unlink()
    except FileNotFoundError:
        return False
    return True


def copy(source: str, target: str) -> None:
    """Copy a file, also from one filesystem to another; an older target is replaced by the whole file at once."""
    if not is_local(source) and _same_store(source, target):
        store_of(source).copy(source, target)
        return
    written = _beside(target) if is_local(target) else target
    try:
        with open_read(source) as reader, open_write(written) as writer:
            shutil.copyfileobj(reader, writer, _COPY_BYTES)
        if written != target:
            Path(written).replace(target)
    except OSError:
        if written != target:
            delete([written])
        raise


def move(source: str, target: str) -> None:
    """Move a file over what may be at the target; the target's folder is made. On object stores: copy, then delete.

    Raises:
      OSError: there is no such source, or the filesystem refused.
    """
    if is_local(source) and is_local(target):
        make_folder(str(Path(target).parent))
        try:
            Path(source).replace(target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:  # another disk: no rename reaches it
                raise
    elif _same_store(source, target):
        store_of(source).move(source, target)
        return
    copy(source, target)
    delete([source])


def delete(paths: Iterable[str]) -> None:
    """Delete files; one that is not there is fine."""
    remote: dict[str | None, list[str]] = {}
    for path in paths:
        if is_local(path):
            Path(path).unlink(missing_ok=True)
        else:
            remote.setdefault(scheme(path), []).append(path)
    for of_scheme in remote.values():
        store_of(of_scheme[0]).delete(of_scheme)


def delete_folder(path: str) -> None:
    """Delete a folder and all below it; one that is not there is fine."""
    if is_local(path):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return
    else:
        store_of(path).delete_folder(path)


def delete_empty_folder(path: str) -> None:
    """Delete a folder if nothing is in it; stores without folders have none that are empty."""
    if not is_local(path):
        return
    try:
        if not any(Path(path).iterdir()):
            Path(path).rmdir()
    except OSError as error:  # gone, or in use again, since it was looked at
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY):
            raise


def make_folder(path: str) -> None:
    """Make a folder and its parents where the filesystem has folders; one that is there is fine."""
    if is_local(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    else:
        store_of(path).make_folder(path)


def _beside(path: str) -> str:
    """A hidden name in the same folder, for a file that takes its place with one rename."""
    return os.path.join(os.path.dirname(path), f".{uuid.uuid4().hex}.tmp")


def _create_without_links(path: str, data: bytes) -> bool:
    try:
        with Path(path).open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _without_empty_folders(pattern: str) -> Iterator[str]:
    """`a/**/b` as it is and as `a/b`: Beam's own `**/` stands for one folder at least, unlike any shell's."""
    first, *others = pattern.split("/**/")
    for joints in itertools.product(("/**/", "/"), repeat=len(others)):
        yield first + "".join(joint + other for joint, other in zip(joints, others, strict=True))


def _same_store(one: str, other: str) -> bool:
    return scheme(one) == scheme(other)


def _match_store(pattern: str, ignore: Sequence[str]) -> list[FileInfo]:
    return [info for info in store_of(pattern).match(pattern) if not _ignored(info.path, ignore)]


def _match_local(pattern: str, ignore: Sequence[str]) -> Iterator[FileInfo]:
    absolute = pattern if pattern.startswith("/") else f"{Path.cwd()}/{pattern}"
    for path in _expand("/", [name for name in absolute.split("/") if name not in ("", ".")]):
        if not _ignored(path, ignore):
            yield from _regular_file(path)


def _expand(folder: str, names: list[str]) -> Iterator[str]:
    """Paths below `folder` (which ends in a slash) whose names match `names`, one by one."""
    name, *rest = names
    if "**" in name:
        matches = patterns.compiled("/".join(names)).match
        for root, _, found in os.walk(folder, onerror=_raise):
            paths = (f"{root.rstrip('/')}/{base}" for base in found)
            yield from (path for path in paths if matches(path[len(folder) :]))
        return
    found = [name]
    if has_glob(name):
        matches = patterns.compiled(name).match
        found = [entry.name for entry in Path(folder).iterdir() if entry.name == name or matches(entry.name)]
    for base in found:
        path = folder + base
        is_folder = os.path.isdir(path)
        if rest and is_folder:
            yield from _expand(path + "/", rest)
        elif not rest and not is_folder and os.path.lexists(path):
            yield path


def _regular_file(path: str) -> Iterator[FileInfo]:
    status = os.stat(path)
    if S_ISREG(status.st_mode):
        yield FileInfo(path, status.st_size, status.st_mtime)


def _ignored(path: str, ignore: Sequence[str]) -> bool:
    return any(fnmatchcase(base_name(path), pattern) for pattern in ignore)


def _raise(error: OSError) -> None:
    raise error
