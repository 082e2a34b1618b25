"""Batches of rows, as record batches and as serialized records beside one: both behave alike."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest

from pipeline.batch import row_bytes
from pipeline.rows import ORIGIN, ROW, Rows, record_bytes, take_rows
from pipeline.serialized_rows import RECORD, SerializedRows, concat_rows

RECORDS = [b"", b"short", b"trailing zero\0", b"\xff\x00", b"x" * 1000]
NUMBERS = pa.array(range(len(RECORDS)), pa.int64())


def plain() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([NUMBERS, pa.array(RECORDS, pa.binary())], [ROW, RECORD])


def serialized() -> SerializedRows:
    return SerializedRows.of(pa.RecordBatch.from_arrays([NUMBERS], [ROW]), RECORDS)


@pytest.fixture(params=[plain, serialized], ids=["record batch", "serialized"])
def rows(request) -> Rows:
    return request.param()


def listed(rows: Rows) -> list[tuple[int, bytes]]:
    return list(zip(rows.column(ROW).to_pylist(), rows.column(RECORD).to_pylist(), strict=True))


def expected(places: list[int]) -> list[tuple[int, bytes]]:
    return [(place, RECORDS[place]) for place in places]


@pytest.mark.parametrize(
    ("chosen", "places"),
    [
        (np.array([4, 0, 3]), [4, 0, 3]),
        (np.arange(5)[::-1], [4, 3, 2, 1, 0]),
        (np.array([False, True, True, False, True]), [1, 2, 4]),
        (np.zeros(5, bool), []),
    ],
    ids=["some", "reversed", "mask", "none"],
)
def test_rows_are_taken(rows, chosen, places):
    taken = take_rows(rows, chosen)
    assert taken.schema == rows.schema == plain().schema
    assert taken.num_rows == len(places)
    assert listed(taken) == expected(places)


@pytest.mark.parametrize("bounds", [(0, 5), (1, 3), (4, 5), (3, None), (5, None)], ids=str)
def test_slices(rows, bounds):
    start, end = bounds
    some = rows.slice(start) if end is None else rows.slice(start, end - start)
    places = list(range(len(RECORDS)))[start:end]
    assert (some.num_rows, listed(some)) == (len(places), expected(places))
    assert row_bytes(some).tolist() == [len(RECORDS[place]) for place in places]


def test_slices_of_slices_are_put_together(rows):
    together = concat_rows([rows.slice(1, 4).slice(2, 2), rows.slice(0, 1), take_rows(rows, np.array([2]))])
    assert listed(together) == expected([3, 4, 0, 2])
    assert row_bytes(together).tolist() == [2, 1000, 0, 14]


def test_columns_beside_the_records(rows):
    origins = pa.array([{"shard": "a", "row": row + 10} for row in range(5)])
    numbered = rows.set_column(rows.schema.get_field_index(ROW), ROW, pa.array(range(7, 12), pa.int64()))
    wider = numbered.append_column(ORIGIN, origins).slice(3)
    assert set(wider.schema.names) == {ROW, RECORD, ORIGIN}
    assert listed(wider) == [(10, RECORDS[3]), (11, RECORDS[4])]
    assert wider.column(ORIGIN).field("row").to_pylist() == [13, 14]
    assert wider.select([ORIGIN]).schema.names == [ORIGIN]


def test_other_records(rows):
    others = [record + b"!" for record in RECORDS]
    changed = rows.set_column(rows.schema.get_field_index(RECORD), RECORD, pa.array(others, pa.binary()))
    assert changed.column(RECORD).to_pylist() == others
    assert row_bytes(changed).tolist() == [len(record) for record in others]
    assert changed.column(ROW).equals(NUMBERS)


def test_a_record_is_kept_as_it_stands(rows):
    assert [record_bytes(rows.slice(1), index) for index in range(4)] == RECORDS[1:]


def test_between_processes(rows):
    assert listed(pickle.loads(pickle.dumps(rows.slice(1, 3)))) == expected([1, 2, 3])


def test_records_count_as_bytes_of_a_batch():
    assert serialized().nbytes == NUMBERS.nbytes + sum(map(len, RECORDS))
    assert serialized().slice(4).nbytes == 8 + 1000
