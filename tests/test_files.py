"""Reaching files: locally, and on a store without folders whose objects appear whole."""

from __future__ import annotations

import gzip
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from memory_store import KINDS, MemoryFileSystem, new_folder

from pipeline import files

pytestmark = pytest.mark.any_tensorflow

__all__ = ["KINDS", "new_folder"]  # for other tests


NAMES = ["a.csv", "a b.csv", "a%20b.csv", "ä.csv", "a[1].csv", "a1.csv", "x/a.csv", "x/y/a.csv", "x/b.json", "_a.csv"]


PATTERNS = [
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
]


@pytest.mark.parametrize("root", KINDS, indirect=True)
@pytest.mark.parametrize(("pattern", "expected"), PATTERNS)
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


def test_create_happens_once(root: str) -> None:
    path = files.join(root, "new", "a")
    assert files.create(path, b"first")
    assert not files.create(path, b"second")

    assert files.read_bytes(path) == b"first"
    assert [info.path for info in files.list_folder(files.join(root, "new"))] == [path]


def test_create_by_many_at_once(root: str) -> None:
    path = files.join(root, "a")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: files.create(path, b"%d" % number), range(8)))

    if not root.startswith("memory:"):  # which knows no conditions
        assert [number for number in range(8) if made[number]] == [int(files.read_bytes(path))]
        assert [info.path for info in files.list_folder(root)] == [path]
    assert any(made)


def test_create_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", link)
    path = str(tmp_path / "a")

    assert files.create(path, b"first")
    assert not files.create(path, b"second")
    assert files.read_bytes(path) == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_touch_shows_in_the_listing(root: str) -> None:
    path = files.join(root, "a")
    files.write_bytes(path, b"data")
    before = files.list_folder(root)
    time.sleep(1.1 if root.startswith("s3:") else 0.02)  # S3 counts whole seconds
    files.touch(path)

    assert files.list_folder(root) != before
    assert files.read_bytes(path) == b"data"


def test_touch_makes_nothing(root: str) -> None:
    with pytest.raises(FileNotFoundError, match="a"):
        files.touch(files.join(root, "a"))
    assert not files.exists(files.join(root, "a"))


def test_delete_unchanged_spares_another_file(root: str) -> None:
    path = files.join(root, "a")
    files.write_bytes(path, b"one")
    (first,) = files.list_folder(root)
    files.write_bytes(path, b"another")
    assert not files.delete_unchanged(first)
    assert files.read_bytes(path) == b"another"

    (second,) = files.list_folder(root)
    assert files.delete_unchanged(second)
    assert not files.exists(path)
    assert not files.delete_unchanged(second)
