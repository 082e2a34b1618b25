"""Parquet and Avro shards: against what other readers give, in bounded batches, and where files are damaged."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from uuid import UUID

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import BrokenShard
from pipeline.features import Feature
from pipeline.readers import read_shard, source_schema
from pipeline.rows import Columns, PassThrough, Rejected, record_bytes

BIG = 2**53 + 1
FEATURES = {
    "n": Feature("n", "int64"),
    "x": Feature("x", "float32", default=-1.0),
    "words": Feature("words", "string", "varlen"),
    "image": Feature("image", "float32", "fixed", (2, 2)),
}
COLUMNS = Columns(FEATURES, passthrough={"id": PassThrough("id"), "n": PassThrough("n")})


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "unused": pa.array(["u"] * rows),
            "id": pa.array([f"trip {index}" for index in range(rows)]).dictionary_encode(),
            "n": pa.array([None if index % 10 == 9 else BIG + index for index in range(rows)], pa.int64()),
            "x": pa.array([None if index % 7 == 6 else -0.0 for index in range(rows)], pa.float64()),
            "words": pa.array([None if index % 3 == 2 else ["é"] * (index % 3) for index in range(rows)]),
            "image": pa.array([[[index, 1], [2, 3]] for index in range(rows)]),
        }
    )


def parquet(rows: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, **options)
    return sink.getvalue()


def read(data: bytes, format: str, columns: Columns = COLUMNS, **options):
    """Rows as dicts, rejected rows, and how the shard broke."""
    good: list[dict] = []
    rejected: list[Rejected] = []
    count = 0
    try:
        for chunk in read_shard(lambda: io.BytesIO(data), format, columns, **options):
            count += chunk.read
            good += chunk.rows.to_pylist()
            rejected += chunk.rejected
    except BrokenShard as error:
        return good, rejected, str(error)
    assert sorted([row["_row"] for row in good] + [row.row for row in rejected]) == list(range(count))
    return good, rejected, None


@pytest.mark.parametrize("rows", [1, 7, 4096])
@pytest.mark.parametrize("row_group_size", [3, 100])
def test_parquet(rows, row_group_size):
    wanted = table(50).to_pylist()
    good, rejected, broken = read(parquet(table(50), row_group_size=row_group_size), "parquet", rows=rows)
    assert broken is None
    assert [row.row for row in rejected] == [9, 19, 29, 39, 49]
    assert {row.reason for row in rejected} == {"feature 'n': missing, and it has no default"}
    for row in good:
        source = wanted[row["_row"]]
        assert row["passthrough:n"] == row["feature:n"] == source["n"]
        assert row["passthrough:id"] == source["id"]
        assert str(row["feature:x"]) == ("-1.0" if source["x"] is None else "-0.0")
        assert row["feature:words"] == [word.encode() for word in source["words"] or []]
        assert row["feature:image"] == [value for pair in source["image"] for value in pair]
        assert row["record"] == {name: source[name] for name in ("n", "x", "words", "image", "id")}


def test_a_rejected_record_is_an_arrow_stream_of_its_row():
    _, rejected, _ = read(parquet(table(50)), "parquet")
    kept = pa.ipc.open_stream(rejected[1].record).read_all()
    assert kept.select(["id", "x"]).to_pylist() == table(50).slice(19, 1).select(["id", "x"]).to_pylist()
    [chunk] = read_shard(lambda: io.BytesIO(parquet(table(9))), "parquet", COLUMNS)
    later = pa.ipc.open_stream(record_bytes(chunk.rows.slice(2), 3)).read_all()
    assert later.column("id").to_pylist() == ["trip 5"]
    [chunk] = read_shard(lambda: io.BytesIO(parquet(table(9))), "parquet", COLUMNS, keep_record=False)
    assert record_bytes(chunk.rows, 0) is None


def test_parquet_batches_do_not_grow_with_the_row_group():
    wide = pa.table({"v": pa.array(np.random.default_rng(0).normal(size=(2000, 100)).tolist())})
    columns = Columns({"v": Feature("v", "float64", "varlen")})
    chunks = list(read_shard(lambda: io.BytesIO(parquet(wide)), "parquet", columns, max_bytes=80_000))
    assert sum(chunk.read for chunk in chunks) == 2000
    assert max(chunk.read for chunk in chunks) <= 100


@pytest.mark.parametrize(
    "type", [pa.list_(pa.float32()), pa.list_(pa.float32(), 20)], ids=["lists", "fixed-size lists"]
)
def test_parquet_batches_of_a_file_that_is_far_smaller_than_its_rows(type):
    """As a dictionary makes it."""
    equal = pa.table({"x": pa.array([[1.5] * 20] * 5000, type)})
    data = parquet(equal)
    assert 20 * len(data) < equal.nbytes
    columns = Columns({"x": Feature("x", "float32", "fixed", (20,))})
    chunks = list(read_shard(lambda: io.BytesIO(data), "parquet", columns, max_bytes=80_000))
    assert sum(chunk.read for chunk in chunks) == 5000
    assert 900 < max(chunk.read for chunk in chunks) <= 1000


def test_parquet_reads_the_needed_columns_alone():
    read_bytes = 0

    class Counted(io.BytesIO):
        def read(self, size=-1):
            nonlocal read_bytes
            data = super().read(size)
            read_bytes += len(data)
            return data

    rng = np.random.default_rng(0)
    data = parquet(pa.table({"n": [1] * 1000, "large": [rng.bytes(3000) for _ in range(1000)]}))
    list(read_shard(lambda: Counted(data), "parquet", Columns({"n": FEATURES["n"]})))
    assert read_bytes < len(data) / 10


def test_source_schema_of_parquet():
    assert source_schema(lambda: io.BytesIO(parquet(table(3))), "parquet").equals(table(3).schema)
    with pytest.raises(BrokenShard, match=r"^the footer cannot be read: no Parquet file, or its end is lost$"):
        source_schema(lambda: io.BytesIO(b"PAR1"), "parquet")
    with pytest.raises(ValueError, match=r"^shards of format 'csv' do not name types$"):
        source_schema(lambda: io.BytesIO(b""), "csv")


@pytest.mark.parametrize("size", [0, 3, 100, -1], ids=["empty", "tiny", "start", "end lost"])
def test_a_parquet_file_without_its_footer(size):
    assert read(parquet(table(50))[:size], "parquet") == (
        [], [], "the footer cannot be read: no Parquet file, or its end is lost",
    )  # fmt: skip


def test_a_damaged_page_ends_the_shard_after_the_rows_before():
    data = bytearray(parquet(pa.table({"n": range(1000)}), row_group_size=100, write_page_checksum=True))
    column = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(5).column(0)
    data[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 0xFF
    good, _, broken = read(bytes(data), "parquet", Columns({"n": FEATURES["n"]}), rows=100)
    assert [row["feature:n"] for row in good] == list(range(500))
    assert broken == "row 500: the data cannot be read from here on"


def test_an_error_of_the_filesystem_is_not_a_broken_shard():
    class Lost(io.BytesIO):
        reads = 0

        def read(self, size=-1):
            self.reads += 1
            if self.reads > 3:
                raise ConnectionError("the network is down")
            return super().read(size)

    data = parquet(table(5000), row_group_size=100)
    with pytest.raises(ConnectionError, match="the network is down"):
        list(read_shard(lambda: Lost(data), "parquet", COLUMNS))


def test_lost_and_doubled_columns():
    one = Columns({"n": FEATURES["n"]}, sources={"n": "number"})
    lost = "lacks the column 'number' (feature 'n'); name it in input.optional or rename it in input.rename"
    assert read(parquet(table(3)), "parquet", one) == ([], [], f"the Parquet file {lost}")
    with_default = Columns({"n": Feature("n", "int64", default=1)}, sources={"n": "number"})
    assert read(parquet(table(3)), "parquet", with_default)[2] == f"the Parquet file {lost}"
    doubled = pa.table([[1], [2]], names=["n", "n"])
    assert (
        read(parquet(doubled), "parquet", Columns({"n": FEATURES["n"]}))[2]
        == "the Parquet file has 2 columns named 'n'"
    )
    optional = Columns({"n": FEATURES["n"]}, frozenset("n"), {"n": "number"})
    good, _, broken = read(parquet(table(2)), "parquet", optional)
    assert ([row["feature:n"] for row in good], broken) == ([0, 0], None)


def test_no_columns_are_needed():
    assert [row["_row"] for row in read(parquet(table(3)), "parquet", Columns({}))[0]] == [0, 1, 2]
    assert [row["_row"] for row in read(avro(5), "avro", Columns({}))[0]] == [0, 1, 2, 3, 4]


AVRO_SCHEMA = {
    "type": "record", "name": "Trip", "fields": [
        {"name": "n", "type": ["null", "long"]},
        {"name": "x", "type": ["float", "null"]},
        {"name": "words", "type": {"type": "array", "items": "string"}},
        {"name": "image", "type": {"type": "array", "items": {"type": "array", "items": "double"}}},
        {"name": "id", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "other_kind", "type": "Kind"},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "either", "type": ["int", "string"]},
        {"name": "whole", "type": ["int", {"type": "map", "values": "int"}, "null"]},
    ],
}  # fmt: skip
UNREADABLE = ("either", "whole")
AVRO_TYPES = {
    "n": pa.int64(), "x": pa.float32(), "words": pa.list_(pa.string()), "image": pa.list_(pa.list_(pa.float64())),
    "id": pa.string(), "kind": pa.string(), "other_kind": pa.string(), "hash": pa.binary(4), "day": pa.date32(),
    "time": pa.timestamp("us", "UTC"), "price": pa.decimal128(9, 2), "uuid": pa.string(),
}  # fmt: skip


def avro_rows(rows: int) -> list[dict]:
    return [
        {
            "n": None if index % 10 == 9 else BIG + index, "x": None if index % 7 == 6 else -0.0,
            "words": ["é"] * (index % 3), "image": [[index, 1], [2, 3]], "id": f"trip {index}", "kind": "AB"[index % 2],
            "other_kind": "A", "hash": b"\0\1\2\0", "day": datetime.date(2024, 1, 31),
            "time": datetime.datetime(2024, 1, 31, 1, 2, 3, index, datetime.timezone.utc),
            "price": Decimal("12.50"), "uuid": UUID(int=index), "either": 1, "whole": None,
        }
        for index in range(rows)
    ]  # fmt: skip


def avro(rows: int, **options) -> bytes:
    sink = io.BytesIO()
    fastavro.writer(sink, AVRO_SCHEMA, avro_rows(rows), **options)
    return sink.getvalue()


@pytest.mark.parametrize("rows", [1, 7, 4096])
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_avro(codec, rows):
    names = [name for name in AVRO_TYPES if name not in FEATURES]
    columns = Columns(FEATURES, passthrough={name: PassThrough(name) for name in names})
    good, rejected, broken = read(avro(50, codec=codec, sync_interval=300), "avro", columns, rows=rows)
    assert broken is None
    assert [row.row for row in rejected] == [9, 19, 29, 39, 49]
    for row in good:
        source = avro_rows(50)[row["_row"]]
        assert row["feature:n"] == source["n"]
        assert str(row["feature:x"]) == ("-1.0" if source["x"] is None else "-0.0")
        assert row["feature:words"] == [word.encode() for word in source["words"]]
        assert row["feature:image"] == [value for pair in source["image"] for value in pair]
        for name in names:
            assert row[f"passthrough:{name}"] == (str(source[name]) if name == "uuid" else source[name])
    assert pa.ipc.open_stream(rejected[0].record).read_all().column("id").to_pylist() == ["trip 9"]


def test_source_schema_of_avro():
    assert source_schema(lambda: io.BytesIO(avro(1)), "avro").equals(pa.schema(AVRO_TYPES))


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_avro_type_without_an_arrow_type(name):
    columns = Columns({}, passthrough={"p": PassThrough(name)})
    reason = f"the column {name!r} of the Avro file is of a type that cannot be read (a record, map or union)"
    assert read(avro(3), "avro", columns) == ([], [], reason)


def test_a_damaged_avro_block_ends_the_shard_after_the_blocks_before():
    data = avro(50, sync_interval=300)
    sync = data[-16:]
    ends = [index + 16 for index in range(len(data)) if data[index : index + 16] == sync]
    damaged = bytearray(data)
    damaged[ends[5] - 1] ^= 1  # the marker behind the fifth block; ends[0] is the header's
    blocks = [block.num_records for block in fastavro.block_reader(io.BytesIO(data))]
    good, rejected, broken = read(bytes(damaged), "avro")
    assert len(good) + len(rejected) in (sum(blocks[:4]), sum(blocks[:5]))
    assert broken == f"row {len(good) + len(rejected)}: the block that begins here cannot be read"


@pytest.mark.parametrize(
    "data", [b"", b"Obj", b"no Avro file at all" * 10, avro(3)[:200]], ids=["empty", "tiny", "other", "cut"]
)
def test_an_avro_file_without_its_header(data):
    assert read(data, "avro") == ([], [], "the header cannot be read: no Avro file, or damaged")


def test_flipped_bytes_never_raise_anything_else():
    data, rng = avro(20, sync_interval=300), np.random.default_rng(1)
    broken = 0
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        broken += read(bytes(damaged), "avro")[2] is not None
    assert broken > 50


def test_avro_of_another_schema_than_a_record():
    sink = io.BytesIO()
    fastavro.writer(sink, "long", [1, 2])
    assert read(sink.getvalue(), "avro")[2] == "the schema of the Avro file is not a record"
