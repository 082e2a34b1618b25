"""Large Parquet shards cut at row groups (`input.split_bytes`): the same rows in more files, and one shard all the same."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import bad_inputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_inputs import Bench, Row, make_rows
from left_behind import OVERWRITE, assert_failed
from test_bad_columnar import parquet, table
from test_joined_shards import files_of, manifest_of
from test_rescore import MENDED, STRICT, again, read, rows_of, to_parquet, undisturbed

from pipeline.errors import BrokenShard
from pipeline.readers.parquet import ParquetShard

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

EACH = {"input": {"split_bytes": 1}}
"""A part for each row group."""


@pytest.fixture
def parquet_bench(bench: Bench) -> Bench:
    bench.format = "parquet"
    return bench


def in_groups(rows: Sequence[Row], size: int) -> bytes:
    return parquet(table(rows), row_group_size=size, compression="none", use_dictionary=False)


def in_groups_of(data: bytes, size: int) -> bytes:
    """A Parquet file with other row groups."""
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(data)), sink, row_group_size=size)
    return sink.getvalue()


def test_rows_are_those_of_a_run_that_splits_nothing(parquet_bench: Bench) -> None:
    bench = parquet_bench
    bench.settings = {**STRICT, "batch": {"rows": 4}}
    for name, first in (("a", 100), ("b", 200)):
        rows = [row for start in range(first, first + 60, 10) for row in rows_of(start)]
        bench.shard(in_groups_of(to_parquet(rows), 7), name)
    apart = bench.score()
    assert (apart.code, files_of(bench.output)) == (0, [12, 12]), apart.error
    rows, rejected = read(bench.output), read(bench.output / "_rejected")

    split = bench.score(**EACH, output=OVERWRITE)

    assert (split.code, len(files_of(bench.output))) == (0, 10), split.error
    assert read(bench.output) == rows
    assert read(bench.output / "_rejected") == rejected
    kept = ("shards", "rows", "features", "schema")
    assert manifest_of(split, *kept) == manifest_of(apart, *kept)
    assert (split.report["shards"], split.report["resumed_parts"]) == (2, 0)


ROWS = make_rows(40)


def test_parts_are_about_as_large_as_was_asked_for(parquet_bench: Bench) -> None:
    large = parquet_bench.shard(in_groups(ROWS, 4), "a")
    parquet_bench.shard(in_groups(make_rows(4, first=100), 2), "b")
    size = large.stat().st_size
    outcome = parquet_bench.score(input={"split_bytes": size // 2 - 1})
    assert (outcome.code, files_of(parquet_bench.output)) == (0, [12, 16, 12, 4])
    assert outcome.scored == parquet_bench.expected([*ROWS, *make_rows(4, first=100)])
    assert [row["_row"] for row in read(parquet_bench.output)] == [*range(40), *range(4)]


def test_small_shards_are_joined_and_large_ones_split(parquet_bench: Bench) -> None:
    bench = parquet_bench
    for name, first, count in (("a", 0, 2), ("b", 2, 2), ("c", 4, 30), ("d", 34, 2), ("e", 36, 2)):
        bench.shard(in_groups(ROWS[first : first + count], 10), name)
    split = max(path.stat().st_size for path in (bench.folder / "in").iterdir()) - 1
    outcome = bench.score(input={"split_bytes": split}, output={"rows_per_file": 1000})
    assert (outcome.code, files_of(bench.output)) == (0, [4, 10, 20, 4])
    assert outcome.scored == bench.expected(ROWS[:38])
    assert list(outcome.states.values()) == [("done", count, 0) for count in (2, 2, 30, 2, 2)]


def damage(path: Path, group: int) -> None:
    """Spoil the first data page of a row group."""
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(group).column(0).data_page_offset
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))


def test_a_broken_row_group_costs_itself(parquet_bench: Bench) -> None:
    bench = parquet_bench
    shard = bench.shard(in_groups(ROWS, 10), "a")
    bench.shard(in_groups(make_rows(2, first=100), 10), "b")
    damage(shard, 2)
    error = assert_failed(bench, bench.score(**EACH), 4, "publish", shard)
    reason = "row 20: the data cannot be read from here on"
    assert (
        f"1 of 2 shards are broken, more than errors.max_broken_shards: 0 allows: {shard} (tail_lost: {reason})"
        in error
    )

    outcome = bench.score(**EACH, errors={"max_broken_shards": 1})

    assert (outcome.code, files_of(bench.output)) == (0, [10, 10, 0, 10, 2])
    assert list(outcome.scored) == [*range(20), *range(30, 40), 100, 101]
    assert outcome.states == {"a.parquet": ("tail_lost", 30, None), "b.parquet": ("done", 2, 0)}
    assert outcome.report["warnings"] == [f"{shard}: tail_lost: {reason}"]
    assert outcome.report["resumed_parts"] == 4


def test_a_shard_whose_footer_cannot_be_read_stays_whole(parquet_bench: Bench) -> None:
    bench = parquet_bench
    shard = bench.shard(in_groups(ROWS, 10)[:-9], "a")
    bench.shard(in_groups(make_rows(20, first=100), 10), "b")
    outcome = bench.score(**EACH, errors={"max_broken_shards": 1})
    assert (outcome.code, files_of(bench.output)) == (0, [0, 10, 10]), outcome.error
    assert outcome.states == {"a.parquet": ("unreadable", 0, None), "b.parquet": ("done", 20, 0)}
    assert outcome.report["warnings"] == [
        f"{shard}: unreadable: the footer cannot be read: no Parquet file, or its end is lost"
    ]


@pytest.mark.parametrize(
    ("limit", "files"), [(5, [5, 2]), (10, [10, 2]), (25, [10, 10, 5, 2]), (99, [10, 10, 10, 10, 2])]
)
def test_a_trial_run_takes_the_first_rows_of_each_file(limit: int, files: list[int], parquet_bench: Bench) -> None:
    parquet_bench.shard(in_groups(ROWS, 10), "a")
    parquet_bench.shard(in_groups(make_rows(2, first=100), 10), "b")
    outcome = parquet_bench.score("--limit_rows", str(limit), **EACH)
    assert (outcome.code, files_of(parquet_bench.output)) == (0, files)
    assert list(outcome.scored) == [*range(min(limit, 40)), 100, 101]


def test_a_run_goes_on_part_by_part(parquet_bench: Bench) -> None:
    """What was not split is kept, and so is what was split before; a shard that was changed is scored again."""
    bench = parquet_bench
    bench.shard(in_groups(ROWS[:20], 5), "a")
    bench.shard(in_groups(ROWS[20:22], 5), "b")
    broken = bench.shard(in_groups(ROWS[22:], 5), "c")
    whole = broken.read_bytes()
    damage(broken, 1)
    assert bench.score(**EACH).code == 4
    broken.write_bytes(whole)
    outcome = bench.score(**EACH)
    assert (outcome.code, outcome.scored) == (0, bench.expected(ROWS))
    assert files_of(bench.output) == [5, 5, 5, 5, 2, 5, 5, 5, 3]
    assert outcome.report["resumed_parts"] == 5
    assert outcome.report["not_kept"] == {"the shard was changed": 4}


def test_a_file_of_rejected_rows_is_split_as_well(parquet_bench: Bench) -> None:
    bench = parquet_bench
    bench.settings = {**STRICT}
    shards = [bench.shard(to_parquet(rows_of(10 * number)), f"s{number}") for number in range(4)]
    assert bench.score(output={"rows_per_file": 100}).code == 0
    (rejected,) = (bench.output / "_rejected").glob("*.parquet")
    rejected.write_bytes(in_groups_of(rejected.read_bytes(), 5))
    outcome = again(bench, *MENDED, "input.split_bytes=1")
    assert (outcome.code, files_of(bench.folder / "again")) == (0, [5, 5, 2]), outcome.error
    assert read(bench.folder / "again") == undisturbed(bench, shards)


def test_row_groups_of_a_shard() -> None:
    data = parquet(pa.table({"x": range(10)}), row_group_size=4)
    part = ParquetShard(io.BytesIO(data), (1, 3))
    assert [group.rows for group in part.row_groups] == [4, 4, 2]
    assert part.first_row == 4
    assert [value for batch in part.batches(["x"], 3, 1 << 20) for value in batch["x"].to_pylist()] == list(
        range(4, 10)
    )
    with pytest.raises(BrokenShard, match="the footer tells of 3 row groups, not of 4"):
        ParquetShard(io.BytesIO(data), (2, 4))
