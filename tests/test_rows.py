"""Record batches whose records are views on the blocks that were read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.batch import row_bytes
from pipeline.rows import RECORD, ROW, take_rows

RECORDS = [b"", b"short", b"twelve bytes", b"more than twelve bytes", b"x" * 1000]


@pytest.fixture(params=[pa.binary(), pa.binary_view()], ids=str)
def rows(request) -> pa.RecordBatch:
    records = pa.array([b"before", *RECORDS, b"after"], pa.binary()).cast(request.param).slice(1, len(RECORDS))
    return pa.RecordBatch.from_arrays([pa.array(range(len(RECORDS)), pa.int64()), records], [ROW, RECORD])


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (np.array([4, 0, 3]), [4, 0, 3]),
        (np.arange(5)[::-1], [4, 3, 2, 1, 0]),
        (np.array([False, True, True, False, True]), [1, 2, 4]),
        (np.zeros(5, bool), []),
    ],
    ids=["some", "reversed", "mask", "none"],
)
def test_rows_are_taken(rows, chosen, expected):
    taken = take_rows(rows, chosen)
    taken.validate(full=True)
    assert taken.schema == rows.schema
    assert taken.column(ROW).to_pylist() == expected
    assert taken.column(RECORD).to_pylist() == [RECORDS[place] for place in expected]


def test_bytes_of_a_row_are_those_of_its_record(rows):
    assert row_bytes(rows.slice(1, 3)).tolist() == [len(record) for record in RECORDS[1:4]]


def test_arrow_has_no_kernel_for_views_yet():
    """Where this fails, `take_rows` can go: https://github.com/apache/arrow/issues/43010."""
    with pytest.raises(pa.ArrowNotImplementedError):
        pa.array(RECORDS, pa.binary_view()).take(pa.array([1]))
