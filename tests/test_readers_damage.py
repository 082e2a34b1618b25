"""Damage that no library tells of by itself; most of it was found by `tests/fuzz`."""

from __future__ import annotations

import io
from collections.abc import Callable

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import BrokenShard
from pipeline.features import Feature
from pipeline.readers import read_shard
from pipeline.rows import Columns

COLUMNS = Columns({"n": Feature("n", "int64", default=0)})
HEADER = "the header cannot be read: no Avro file, or damaged"


def read(data: bytes, record_format: str, columns: Columns = COLUMNS) -> tuple[list[int], str | None]:
    """Values of `n` before the shard breaks, and why it does."""
    values = []
    try:
        for chunk in read_shard(lambda: io.BytesIO(data), record_format, columns):
            values += chunk.rows.column("feature:n").to_pylist()
    except BrokenShard as error:
        return values, str(error)
    return values, None


def avro(rows: int, block_bytes: int = 1) -> bytes:
    schema = {"type": "record", "name": "Row", "fields": [{"name": "n", "type": "long"}]}
    file = io.BytesIO()
    fastavro.writer(file, schema, [{"n": row} for row in range(rows)], sync_interval=block_bytes, sync_marker=b"s" * 16)
    return file.getvalue()


def with_longer_block(data: bytes) -> bytes:
    """The block of the second row with a byte more than its one record takes."""
    block = b"\x02\x02\x02" + b"s" * 16
    assert data.count(block) == 1
    return data.replace(block, b"\x02\x04\x02\x02" + b"s" * 16)


DAMAGED_AVRO: dict[str, tuple[Callable[[], bytes], list[int], str]] = {
    "a block longer than its records": (
        lambda: with_longer_block(avro(3)),
        [0],
        "row 1: the block that begins here cannot be read",
    ),
    "cut off inside a count": (
        lambda: avro(3) + b"\x80",
        [0, 1, 2],
        "row 3: the block that begins here cannot be read",
    ),
    "cut off inside the marker": (lambda: avro(0)[:-1], [], HEADER),
    "cut off inside the marker, rows lost": (lambda: avro(3)[: len(avro(0)) - 5], [], HEADER),
    "another magic number": (lambda: b"Obk" + avro(3)[3:], [], HEADER),
}


@pytest.mark.parametrize("kind", DAMAGED_AVRO)
def test_avro(kind: str) -> None:
    damaged, values, reason = DAMAGED_AVRO[kind]
    assert read(damaged(), "avro") == (values, reason)


def test_avro_that_is_whole() -> None:
    assert read(avro(0), "avro") == ([], None)
    assert read(avro(200, 10_000), "avro") == (list(range(200)), None)


def parquet(name: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2, None], name: [4, 5, 6]}), sink, store_schema=False)
    return sink.getvalue()


def test_a_parquet_column_whose_name_is_no_text() -> None:
    data = parquet("name")
    assert read(data, "parquet") == ([1, 2, 0], None)
    reason = "the footer cannot be read: no Parquet file, or its end is lost"
    assert read(data.replace(b"name", b"n\xffme"), "parquet") == ([], reason)


def test_a_parquet_footer_that_contradicts_itself_does_not_end_the_process() -> None:
    """`n` called a required column, so that the histogram of its levels is too long: pyarrow aborts when it is asked for."""
    data = parquet("name")
    optional = b"\x25\x02\x18\x01n"
    assert data.count(optional) == 1
    values, reason = read(data.replace(optional, b"\x25\x00\x18\x01n"), "parquet")
    assert (values, reason) == ([], "row 0: the data cannot be read from here on")


JSON_NUMBERS = [
    ("1e999", "found a number too large for it"),
    ("-1e999", "found a number too large for it"),
    ("1" * 400 + ".0", "found a number too large for it"),
    ("Infinity", None),
    ("NaN", None),
    ("1e-999", None),
]


@pytest.mark.parametrize(("number", "reason"), JSON_NUMBERS, ids=["large", "negative", "long", "inf", "nan", "tiny"])
@pytest.mark.parametrize("record_format", ["jsonl", "csv"])
def test_a_number_of_json_does_not_become_infinite(record_format: str, number: str, reason: str | None) -> None:
    columns = Columns({"x": Feature("x", "float32", shape=(2,))})
    data = f'{{"x": [1, {number}]}}' if record_format == "jsonl" else f'x\n"[1, {number}]"'
    [chunk] = read_shard(lambda: io.BytesIO(data.encode()), record_format, columns)
    assert chunk.read == 1
    if reason is None:
        assert chunk.rows.num_rows == 1
    else:
        assert [row.reason for row in chunk.rejected] == [f"feature 'x': expected float32, {reason}"]
