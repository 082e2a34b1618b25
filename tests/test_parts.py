"""Which shards become which parts: a pure matter of the shards and two keys of the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bad_inputs import FEATURES
from test_rescore import WRITERS, rows_of

from pipeline.job import Job
from pipeline.parts import estimate_rows, join, plan_parts, regroup, split_shard
from pipeline.plan import Plan, match_shards, part_key
from pipeline.read import first_rows, joined
from pipeline.readers.parquet import RowGroup
from pipeline.rows import ORIGIN, ROW, Chunk, Columns, Origin, Part, Piece, Rejected, Shard


def shards_of(*sizes: int) -> list[Shard]:
    return [Shard(f"in/{index:03d}", size, 1.5) for index, size in enumerate(sizes)]


def sizes_of(runs: Any) -> list[list[int]]:
    return [[shard.bytes for shard in run] for run in runs]


MB = 1 << 20


@pytest.mark.parametrize(
    ("groups", "bytes", "split_bytes", "ranges"),
    [
        ([(10, MB)] * 8, 8 * MB, 2 * MB, [(0, 2), (2, 4), (4, 6), (6, 8)]),
        ([(10, MB)] * 8, 4 * MB, 2 * MB, [(0, 4), (4, 8)]),
        ([(10, MB)] * 10, 10 * MB, 6 * MB, [(0, 5), (5, 10)]),
        ([(10, MB)] * 3, 3 * MB, 1, [(0, 1), (1, 2), (2, 3)]),
        ([(5, MB), (50, 10 * MB), (5, MB)], 12 * MB, 3 * MB, [(0, 1), (1, 2), (2, 3)]),
        ([(0, 0), (10, MB), (0, 0), (10, MB)], 2 * MB, MB, [(0, 2), (2, 4)]),
    ],
    ids=["evenly", "compressed to half", "as alike as can be", "one each", "one large group", "empty groups"],
)
def test_a_shard_is_cut_at_its_row_groups(
    groups: list[tuple[int, int]], bytes: int, split_bytes: int, ranges: list[tuple[int, int]]
) -> None:
    shard = Shard("in/a.parquet", bytes)
    pieces = split_shard(shard, [RowGroup(*group) for group in groups], split_bytes)
    assert [piece.row_groups for piece in pieces] == ranges
    assert [piece.first_row for piece in pieces] == [sum(rows for rows, _ in groups[:first]) for first, _ in ranges]
    assert {piece.shard for piece in pieces} == {shard}


@pytest.mark.parametrize(
    "groups",
    [[], [(100, 9 * MB)], [(0, 0), (0, 0)], [(10, MB), (-1, MB)], [(10, MB), (10, -MB)]],
    ids=["no group", "one group", "no rows", "negative rows", "negative bytes"],
)
def test_a_shard_that_cannot_be_cut_stays_whole(groups: list[tuple[int, int]]) -> None:
    shard = Shard("in/a.parquet", 9 * MB)
    assert split_shard(shard, [RowGroup(*group) for group in groups], MB) == [Piece(shard)]


@pytest.mark.parametrize(
    ("sizes", "rows_per_file", "runs"),
    [
        ([100] * 6, 20, [[100, 100], [100, 100], [100, 100]]),
        ([100] * 5, 20, [[100, 100], [100, 100], [100]]),
        ([104] * 6, 20, [[104, 104], [104, 104], [104, 104]]),
        ([90] * 4, 10, [[90], [90], [90], [90]]),
        ([300, 10, 10, 300, 10], 10, [[300], [10, 10], [300], [10]]),
        ([0, 0, 100, 0], 1000, [[0, 0, 100, 0]]),
        ([100] * 3, 1, [[100], [100], [100]]),
        ([], 10, []),
    ],
    ids=[
        "evenly",
        "a rest",
        "a little larger",
        "almost large enough",
        "large between small",
        "empty",
        "target of one",
        "none",
    ],
)
def test_small_shards_are_joined(sizes: list[int], rows_per_file: int, runs: list[list[int]]) -> None:
    assert sizes_of(join(shards_of(*sizes), (), rows_per_file, [size / 10 for size in sizes])) == runs


def test_ten_thousand_shards_of_a_hundred_rows_are_a_hundred_files() -> None:
    shards = shards_of(*np.random.default_rng(7).integers(32_800, 33_200, 10_000).tolist())
    for estimate in (99.8, 100, 100.2):
        runs = list(join(shards, (), 10_000, [estimate] * 10_000))
        assert len(runs) == 100
        assert [shard for run in runs for shard in run] == shards


def test_what_is_split_is_joined_with_nothing() -> None:
    shards = shards_of(10, 10, 10, 10, 10)
    assert [len(run) for run in join(shards, {"in/002"}, 1000, [10] * 5)] == [2, 1, 2]


def test_nothing_is_joined_where_no_shard_shows_a_row() -> None:
    assert [len(run) for run in join(shards_of(0, 0, 5), (), 1000, None)] == [1, 1, 1]


def test_a_trial_run_joins_by_the_rows_that_it_takes() -> None:
    assert [len(run) for run in join(shards_of(*[1000] * 4), (), 20, [1000] * 4, limit_rows=10)] == [2, 2]


def test_regroup() -> None:
    shards = shards_of(1, 2, 3, 4)
    assert sizes_of(regroup(shards, {("in/000", "in/001"), ("in/002", "in/003")})) == [[1, 2], [3, 4]]
    assert sizes_of(regroup(shards, set())) == [[1], [2], [3], [4]]


def job_of(tmp_path: Path, format: str, **keys: int) -> Job:
    return Job.model_validate(
        {
            "name": "parts",
            "input": {"pattern": [str(tmp_path / "*")], "format": format}
            | {key: value for key, value in keys.items() if key == "split_bytes"},
            "features": FEATURES,
            "model": {"estimator": "m:build"},
            "output": {"path": "/out"} | {key: value for key, value in keys.items() if key == "rows_per_file"},
        }
    )


def columns_of(job: Job) -> Columns:
    assert isinstance(job.features, dict)
    return Columns(job.features)


@pytest.mark.parametrize("format", WRITERS)
def test_rows_are_estimated_by_the_size_of_the_file(format: str, tmp_path: Path) -> None:
    counts = np.random.default_rng(3).integers(1, 40, 30)
    for number, count in enumerate(counts):
        rows = [row for some in range(count) for row in rows_of(1000 * number + 10 * some)]
        (tmp_path / f"{number:02d}").write_bytes(WRITERS[format](rows))
    job = job_of(tmp_path, format)
    shards = match_shards(job.input)
    found = estimate_rows(shards, job.input, columns_of(job))
    assert found is not None
    np.testing.assert_allclose(found, counts * 5, rtol=0.3, atol=20)
    assert estimate_rows(shards[::-1], job.input, columns_of(job)) == found[::-1]


def test_sizes_beyond_those_that_were_looked_at(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02d}").write_bytes(WRITERS["jsonl"](rows_of(10)))
    (tmp_path / "20").write_bytes(WRITERS["jsonl"](rows_of(10) * 100))
    (tmp_path / "21").write_bytes(b"")
    job = job_of(tmp_path, "jsonl")
    assert estimate_rows(match_shards(job.input), job.input, columns_of(job)) == pytest.approx([5] * 20 + [500, 0])


def test_a_large_shard_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.parts._SAMPLED_BYTES", 50_000)
    (tmp_path / "a").write_bytes(WRITERS["jsonl"](rows_of(10) * 20_000))
    job = job_of(tmp_path, "jsonl")
    (shard,) = match_shards(job.input)
    read: list[int] = []
    monkeypatch.setattr("pipeline.parts.read_shard", counted(read))
    assert estimate_rows([shard], job.input, columns_of(job)) == pytest.approx([100_000], rel=0.3)
    assert sum(read) < 30_000


def counted(read: list[int]) -> Any:
    from pipeline.readers import read_shard

    def counting(*arguments: Any, **options: Any) -> Any:
        for chunk in read_shard(*arguments, **options):
            read.append(chunk.read)
            yield chunk

    return counting


def test_broken_shards_say_nothing_of_the_rows_of_others(tmp_path: Path) -> None:
    job = job_of(tmp_path, "csv")
    (tmp_path / "a").write_bytes(b"")
    assert estimate_rows(match_shards(job.input), job.input, columns_of(job)) is None


def test_parts_of_whole_shards_keep_their_keys(tmp_path: Path) -> None:
    """However the shards beside them are joined or split, a part that is one shard is the same part."""
    for number, count in enumerate((1, 1, 400)):
        (tmp_path / str(number)).write_bytes(WRITERS["parquet"](rows_of(10) * count))
    plain, both = job_of(tmp_path, "parquet"), job_of(tmp_path, "parquet", rows_per_file=100, split_bytes=1 << 30)
    shards = match_shards(plain.input)
    before = plan_parts(shards, plain, columns_of(plain), "digest")
    assert before == tuple(
        Part.of_shard(index, part_key([Piece(shard)], "digest"), shard) for index, shard in enumerate(shards)
    )
    parts = plan_parts(shards, both, columns_of(both), "digest")
    assert [len(part.pieces) for part in parts] == [2, 1]
    assert parts[1] == replace(before[2], index=1)
    assert len({part.key for part in (*before, *parts)}) == 4


def test_a_run_that_goes_on_keeps_the_parts_of_the_one_before(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / str(number)).write_bytes(WRITERS["jsonl"](rows_of(10)))
    job = job_of(tmp_path, "jsonl", rows_per_file=10)

    def parts(before: Sequence[Part] = ()) -> tuple[Part, ...]:
        unfinished = None
        if before:
            unfinished = Plan("r1", None, "parts", "", tuple(before), "jsonl", pa.schema([]), job=job.settings())
        return plan_parts(match_shards(job.input), job, columns_of(job), "digest", unfinished=unfinished)

    first = parts()
    assert [len(part.pieces) for part in first] == [2, 2, 2]
    (tmp_path / "0").write_bytes(WRITERS["jsonl"](rows_of(10) * 3))  # it is mended, and three times as large now
    assert len(parts()[0].pieces) == 1
    again = parts(first)
    assert [len(part.pieces) for part in again] == [2, 2, 2]
    assert [part.key == old.key for part, old in zip(again, first, strict=True)] == [False, True, True]
    (tmp_path / "6").write_bytes(b"")
    assert parts(first) == parts()


def chunk_of(first: int, count: int, bad: Sequence[int] = ()) -> Chunk:
    numbers = [number for number in range(first, first + count) if number not in bad]
    rows = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], [ROW])
    return Chunk(rows, tuple(Rejected(number, "read", "bad") for number in bad), count)


def test_rows_of_a_part_count_on_and_know_their_shard() -> None:
    some = joined(chunk_of(4, 4, bad=[5]), Piece(Shard("in/b", 1)), before=100)
    assert some.rows.column(ROW).to_pylist() == [104, 106, 107]
    assert some.rows.column(ORIGIN).to_pylist() == [{"shard": "in/b", "row": row} for row in (4, 6, 7)]
    assert some.rejected == (Rejected(105, "read", "bad", None, Origin("in/b", 5)),)
    again = joined(some, Piece(Shard("in/c", 1)), before=10)  # as it were a file of rejected rows
    assert again.rows.column(ROW).to_pylist() == [114, 116, 117]
    assert again.rows.column(ORIGIN).equals(some.rows.column(ORIGIN))
    assert again.rejected == (Rejected(115, "read", "bad", None, Origin("in/b", 5)),)


@pytest.mark.parametrize(("limit", "expected"), [(12, [10, 11]), (15, [10, 11, 12, 13, 14]), (99, list(range(10, 18)))])
def test_the_first_rows_of_a_shard_are_counted_from_its_beginning(limit: int, expected: list[int]) -> None:
    chunks = list(first_rows([chunk_of(10, 4), chunk_of(14, 4)], limit, first=10))
    assert [number for some in chunks for number in some.rows.column(ROW).to_pylist()] == expected
    assert sum(some.read for some in chunks) == len(expected)
