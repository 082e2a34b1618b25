"""Files of rejected rows as readers see them: which files they are, and records that are not what they should be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import BrokenShard
from pipeline.features import Feature
from pipeline.job import Input
from pipeline.read import with_format
from pipeline.readers import read_shard, rejected_format, source_schema
from pipeline.rows import ORIGIN, REJECTED_SCHEMA, ROW, Columns, Origin, PassThrough, Rejected, Shard, rejected_table

COLUMNS = Columns({"x": Feature("x", "float32")}, passthrough={"id": PassThrough("id", pa.string())})
FORMATS = ["tfrecord", "parquet", "csv", "jsonl", "avro"]


def stream(*rows: dict[str, Any]) -> bytes:
    table = pa.Table.from_pylist(list(rows))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as written:
        written.write_table(table)
    return sink.getvalue().to_pybytes()


def file_of(records: list[bytes | None], record_format: str, **columns: Any) -> bytes:
    """A file of rejected rows 10, 20, ... of the shard s; `columns` replace what it would hold."""
    rejected = [Rejected(10 * (number + 1), "read", "bad", record) for number, record in enumerate(records)]
    table = rejected_table("s", record_format, rejected)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def read(data: bytes, record_format: str, **options: Any) -> tuple[list[dict[str, Any]], list[Rejected]]:
    chunks = list(read_shard(lambda: io.BytesIO(data), record_format, COLUMNS, **options))
    good = [row for chunk in chunks for row in chunk.rows.select(chunk.rows.schema.names).to_pylist()]
    rejected = [row for chunk in chunks for row in chunk.rejected]
    assert sorted([row[ROW] for row in good] + [row.row for row in rejected]) == list(
        range(sum(c.read for c in chunks))
    )
    return good, rejected


GOOD = {
    "tfrecord": b"anything: the graph parses it",
    "parquet": stream({"x": 0.5, "id": "a"}),
    "csv": b'more,x,id\n"two\nlines",0.5,a',
    "jsonl": b'{"x": 0.5, "id": "a"}',
    "avro": stream({"x": 0.5, "id": "a"}),
}
SPOILT: list[tuple[str, bytes, str]] = [
    ("parquet", b"", "its record is not an Arrow stream of one row"),
    ("parquet", b"hello", "its record is not an Arrow stream of one row"),
    ("parquet", GOOD["parquet"][:-40], "its record is not an Arrow stream of one row"),
    ("parquet", stream({"x": 0.5, "id": "a"}, {"x": 0.5, "id": "a"}), "its record is not an Arrow stream of one row"),
    ("parquet", GOOD["parquet"].replace(b"id", b"\xffd"), "its record is not an Arrow stream of one row"),
    ("avro", stream({"id": "a"}), "the record lacks the column 'x' (feature 'x'); name it in input.optional or rename it"),
    ("csv", b"x,id\n0.5,a\n0.5,b", "its record is 3 lines of CSV, not the column names and one row"),
    ("csv", b"0.5,a", "its record is 1 lines of CSV, not the column names and one row"),
    ("csv", b'x,id\n0.5,"a', "its record: the file ends inside a quoted field"),
    ("csv", b"x,id\n0.5,a,1", "expected 2 fields, found 3"),
    ("csv", b"y,id\n0.5,a", "the CSV file lacks the column 'x' (feature 'x')"),
    ("jsonl", b'{"x": 0.5', "the line is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize("record_format", FORMATS)
@pytest.mark.parametrize("asked_rows", [1, 2, 100])
def test_rows_have_their_number_and_their_origin(record_format: str, asked_rows: int) -> None:
    data = file_of([GOOD[record_format], None, GOOD[record_format]], record_format)
    good, [lost] = read(data, record_format, rows=asked_rows)
    assert [(row[ROW], row[ORIGIN]) for row in good] == [(0, {"shard": "s", "row": 10}), (2, {"shard": "s", "row": 30})]
    reason = "its record was not kept (errors.keep_record: false); score its shard again"
    assert lost == Rejected(1, "read", reason, None, Origin("s", 20))
    assert [row["record"] for row in good] == [GOOD[record_format]] * 2
    if record_format != "tfrecord":
        assert [(row["feature:x"], row["passthrough:id"]) for row in good] == [(0.5, "a")] * 2
    assert rejected_format(lambda: io.BytesIO(data)) == (record_format, True)


@pytest.mark.parametrize(
    ("record_format", "record", "reason"), SPOILT, ids=[f"{s[0]}-{n}" for n, s in enumerate(SPOILT)]
)
def test_a_record_that_is_none_costs_itself(record_format: str, record: bytes, reason: str) -> None:
    good, [bad] = read(file_of([GOOD[record_format], record], record_format), record_format)
    assert len(good) == 1
    assert bad == Rejected(1, "read", bad.reason, record, Origin("s", 20))
    assert reason in bad.reason


def test_records_of_several_schemas_are_decoded_apart() -> None:
    records = [stream({"x": x, "id": "a"}) for x in (1.0, 2.0)] + [b"", stream({"id": "b", "x": "3"}), stream({"x": 4})]
    good, bad = read(file_of([*records, GOOD["avro"]], "avro"), "avro")
    assert [(row[ROW], row["feature:x"]) for row in good] == [(0, 1.0), (1, 2.0), (3, 3.0), (5, 0.5)]
    assert [row.row for row in bad] == [2, 4]


@pytest.mark.parametrize("values", [["a", "b", "a"], ["a", "a", "a"]])
def test_dictionaries_of_rows_differ(values: list[str]) -> None:
    def record(value: str) -> bytes:
        row = pa.table({"x": [1.0], "id": pa.array([value]).dictionary_encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, row.schema) as written:
            written.write_table(row)
        return sink.getvalue().to_pybytes()

    good, bad = read(file_of([record(value) for value in values], "parquet"), "parquet")
    assert [row["passthrough:id"] for row in good] == values
    assert not bad


@pytest.mark.parametrize("name", ["_shard", "_row", "_format"])
def test_a_row_that_does_not_tell_all(name: str) -> None:
    values = pa.array([None] * 2, REJECTED_SCHEMA.field(name).type)
    good, bad = read(file_of([GOOD["jsonl"]] * 2, "jsonl", **{name: values}), "jsonl")
    wanted = {
        "_format": (Origin("s", 10), "its record is of another format than jsonl, which this run reads"),
    }.get(name, (None, "the file of rejected rows does not tell its _shard and _row"))
    assert not good
    assert (bad[0].origin, bad[0].reason) == wanted


def test_columns_of_another_type_break_the_file() -> None:
    data = file_of([GOOD["jsonl"]], "jsonl", _row=pa.array(["ten"]))
    with pytest.raises(BrokenShard, match="its columns are not of the types of rejected rows"):
        read(data, "jsonl")


def test_names_that_are_no_text_break_the_file() -> None:
    data = file_of([GOOD["jsonl"]], "jsonl", _shard=pa.array([b"\xff"]).view(pa.string()))
    with pytest.raises(BrokenShard, match="its columns are not of the types of rejected rows"):
        read(data, "jsonl")


def test_types_of_passthrough_columns_are_those_of_the_records() -> None:
    data = file_of([None, stream({"id": 1, "x": 0.5})], "avro")
    assert source_schema(lambda: io.BytesIO(data), "avro") == pa.schema({"id": pa.int64(), "x": pa.float64()})
    with pytest.raises(BrokenShard, match="no row has kept its record"):
        source_schema(lambda: io.BytesIO(file_of([None], "parquet")), "parquet")


@pytest.mark.parametrize("data", [b"", b"PAR", b"PAR1,x\n1,2\n", b"PAR1" * 9], ids=["empty", "short", "csv", "long"])
def test_other_files_are_none(data: bytes) -> None:
    assert rejected_format(lambda: io.BytesIO(data)) is None
    columns = Columns({"x": Feature("x", "int64")})
    if data.startswith(b"PAR1,"):
        [chunk] = read_shard(lambda: io.BytesIO(data), "csv", columns)
        assert chunk.rows.column("feature:x").to_pylist() == [2]


def test_the_first_file_with_rows_tells_the_format(tmp_path: Path) -> None:
    contents = [file_of([], "jsonl"), file_of([GOOD["csv"]], "csv")]
    shards = []
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(content)
        shards.append(Shard(str(path), len(content)))
    source = Input.model_validate({"pattern": str(tmp_path / "*.parquet")})
    assert (source.format, with_format(source, shards).format) == ("parquet", "csv")
    assert with_format(source, shards[:1]).format == "parquet"
    assert with_format(source, []) == source


def test_a_parquet_shard_is_none() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"_shard": ["a"], "_row": [1]}), sink)
    assert rejected_format(lambda: io.BytesIO(sink.getvalue())) is None
