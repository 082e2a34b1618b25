"""The stage that makes batches: what it gives does not rest on how a reader cut its chunks."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that
from test_stages import a_part, fails, in_order

from pipeline import BatchRows
from pipeline.job import Batch
from pipeline.rows import RECORD, ROW, Part, PartBatch, Rejected, ShardEnd

REJECTED = Rejected(99, "read", "feature 'x': missing", None)


def chunks(part: Part, sizes: Sequence[int]) -> list[PartBatch]:
    """Rows numbered from 0 in chunks of these sizes; each chunk has a rejected row and a count as well."""
    batches, start = [], 0
    for sequence, size in enumerate(sizes):
        numbers = pa.array(range(start, start + size), pa.int64())
        rows = pa.record_batch([numbers, numbers.cast(pa.float32())], [ROW, "feature:x"])
        batches.append(PartBatch(part, sequence, rows, (REJECTED,), present={"x": size}))
        start += size
    return [*batches, PartBatch(part, len(sizes), pa.record_batch([], []), last=(ShardEnd(start + len(sizes)),))]


@pytest.mark.parametrize(
    "sizes",
    [[23], [1] * 23, [7, 7, 7, 2], [20, 3], [3, 20], [0, 23], []],
    ids=["whole", "singly", "as wanted", "large first", "large last", "empty chunk", "no rows"],
)
def test_batches_do_not_depend_on_chunks(sizes: list[int]) -> None:
    parts = [a_part(0, "in/a.csv"), a_part(1, "in/b.csv")]
    total = sum(sizes)

    def check(batches: list[PartBatch]) -> None:
        for part in parts:
            own = [batch for batch in batches if batch.part == part]
            assert [batch.sequence for batch in own] == list(range(len(own)))
            full = [batch.rows.column(ROW).to_pylist() for batch in own if batch.rows.num_rows]
            assert full == [list(range(start, min(start + 7, total))) for start in range(0, total, 7)]
            assert sum((batch.rejected for batch in own), ()) == (REJECTED,) * len(sizes)
            assert sum(batch.present.get("x", 0) for batch in own) == total
            assert [batch.last for batch in own] == [()] * (len(own) - 1) + [(ShardEnd(total + len(sizes)),)]

    with beam.Pipeline("FnApiRunner") as p:
        batches = [batch for part in parts for batch in chunks(part, sizes)]
        assert_that(p | in_order(batches) | BatchRows(Batch(rows=7)), check)


def test_batches_are_bounded_by_bytes() -> None:
    part = a_part()
    rows = pa.record_batch([pa.array(range(10), pa.int64()), pa.array([b"x" * 30] * 10)], [ROW, RECORD])

    def check(batches: list[PartBatch]) -> None:
        assert [batch.rows.num_rows for batch in batches] == [3, 3, 3, 1]

    with beam.Pipeline("FnApiRunner") as p:
        read = [PartBatch(part, 0, rows), PartBatch(part, 1, pa.record_batch([], []), last=(ShardEnd(10),))]
        assert_that(p | in_order(read) | BatchRows(Batch(rows=100, bytes=100)), check)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (chunks(a_part(0), [3])[:1], "in/shard.csv: the last batch did not arrive in the bundle of the others"),
        (
            chunks(a_part(0), [3])[:1] + chunks(a_part(1, "in/b.csv"), [3]),
            "in/shard.csv: the last batch did not come before those of the next part",
        ),
    ],
    ids=["lost", "mixed"],
)
def test_batches_of_a_part_that_do_not_come_together_are_refused(batches: list[PartBatch], message: str) -> None:
    fails(lambda p: p | in_order(batches) | BatchRows(Batch(rows=7)), message)
