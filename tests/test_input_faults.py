"""An input that changes under a run, and shards with something odd about them."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import bad_inputs
import pytest
from bad_inputs import Bench, Row, make_rows
from left_behind import (
    OVERWRITE,
    assert_failed,
    assert_published,
    assert_untouched,
    contents,
    make_shards,
    publish_first,
    shard_of,
)

from pipeline import files
from pipeline.plan import write_plan

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

ROWS = make_rows(12)
KEPT = "nothing was published; parts that are whole are kept, and are not scored again"
CHANGED = "after the run was planned; run again, and it is scored as it is then"


class Acting:
    """A file that has something done when the first of it has been read."""

    def __init__(self, file: BinaryIO, act: Callable[[], object]):
        self._file, self._act = file, act

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        act, self._act = self._act, lambda: None
        act()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Acting:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def while_reading(path: Path, act: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Have something done when a shard has been opened, and the first of it read, for the first time."""
    open_read, done = files.open_read, []

    def opened(name: str) -> Any:
        file = open_read(name)
        if name != str(path) or done:
            return file
        done.append(name)
        return Acting(file, act)

    patch.setattr(files, "open_read", opened)


def later(path: Path) -> None:
    """Give a file another time, as a write does that comes a moment later."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def grow(path: Path) -> list[Row]:
    more = make_rows(2, first=100)
    path.write_bytes(path.read_bytes() + shard_of(more))
    return [*ROWS[4:8], *more]


def shrink(path: Path) -> list[Row]:
    path.write_bytes(shard_of(ROWS[4:6]))
    return ROWS[4:6]


def replace(path: Path) -> list[Row]:
    """Another file of the same size takes its place, as trainers and mirrors put files there."""
    others = [{**row, "x": row["x"] + 1} for row in ROWS[4:8]]
    beside = path.with_name("new")
    beside.write_bytes(shard_of(others))
    assert beside.stat().st_size == path.stat().st_size
    beside.replace(path)
    later(path)
    return others


def overwrite(path: Path) -> list[Row]:
    """Other bytes of the same number are written into the file itself."""
    others = [{**row, "x": row["x"] + 1} for row in ROWS[4:8]]
    with path.open("r+b") as file:
        file.write(shard_of(others))
    later(path)
    return others


def touch(path: Path) -> list[Row]:
    later(path)
    return ROWS[4:8]


def remove(path: Path) -> list[Row]:
    path.unlink()
    return []


CHANGES = {"grown": grow, "shrunk": shrink, "replaced": replace, "overwritten": overwrite, "touched": touch}


def assert_change_is_noticed(
    change: Callable[[Path], list[Row]], what: str, before_reading: bool, bench: Bench, patch: pytest.MonkeyPatch
) -> None:
    """A shard changes under a run: the others are kept, the older output stays, the next run scores it as it is then."""
    _, shard, _ = make_shards(bench, ROWS, "a", "b", "c")
    before = publish_first(bench)
    now: list[Row] = []
    with patch.context() as patched:
        if before_reading:
            patched.setattr("pipeline.run.write_plan", lambda *plan: now.extend(change(shard)) or write_plan(*plan))
        else:
            while_reading(shard, lambda: now.extend(change(shard)), patched)
        refused = bench.score(output=OVERWRITE)

    error = assert_failed(bench, refused, 4, "publish", shard)
    assert error.startswith("1 of 3 shards are broken, more than errors.max_broken_shards: 0 allows: ")
    assert f"{shard} (" in error
    assert f"the file {what} {CHANGED})" in error
    assert error.endswith(KEPT)
    assert_untouched(bench, before)

    after = bench.score(output=OVERWRITE)
    assert_published(bench, after, [*ROWS[:4], *now, *ROWS[8:]], resumed=2)


@pytest.mark.fault("shard-changes")
@pytest.mark.parametrize("before_reading", [True, False], ids=["before it is read", "while it is read"])
@pytest.mark.parametrize("change", CHANGES)
def test_shard_that_changes(change: str, before_reading: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_change_is_noticed(CHANGES[change], "was changed", before_reading, bench, monkeypatch)


@pytest.mark.fault("shard-vanishes")
@pytest.mark.parametrize("before_reading", [True, False], ids=["before it is read", "while it is read"])
def test_shard_that_vanishes(before_reading: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_change_is_noticed(remove, "went away", before_reading, bench, monkeypatch)


@pytest.mark.fault("shard-changes")
def test_a_large_shard_that_is_cut_off_while_it_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were read already are no part of any output; what was behind them is not there any more."""
    rows = [{**row, "note": row["note"] * 20_000} for row in make_rows(12)]
    shard = bench.shard(shard_of(rows))
    bench.shard(shard_of(make_rows(2, first=100)), "b")
    with monkeypatch.context() as patch:
        cut = partial(os.truncate, shard, shard.stat().st_size // 3)
        patch.setattr("pipeline.run.write_plan", lambda *plan: while_reading(shard, cut, patch) or write_plan(*plan))
        refused = bench.score()

    error = assert_failed(bench, refused, 4, "publish", shard)
    assert re.search(rf"{shard} \(tail_lost: record \d: the file ends inside it\)", error)
    shard.write_bytes(shard_of(rows))
    assert_published(bench, bench.score(), [*rows, *make_rows(2, first=100)], resumed=1)


@pytest.mark.fault("shard-arrives-between-runs")
def test_shard_that_arrives_between_two_runs_of_an_unfinished_output(bench: Bench) -> None:
    """It is scored with the others by the run that goes on."""
    first, shard, _ = make_shards(bench, ROWS, "a", "c", "d")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-3])
    assert bench.score().code == 4
    shard.write_bytes(whole)
    more = make_rows(3, first=100)
    bench.shard(shard_of(more), "b")

    outcome = bench.score()

    assert_published(bench, outcome, [*ROWS[:4], *more, *ROWS[4:]], resumed=2)
    assert list(outcome.scored) == [row["id"] for row in [*ROWS[:4], *more, *ROWS[4:]]]
    assert outcome.report["not_kept"] == {"new shard": 1, "the shard was changed": 1}
    assert first.exists()


@pytest.mark.fault("shard-arrives-between-runs")
def test_shard_that_arrives_between_two_nights(bench: Bench) -> None:
    """Each night has its own output: that of the first stays what it is, that of the second has all there is by then."""
    make_shards(bench, ROWS, "a", "b")
    nightly: dict[str, Any] = {"path": "out/{run_date}"}
    assert bench.score("--run_date", "2026-11-21", output=nightly).code == 0
    before = contents(bench.output)
    bench.shard(shard_of(make_rows(3, first=100)), "c")

    second = bench.score("--run_date", "2026-11-22", output=nightly)

    assert second.code == 0, second.error
    assert (second.report["shards"], second.report["rows"]["scored"]) == (3, 15)
    assert {path: data for path, data in contents(bench.output).items() if path.startswith("2026-11-21")} == before
    again = bench.score("--run_date", "2026-11-21", output={**nightly, "if_exists": "skip"})
    assert again.report["stale"] == [f"shards added: {bench.folder}/in/c.tfrecord"]


@pytest.mark.fault("shard-arrives-during-run")
def test_shard_that_arrives_while_a_run_is_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    _, second, _ = make_shards(bench, ROWS, "a", "b", "d")
    more = make_rows(3, first=100)
    with monkeypatch.context() as patch:
        while_reading(second, lambda: bench.shard(shard_of(more), "c"), patch)
        outcome = bench.score()

    assert_published(bench, outcome, ROWS)
    skipped = bench.score(output={"if_exists": "skip"})
    assert (skipped.code, skipped.report["status"]) == (0, "skipped")
    assert skipped.report["stale"] == [f"shards added: {bench.folder}/in/c.tfrecord"]
    assert_published(bench, bench.score(output=OVERWRITE), [*ROWS[:8], *more, *ROWS[8:]])


@pytest.mark.fault("gzip-cut-off")
@pytest.mark.parametrize("lost", [1, 8, 200, 0.5], ids=["a byte", "the trailer", "200 bytes", "half"])
def test_gzip_that_is_cut_off(lost: float, bench: Bench) -> None:
    rows = make_rows(400)
    make_shards(bench, rows[200:], "b")
    whole = gzip.compress(shard_of(rows[:200]))
    shard = bench.shard(whole[: -int(lost if lost >= 1 else len(whole) * lost)])

    error = assert_failed(bench, bench.score(), 4, "publish", shard)

    assert f"{shard} (tail_lost: the gzip stream is cut off)" in error
    assert error.endswith(KEPT)
    bench.shard(whole)
    assert_published(bench, bench.score(), rows, resumed=1)


@pytest.mark.fault("overlapping-patterns")
def test_patterns_that_overlap(bench: Bench) -> None:
    make_shards(bench, ROWS, "a", "b", "c")
    outcome = bench.score(input={"pattern": ["in/*.tfrecord", "in/b*", "in/**", f"{bench.folder}/in/c.tfrecord"]})
    assert_published(bench, outcome, ROWS)
    assert len(outcome.scored) == 12
    assert list(outcome.states) == ["a.tfrecord", "b.tfrecord", "c.tfrecord"]


@pytest.mark.fault("output-inside-input")
def test_output_in_the_folder_of_the_input(bench: Bench) -> None:
    """Where no pattern takes its files for shards it is fine, also the second time."""
    make_shards(bench, ROWS, "a", "b", "c")
    inside: dict[str, Any] = {"path": "in/out", "if_exists": "overwrite"}
    for _ in range(2):
        outcome = bench.score(output=inside)
        assert outcome.code == 0, outcome.error
        assert outcome.report["rows"] == {"read": 12, "scored": 12, "rejected": 0}
    refused = bench.score(input={"pattern": "in/**"}, output=inside)
    assert refused.code == 2
    assert (
        f"output.path: '{bench.folder}/in/out' lies where the input pattern '{bench.folder}/in/**' looks for shards; "
        "write elsewhere: --set output.path=...\n"
    ) in refused.error
