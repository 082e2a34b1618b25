"""Copies of files: made once, whole or not used, proved by whoever uses them, fetched once a machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from object_stores import Line
from test_files import KINDS, new_folder

from pipeline import files, machine_cache, staging
from pipeline.errors import ScoringError
from pipeline.staging import ChangedError, DamagedError, Source, Staged, fetch, file_digest, stage

DATA = b"0123456789" * 1000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the machine, of this test alone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder / f"estimator-score-{os.geteuid()}"


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "production" / "data"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


def staged(folder: str, source: Path) -> Staged:
    return stage(folder, {"data": Source(str(source)), "deep/er/state": b"text"}, "one").staged


def test_a_copy(folder: str, source: Path) -> None:
    copy = stage(folder, {"data": Source(str(source), file_digest(str(source))), "deep/er/state": b"text"})
    shutil.rmtree(source.parent)

    fetched = fetch(copy.staged)
    assert fetched.folder == copy.folder
    assert {path.relative_to(copy.folder).as_posix(): path.read_bytes() for path in _files(copy.folder)} == {
        "data": DATA,
        "deep/er/state": b"text",
    }
    names = [info.path[len(copy.staged.folder) + 1 :] for info in files.match(f"{copy.staged.folder}/**")]
    assert names == ["content/data", "content/deep/er/state", "files.json"]
    assert copy.staged.folder.rpartition("/")[0] == folder


def test_a_copy_is_found_again(folder: str, source: Path) -> None:
    first = staged(folder, source)
    written = {info.path: info.modified for info in files.match(f"{first.folder}/**")}
    source.unlink()

    assert staged(folder, source) == first
    assert {info.path: info.modified for info in files.match(f"{first.folder}/**")} == written


def test_other_content_is_another_copy(folder: str) -> None:
    keys = [
        stage(folder, {"a": b"1"}),
        stage(folder, {"a": b"2"}),
        stage(folder, {"b": b"1"}),
        stage(folder, {"a": b"1"}, "other"),
    ]
    assert len({copy.staged.folder for copy in keys}) == 4


DAMAGES: dict[str, tuple[Callable[[str], None], str]] = {
    "gone": (files.delete_folder, "is gone or was never finished"),
    "no manifest": (lambda folder: files.delete([f"{folder}/files.json"]), "is gone or was never finished"),
    "another manifest": (
        lambda folder: files.write_bytes(f"{folder}/files.json", json.dumps({"files": []}).encode()),
        "is not what the launcher wrote",
    ),
    "a file gone": (lambda folder: files.delete([f"{folder}/content/data"]), "content/data is gone"),
    "cut short": (
        lambda folder: files.write_bytes(f"{folder}/content/data", DATA[:-1]),
        "content/data is not what the launcher copied",
    ),
    "a bit turned": (
        lambda folder: files.write_bytes(f"{folder}/content/data", b"1" + DATA[1:]),
        "content/data is (not what the launcher copied|no longer what it was)",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_copy_is_refused(
    damage: Callable[[str], None], message: str, folder: str, source: Path, cache: Path
) -> None:
    made = staged(folder, source)
    shutil.rmtree(cache, ignore_errors=True)  # as on another machine
    damage(made.folder)

    with pytest.raises(DamagedError, match=message):
        fetch(made)
    assert not list(cache.glob("*/"))


@pytest.mark.parametrize("damage", [damage for damage, _ in DAMAGES.values()][:-1], ids=list(DAMAGES)[:-1])
def test_a_damaged_copy_is_made_again(damage: Callable[[str], None], folder: str, source: Path) -> None:
    made = staged(folder, source)
    damage(made.folder)

    assert staged(folder, source) == made
    assert files.read_bytes(f"{made.folder}/content/data") == DATA


def test_a_damaged_cache_is_fetched_again(source: Path, tmp_path: Path) -> None:
    made = staged(new_folder("store", tmp_path), source)
    in_cache = Path(fetch(made).folder, "data")
    in_cache.write_bytes(b"1" + DATA[1:])

    assert fetch(made).folder == str(in_cache.parent)
    assert in_cache.read_bytes() == DATA


def test_a_copy_that_fails_leaves_nothing(source: Path, folder: str, cache: Path) -> None:
    missing = source.with_name("none")
    with pytest.raises(FileNotFoundError):
        stage(folder, {"data": Source(str(source)), "none": Source(str(missing))})
    assert not files.match(f"{folder}/*/**")
    assert not list(cache.glob("*/"))


def test_what_a_killed_process_left_is_no_copy(source: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "staging")
    made = staged(folder, source)
    Path(made.folder).rename(f"{made.folder}.tmp")
    Path(f"{made.folder}.tmp", "content", "more").write_bytes(b"")

    assert staged(folder, source) == made
    assert sorted(path.name for path in Path(folder).glob("*/")) == [files.base_name(made.folder)]
    assert not Path(made.folder, "content", "more").exists()


def test_a_source_that_changed_is_refused(source: Path, folder: str) -> None:
    known = Source(str(source), file_digest(str(source)))
    source.write_bytes(DATA[::-1])
    with pytest.raises(ChangedError, match=f"{source} is no longer what it was"):
        stage(folder, {"data": known})


def test_what_cannot_be_proved_is_no_copy(source: Path, tmp_path: Path) -> None:
    def prove(content: str) -> None:
        assert Path(content, "data").read_bytes() == DATA
        raise ChangedError("not this one")

    with pytest.raises(ChangedError, match="not this one"):
        stage(str(tmp_path / "staging"), {"data": Source(str(source))}, "one", prove)
    assert not list((tmp_path / "staging").glob("*/"))


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
def test_no_name_leads_out_of_a_copy(name: str, tmp_path: Path) -> None:
    folder = f"{new_folder('store', tmp_path)}/{'a' * 32}"
    manifest = json.dumps({"files": [{"name": name, "bytes": 1, "sha256": staging._sha256(b"1")}]}).encode()
    files.write_bytes(f"{folder}/files.json", manifest)
    files.write_bytes(f"{folder}/content/{name}", b"1")
    with pytest.raises(DamagedError, match=r"files\.json is damaged"):
        fetch(Staged(folder, staging._sha256(manifest)))


@pytest.mark.parametrize("key", ["..", "a.lock", ""])
def test_no_copy_lies_outside_of_the_cache(key: str) -> None:
    with pytest.raises(DamagedError, match="is no folder of a copy"):
        fetch(Staged(f"memory://bucket/{key}", ""))


@pytest.mark.parametrize("store", ["s3"])
def test_processes_that_fetch_at_once_fetch_once(bucket: str, line: Line, source: Path, cache: Path) -> None:
    made = staged(f"{bucket}/staging", source)
    shutil.rmtree(cache)
    asked: Counter[str] = Counter()

    def slow(method: str, path: str) -> None:
        if method == "GET" and "content/" in path and "list-type" not in path:
            asked[path.rpartition("content/")[2].partition("?")[0]] += 1
            time.sleep(0.3)

    line.fault = slow
    program = "import sys; from pipeline.staging import *; print(fetch(Staged(*sys.argv[1:])).folder)"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, made.folder, made.digest], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = {process.communicate()[0].strip() for process in processes}

    assert [process.returncode for process in processes] == [0, 0]
    assert asked == {"data": 1, "deep/er/state": 1}
    assert folders == {f"{cache}/{files.base_name(made.folder)}/content"}


def test_what_was_not_used_for_a_week_is_deleted(source: Path, tmp_path: Path, cache: Path) -> None:
    folder = new_folder("store", tmp_path)
    old, used = staged(folder, source), stage(folder, {"other": b""}).staged
    week_ago = time.time() - machine_cache.UNUSED_SECONDS - 60
    for made in (old, used):
        os.utime(cache / f"{files.base_name(made.folder)}.lock", (week_ago, week_ago))
    machine_cache.mark_used(str(cache / files.base_name(used.folder)))

    fetch(used)
    assert [path.name for path in cache.glob("*/")] == [files.base_name(used.folder)]


@pytest.mark.parametrize("kind", ["others may read it", "a link"])
def test_a_cache_that_others_may_have_made_is_refused(kind: str, cache: Path) -> None:
    if kind == "a link":
        cache.symlink_to(cache.parent)
    else:
        cache.mkdir(mode=0o755)
    with pytest.raises(ScoringError, match="has to be a folder of this user that nobody else may open"):
        machine_cache.machine_cache()


def _files(folder: str) -> list[Path]:
    return [path for path in Path(folder).rglob("*") if path.is_file()]
