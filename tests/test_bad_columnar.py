"""Parquet and Avro shards with bad values, missing columns or damage: what each costs, and what the command says of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_inputs
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_inputs import BAD, TEXT_MARK, BadRow, Bench, BrokenShard, Row, make_rows, with_rows

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

TYPES = {
    "id": pa.int64(),
    "note": pa.string(),
    "x": pa.float32(),
    "n": pa.int64(),
    "pixels": pa.list_(pa.list_(pa.float32())),
    "words": pa.list_(pa.string()),
}
AVRO_TYPES: dict[str, Any] = {
    "id": "long",
    "note": "string",
    "x": ["null", "double"],
    "n": ["null", "long"],
    "pixels": {"type": "array", "items": {"type": "array", "items": ["null", "float"]}},
    "words": {"type": "array", "items": "string"},
}


def table(rows: Sequence[Row], **types: pa.DataType) -> pa.Table:
    """Rows as a table; `types` replace those of columns. A column that no row has is left out."""
    types = {name: type for name, type in {**TYPES, **types}.items() if name in rows[0]}
    return pa.table({name: pa.array([row[name] for row in rows], type) for name, type in types.items()})


def parquet(columns: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(columns, sink, **options)
    return sink.getvalue()


def avro(rows: Sequence[Row], codec: str = "null", **types: Any) -> bytes:
    """Rows as an Avro container, one block a row; `types` replace those of fields, None leaves one out."""
    fields = [{"name": name, "type": type} for name, type in {**AVRO_TYPES, **types}.items() if type is not None]
    schema = fastavro.parse_schema({"type": "record", "name": "Row", "fields": fields})
    file = io.BytesIO()
    fastavro.writer(file, schema, rows, codec=codec, sync_interval=1, sync_marker=b"s" * 16)
    return file.getvalue()


@dataclass(frozen=True)
class Bad:
    """One bad value of a feature. type: of its column, where it is not the usual one; written: what good rows have there."""

    name: str
    value: Any
    reason: str
    type: pa.DataType | None = None
    written: Callable[[Any], Any] = lambda value: value


PIXELS = "feature 'pixels': expected shape (2, 2) = 4 values, found "
INTEGER = "feature 'n': expected int64, found "
BAD_VALUES = {
    "null": Bad("x", None, "feature 'x': missing, and it has no default"),
    "null for a shape": Bad("pixels", None, "feature 'pixels': missing, and it has no default"),
    "fraction for integer": Bad("n", 31337313.5, f"{INTEGER}a number with a fraction", pa.float64()),
    "float beyond 2^53 for integer": Bad(
        "n", 3.1337313e16, f"{INTEGER}a float64 too large to tell which integer it was", pa.float64()
    ),
    "NaN for integer": Bad("n", float("nan"), f"{INTEGER}a number that is not finite", pa.float64()),
    "out of range": Bad("n", 31337313 * 10**11 + 2**63, f"{INTEGER}a number out of its range", pa.uint64()),
    "decimal out of range": Bad("n", 31337313 * 10**15, f"{INTEGER}a number out of its range", pa.decimal128(30)),
    "text for integer": Bad("n", TEXT_MARK, f"{INTEGER}text that is not a number", pa.string(), str),
    "too large for float32": Bad(
        "x", 3.1337313e39, "feature 'x': expected float32, found a number too large for it", pa.float64()
    ),
    "wrong length": Bad("pixels", [[31337313.0, 2.0], [3.0]], f"{PIXELS}lists of different lengths"),
    "wrong shape": Bad("pixels", [[31337313.0, 2.0]], f"{PIXELS}shape (1, 2)"),
    "empty list": Bad("pixels", [], f"{PIXELS}shape (0,)"),
    "flat and short": Bad(
        "pixels", [31337313.0, 2.0, 3.0], f"{PIXELS}3 values", pa.list_(pa.float32()), lambda lines: [*lines[0], *lines[1]]
    ),
    "null inside a list": Bad("pixels", [[31337313.0, None], [3.0, 4.0]], "feature 'pixels': a null inside its list"),
    "null inside words": Bad("words", [TEXT_MARK, None], "feature 'words': a null inside its list"),
    "text to pass through as integer": Bad(
        "id", TEXT_MARK, "pass-through column 'id': expected int64, found text that is not a number", pa.string(), str
    ),
    "bytes to pass through as text": Bad(
        "note", b"\xff" + TEXT_MARK.encode(),
        "pass-through column 'note': its text is not UTF-8; write dtype: binary", pa.binary(), str.encode,
    ),
}  # fmt: skip


@pytest.mark.fault("one-bad-row")
def test_bad_parquet_values_cost_their_rows(bench: Bench) -> None:
    bench.format = "parquet"
    shards, bad_x = {}, {}
    for kind, rows, bad in with_rows(BAD_VALUES):
        for row in rows:
            row["n"] = row["id"]  # a double holds it
        written = [{**row, bad.name: bad.written(row[bad.name])} for row in rows]
        written[BAD][bad.name] = bad.value
        bad_x[kind] = [written[BAD]["x"]]
        types = {bad.name: bad.type} if bad.type else {}
        shards[kind] = BadRow(parquet(table(written, **types)), rows, bad.reason)
    outcome = bench.assert_bad_rows_cost_themselves(shards)
    kept = {Path(row["_shard"]).stem: pa.ipc.open_stream(row["_record"]).read_all() for row in outcome.rejected}
    assert {kind: row.column("x").to_pylist() for kind, row in kept.items()} == bad_x


def damaged_page(rows: Sequence[Row], compression: str) -> bytes:
    """Parquet with a row group for each two rows, and a bit flipped in the last row of `id`, or where it is compressed."""
    plain = compression == "none"
    data = parquet(
        table(rows), row_group_size=2, use_dictionary=False, compression=compression, write_page_checksum=plain
    )
    last = pq.read_metadata(io.BytesIO(data)).row_group(2).column(0)
    end = last.data_page_offset + last.total_compressed_size
    zstd_magic = b"\x28\xb5\x2f\xfd"
    return _flipped(data, end - 3 if plain else data.index(zstd_magic, last.data_page_offset))


def without(name: str, rows: Sequence[Row]) -> list[Row]:
    return [{key: value for key, value in row.items() if key != name} for row in rows]


def twice(rows: Sequence[Row]) -> bytes:
    columns = table(rows)
    return parquet(columns.append_column("x", columns.column("x")))


LACKS = "lacks the column 'x' (feature 'x'); name it in input.optional or rename it in input.rename"
FOOTER = "the footer cannot be read: no Parquet file, or its end is lost"
PAGE = "row 4: the data cannot be read from here on"
BROKEN_PARQUET: dict[str, tuple[Callable[[list[Row]], bytes], int, str]] = {
    "footer cut off": (lambda rows: parquet(table(rows))[:-20], 0, FOOTER),
    "empty file": (lambda rows: b"", 0, FOOTER),
    "an image": (lambda rows: b"\x89PNG\r\n\x1a\n" + TEXT_MARK.encode() * 9, 0, FOOTER),
    "only the first half": (lambda rows: parquet(table(rows))[:1000], 0, FOOTER),
    "page with a wrong checksum": (lambda rows: damaged_page(rows, "none"), 4, PAGE),
    "damaged page": (lambda rows: damaged_page(rows, "zstd"), 4, PAGE),
    "column missing": (lambda rows: parquet(table(without("x", rows))), 0, f"the Parquet file {LACKS}"),
    "pass-through column missing": (
        lambda rows: parquet(table(without("note", rows))), 0,
        "the Parquet file lacks the column 'note' (pass-through column 'note'); "
        "leave it out of output.passthrough or rename it in input.rename",
    ),
    "column twice": (twice, 0, "the Parquet file has 2 columns named 'x'"),
}  # fmt: skip


@pytest.mark.fault("one-broken-shard")
def test_broken_parquet_shards_cost_themselves(bench: Bench) -> None:
    bench.format, bench.settings = "parquet", {"batch": {"rows": 2}}
    good = make_rows(3, first=1000)
    bench.assert_broken_shards_cost_themselves(broken(BROKEN_PARQUET), parquet(table(good)), good)


def broken(kinds: Mapping[str, tuple[Callable[[list[Row]], bytes], int, str]]) -> dict[str, BrokenShard]:
    return {
        kind: BrokenShard(spoil(rows), rows[:kept], reason) for kind, rows, (spoil, kept, reason) in with_rows(kinds)
    }


@pytest.mark.parametrize("format", ["parquet", "avro"])
def test_optional_column_may_be_missing(format: str, bench: Bench) -> None:
    bench.format = format
    rows, good = make_rows(3), make_rows(3, first=3)
    lacking = without("x", rows)
    bench.shard(parquet(table(lacking)) if format == "parquet" else avro(lacking, x=None), "a")
    bench.shard(parquet(table(good)) if format == "parquet" else avro(good), "b")
    outcome = bench.score(input={"optional": ["x"]})
    assert outcome.code == 0, outcome.error
    assert outcome.scored == bench.expected([*({**row, "x": 0.0} for row in rows), *good])
    assert outcome.manifest is not None
    assert outcome.manifest["features"]["x"] == {"present": 3, "missing": 3}


def test_column_that_no_row_can_have(bench: Bench) -> None:
    bench.format = "parquet"
    rows = make_rows(4)
    bench.shard(parquet(table([{**row, "x": True} for row in rows], x=pa.bool_())))
    outcome = bench.score(errors={"max_bad_rows": 100})
    assert outcome.code == 6
    assert "feature 'x': expected float32, found bool" in outcome.error
    assert "the job is wrong and not the rows" in outcome.error


def test_shards_that_disagree_on_a_pass_through_type(bench: Bench) -> None:
    bench.format = "parquet"
    rows, others = make_rows(3), make_rows(3, first=3)
    bench.shard(parquet(table(rows)), "a")
    bench.shard(parquet(table([{**row, "id": TEXT_MARK} for row in others], id=pa.string())), "b")
    outcome = bench.score(output={"passthrough": ["id"]}, errors={"max_bad_rows": 3})
    assert outcome.code == 0, outcome.error
    reason = "pass-through column 'id': expected int64, found text that is not a number"
    assert outcome.reasons == [("b.parquet", number, "read", reason) for number in range(3)]
    assert outcome.scored == bench.expected(rows)


def test_pass_through_column_that_no_shard_has(bench: Bench) -> None:
    bench.format = "parquet"
    bench.shard(parquet(table(make_rows(3))))
    outcome = bench.score(output={"passthrough": ["id", "trip"]})
    assert outcome.code == 2
    assert outcome.error == (
        "error: output.passthrough: trip: the shards have no column 'trip'; they have: id, note, x, n, pixels, words\n"
    )


BROKEN_AVRO: dict[str, tuple[Callable[[list[Row]], bytes], int, str]] = {
    "cut off inside a block": (lambda rows: avro(rows)[:-20], 4, "row 4: the block that begins here cannot be read"),
    "damaged block": (
        lambda rows: _flipped(avro(rows, codec="deflate"), -40), 4, "row 4: the block that begins here cannot be read"
    ),
    "wrong sync marker": (
        lambda rows: _flipped(avro(rows), -3), 4, "row 4: the block that begins here cannot be read"
    ),
    "an image": (
        lambda rows: b"\x89PNG\r\n\x1a\n" + TEXT_MARK.encode() * 9, 0,
        "the header cannot be read: no Avro file, or damaged",
    ),
    "empty file": (lambda rows: b"", 0, "the header cannot be read: no Avro file, or damaged"),
    "field missing": (lambda rows: avro(without("x", rows), x=None), 0, f"the Avro file {LACKS}"),
    "field of a type without a place": (
        lambda rows: avro([{**row, "x": {TEXT_MARK: row["x"]}} for row in rows], x={"type": "map", "values": "double"}), 0,
        "the column 'x' of the Avro file is of a type that cannot be read (a record, map or union)",
    ),
}  # fmt: skip


def _flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


@pytest.mark.fault("one-broken-shard")
def test_broken_avro_shards_cost_themselves(bench: Bench) -> None:
    bench.format, bench.settings = "avro", {"batch": {"rows": 2}}
    good = make_rows(3, first=1000)
    bench.assert_broken_shards_cost_themselves(broken(BROKEN_AVRO), avro(good), good)


BAD_AVRO_VALUES = {
    "null": ({"x": None}, {}, "feature 'x': missing, and it has no default"),
    "too large for float32": ({"x": 3.1337313e39}, {}, "feature 'x': expected float32, found a number too large for it"),
    "fraction for integer": ({"n": 31337313.5}, {"n": "double"}, f"{INTEGER}a number with a fraction"),
    "one of two lists short": ({"pixels": [[1.0, 2.0], [31337313.0]]}, {}, f"{PIXELS}lists of different lengths"),
    "null inside a list": (
        {"pixels": [[1.0, 2.0], [31337313.0, None]]}, {}, "feature 'pixels': a null inside its list",
    ),
}  # fmt: skip


@pytest.mark.fault("one-bad-row")
def test_bad_avro_values_cost_their_rows(bench: Bench) -> None:
    bench.format = "avro"
    shards = {}
    for kind, rows, (value, types, reason) in with_rows(BAD_AVRO_VALUES):
        written = [{**row, **value} if row is rows[BAD] else row for row in rows]
        shards[kind] = BadRow(avro(written, **types), rows, reason)
    bench.assert_bad_rows_cost_themselves(shards)
