"""A trial run takes the first rows of the first shards, and its manifest says so."""

import pyarrow as pa
import pytest

from pipeline.read import first_rows
from pipeline.rows import ROW, Chunk, Rejected


def chunk(start, count, bad=()):
    numbers = [number for number in range(start, start + count) if number not in bad]
    rows = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], [ROW])
    return Chunk(rows, tuple(Rejected(number, "read", "bad") for number in bad), count, {"a": len(numbers)})


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9, 10, 11])
def test_the_first_rows_good_or_bad_and_no_more(limit):
    chunks = list(first_rows([chunk(0, 4, bad=[2]), chunk(4, 4), chunk(8, 2, bad=[9])], limit))
    numbers = [number for part in chunks for number in part.rows.column(ROW).to_pylist()]
    rejected = [row.row for part in chunks for row in part.rejected]
    assert sorted(numbers + rejected) == list(range(min(limit, 10)))
    assert sum(part.read for part in chunks) == min(limit, 10)
    assert all(part.present["a"] <= part.read for part in chunks)


def test_nothing_behind_the_limit_is_read():
    def chunks():
        yield chunk(0, 4)
        raise AssertionError("read on")

    assert sum(part.read for part in first_rows(chunks(), 4)) == 4
