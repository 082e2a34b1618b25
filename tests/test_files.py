"""Reaching files: locally, and on a store without folders whose objects appear whole."""

from __future__ import annotations

import gzip
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem

from pipeline import files


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


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


NAMES = ["a.csv", "a b.csv", "a%20b.csv", "ä.csv", "a[1].csv", "a1.csv", "x/a.csv", "x/y/a.csv", "x/b.json", "_a.csv"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("a.csv", ["a.csv"], id="plain"),
        pytest.param("none.csv", [], id="plain, not there"),
        pytest.param("a b.csv", ["a b.csv"], id="space"),
        pytest.param("a%20b.csv", ["a%20b.csv"], id="percent"),
        pytest.param("ä.csv", ["ä.csv"], id="unicode"),
        pytest.param("a[1].csv", ["a1.csv", "a[1].csv"], id="pattern that is a name too"),
        pytest.param("a[[]1].csv", ["a[1].csv"], id="quoted bracket"),
        pytest.param("a[!b]*.csv", ["a b.csv", "a%20b.csv", "a1.csv", "a[1].csv"], id="not these"),
        pytest.param("a?.csv", ["a1.csv"], id="one character"),
        pytest.param("*.json", [], id="star stays in its folder"),
        pytest.param("*/*.csv", ["x/a.csv"], id="star for a folder"),
        pytest.param("**.json", ["x/b.json"], id="two stars cross folders"),
        pytest.param("**/a.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], id="two stars for no folder too"),
        pytest.param("x/**/a.csv", ["x/a.csv", "x/y/a.csv"], id="two stars in the middle"),
        pytest.param("x", [], id="a folder is no file"),
        pytest.param("x/*", ["x/a.csv", "x/b.json"], id="folders are left out"),
        pytest.param("none/*.csv", [], id="no such folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:Possible nested set")
def test_match(root: str, pattern: str, expected: list[str]) -> None:
    for name in NAMES:
        files.write_bytes(files.join(root, name), name.encode())

    found = files.match(files.join(root, pattern))

    assert [info.path for info in found] == [files.join(root, name) for name in expected]
    assert [info.bytes for info in found] == [len(name.encode()) for name in expected]
    assert all(info.modified is not None and abs(info.modified - time.time()) < 60 for info in found)
    matches = files.matcher(files.join(root, pattern))
    assert {name for name in NAMES if matches(files.join(root, name))} == set(expected)


def test_ignored_base_names_are_left_out(root: str) -> None:
    for name in ("_a.csv", ".b.csv", "_c/d.csv"):
        files.write_bytes(files.join(root, name), b"")

    found = files.match(files.join(root, "**.csv"), ["_*", ".*"])

    assert [info.path for info in found] == [files.join(root, "_c/d.csv")]


def test_a_relative_pattern_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)

    assert [info.path for info in files.match("./*.csv")] == [str(tmp_path / "a.csv")]


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.csv").touch()
    (tmp_path / "link").symlink_to("real")

    assert len(files.match(str(tmp_path / "*" / "a.csv"))) == 2


def test_a_link_that_leads_nowhere_is_an_error_unless_ignored(tmp_path: Path) -> None:
    (tmp_path / ".#lock.csv").symlink_to("nowhere")
    assert files.match(str(tmp_path / "*.csv"), [".*"]) == []
    (tmp_path / "a.csv").symlink_to("nowhere")

    with pytest.raises(FileNotFoundError, match=r"a\.csv"):
        files.match(str(tmp_path / "*.csv"), [".*"])


@pytest.mark.parametrize("pattern", ["*.csv", "**/a.csv"], ids=["one folder", "all folders"])
def test_a_folder_that_may_not_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    def denied(path: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)  # of os.walk; permission bits do not hold back a superuser
    monkeypatch.setattr(Path, "iterdir", denied)

    with pytest.raises(PermissionError, match="Permission denied"):
        files.match(str(tmp_path / pattern))


def test_nothing_is_decompressed(root: str) -> None:
    data = gzip.compress(b"rows")
    files.write_bytes(files.join(root, "a.csv.gz"), data)

    assert files.read_bytes(files.join(root, "a.csv.gz")) == data


def test_open_read_can_seek(root: str) -> None:
    files.write_bytes(files.join(root, "a"), b"0123456789")
    with files.open_read(files.join(root, "a")) as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"


def test_write_bytes_replaces_and_leaves_nothing_else(root: str) -> None:
    path = files.join(root, "new", "a")
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")

    assert files.read_bytes(path) == b"new"
    assert [info.path for info in files.list_folder(files.join(root, "new"))] == [path]


def test_write_bytes_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a")
    files.write_bytes(path, b"old")

    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    def create(path: str) -> io.BytesIO:
        Path(path).touch()
        return FullDisk()

    monkeypatch.setattr(files, "open_write", create)
    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(path, b"new")

    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert files.read_bytes(path) == b"old"


def test_move_goes_over_what_is_there(root: str) -> None:
    source, target = files.join(root, "a"), files.join(root, "folder", "b")
    files.write_bytes(source, b"new")
    files.write_bytes(target, b"old")

    files.move(source, target)

    assert files.read_bytes(target) == b"new"
    assert not files.exists(source)


def test_move_of_nothing_is_an_error_and_leaves_the_target(root: str) -> None:
    files.write_bytes(files.join(root, "b"), b"old")
    with pytest.raises(OSError, match="a"):
        files.move(files.join(root, "a"), files.join(root, "b"))
    assert files.read_bytes(files.join(root, "b")) == b"old"


@pytest.mark.parametrize("to_store", [True, False], ids=["to the store", "from the store"])
def test_move_between_filesystems(tmp_path: Path, to_store: bool) -> None:
    MemoryFileSystem.objects.clear()
    ends = [str(tmp_path / "a"), "memory://bucket/b"]
    source, target = ends if to_store else ends[::-1]
    files.write_bytes(source, b"data")

    files.move(source, target)

    assert files.read_bytes(target) == b"data"
    assert not files.exists(source)
    assert len(list(tmp_path.iterdir())) + len(MemoryFileSystem.objects) == 1


def test_move_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = str(tmp_path / "a"), str(tmp_path / "other" / "b")
    files.write_bytes(source, b"data")
    rename = Path.replace

    def replace(path: Path, to: str) -> Path:
        if str(path) == source:
            raise OSError(18, "Invalid cross-device link")
        return rename(path, to)

    monkeypatch.setattr(Path, "replace", replace)
    files.move(source, target)

    assert [entry.name for entry in (tmp_path / "other").iterdir()] == ["b"]
    assert not files.exists(source)


def test_delete_takes_names_not_patterns(root: str) -> None:
    for name in ("a[1]", "a1", "*", "b"):
        files.write_bytes(files.join(root, name), b"")

    files.delete([files.join(root, name) for name in ("a[1]", "*", "not there")])

    assert [files.base_name(info.path) for info in files.list_folder(root)] == ["a1", "b"]


def test_delete_folder(root: str) -> None:
    for name in ("gone/a", "gone/deep/b", "gone2"):
        files.write_bytes(files.join(root, name), b"")

    files.delete_folder(files.join(root, "gone"))
    files.delete_folder(files.join(root, "never was"))

    assert [info.path for info in files.match(files.join(root, "**"))] == [files.join(root, "gone2")]


def test_delete_empty_folder_spares_others(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()

    for name in ("empty", "full", "none"):
        files.delete_empty_folder(str(tmp_path / name))

    assert [entry.name for entry in tmp_path.iterdir()] == ["full"]
