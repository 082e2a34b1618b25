"""Shards to mutate, in many ways of writing each format; with records of which some are bad in a container that is whole."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import fastavro
import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuzz.examples import example, spoilt_example
from fuzz.job import NAMES, good_rows
from fuzz.mutate import mutate

Rows = Sequence[dict[str, Any]]
INF, NAN = float("inf"), float("nan")
ODD: Sequence[Any] = (
    None, True, "", "text", "1", " 2.50 ", "1e3", "1e999", "nan", "-inf", "0x10", "1_000", "\u0661", "9" * 25, "1e-400",
    0, 1.5, -1.0, 1e39, 2**53, 2.0**53, 2**63, -(2**63), 2**64, 10**400, NAN, INF, [], [1], [1, 2], [1, 2, 3, 4],
    [[1, 2], [3, 4]], [[1, 2], [3]], [[1, 2, 3, 4]], [None], [[1, None], [3, 4]], ["a", None], ["a", "b"], [["a"]], {},
    {"a": 1}, "[[1, 2], [3, 4]]", "[1, 2", '["a", "é"]', "\ud800", "\0", "[1e999, 2, 3, 4]", "NaN", "[NaN, 1, 2, 3]",
)  # fmt: skip


def make_shard(record_format: str, rng: random.Random, spoil: bool) -> bytes:
    """A whole container; some of its records are not good if `spoil`."""
    return {"tfrecord": tfrecord, "parquet": parquet, "csv": csv, "jsonl": jsonl, "avro": avro}[record_format](
        good_rows(rng), rng, spoil
    )


def compressed(data: bytes, rng: random.Random, *how: Callable[[bytes], bytes]) -> bytes:
    return rng.choice([bytes, *how])(data)


def in_two_members(data: bytes) -> bytes:
    middle = len(data) // 2
    return gzip.compress(data[:middle], mtime=0) + gzip.compress(data[middle:], mtime=0)


def one_member(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def tfrecord(rows: Rows, rng: random.Random, spoil: bool) -> bytes:
    records = [spoilt_example(row, rng) if spoil and rng.random() < 0.5 else example(row, rng) for row in rows]
    return compressed(b"".join(map(framed, records)), rng, bytes, one_member, in_two_members, zlib.compress)


def framed(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def jsonl(rows: Rows, rng: random.Random, spoil: bool) -> bytes:
    lines = []
    for row in rows:
        if spoil and rng.random() < 0.5:
            row = {**row, rng.choice(NAMES): rng.choice(ODD)}
        line = json.dumps(row, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
        if spoil and rng.random() < 0.2:
            line = line.replace(
                b"null", rng.choice([b"1e999", b"-1e999", b"9007199254740993", b"1.0", b"-0", b"1E400"])
            )
        lines.append(mutate(line, rng, line).replace(b"\n", b" ") if spoil and rng.random() < 0.2 else line)
    end = rng.choice([b"\n", b"\n", b"\r\n", b"\n\n"])
    data = rng.choice([b"", b"", b"\xef\xbb\xbf"]) + end.join(lines) + rng.choice([end, b""])
    return compressed(data, rng, bytes, one_member, in_two_members)


def csv(rows: Rows, rng: random.Random, spoil: bool) -> bytes:
    names = [*NAMES, "more"]
    rng.shuffle(names)
    lines = [[quoted(name.encode(), rng) for name in names]]
    for row in rows:
        values = {**row, "more": "x"}
        if spoil and rng.random() < 0.5:
            values[rng.choice(NAMES)] = rng.choice(ODD)
        line = [cell(values[name], rng) for name in names]
        if spoil and rng.random() < 0.1:
            line = rng.choice([line[:-1], [*line, b""], [*line, b'"x"'], [b""] * len(line)])
        lines.append(line)
    end = rng.choice([b"\n", b"\r\n", b"\n\r\n"])
    data = rng.choice([b"", b"", b"\xef\xbb\xbf"]) + end.join(map(b",".join, lines)) + rng.choice([end, b""])
    return compressed(data, rng, bytes, one_member, in_two_members)


def cell(value: Any, rng: random.Random) -> bytes:
    if value is None:
        return b""
    written = json.dumps(value) if isinstance(value, (list, dict)) else str(value)
    return quoted(written.encode(errors="surrogatepass"), rng)


def quoted(written: bytes, rng: random.Random) -> bytes:
    if not written or any(mark in written for mark in b'",\r\n') or rng.random() < 0.2:
        return b'"' + written.replace(b'"', b'""') + b'"'
    return written


ARROW_TYPES: dict[str, Sequence[Any]] = {
    "x": [pa.float32(), pa.float64(), pa.string(), pa.int64(), pa.decimal128(20, 4), pa.float16(), pa.list_(pa.float32())],
    "n": [pa.int64(), pa.int32(), pa.uint64(), pa.float64(), pa.string(), pa.decimal128(30, 2), pa.bool_(), pa.binary()],
    "pixels": [pa.list_(pa.list_(pa.float32())), pa.list_(pa.float64()), pa.list_(pa.list_(pa.float32(), 2), 2)],
    "words": [pa.list_(pa.string()), pa.list_(pa.binary()), pa.list_(pa.large_string()), pa.string(), pa.list_(pa.int64())],
    "id": [pa.int64(), pa.int32(), pa.string(), pa.float64(), pa.list_(pa.int64())],
    "note": [pa.string(), pa.binary(), pa.large_string(), pa.int64()],
}  # fmt: skip


def parquet(rows: Rows, rng: random.Random, spoil: bool) -> bytes:
    columns = {}
    for name, types in ARROW_TYPES.items():
        usual = [row[name] for row in rows]
        wanted = rng.choice(types) if spoil and rng.random() < 0.3 else types[0]
        values = [rng.choice(ODD) if spoil and rng.random() < 0.2 else value for value in usual]
        columns[name] = arrow_array(values, usual, wanted)
        if rng.random() < 0.1 and not pa.types.is_nested(columns[name].type) and columns[name].type != pa.float16():
            columns[name] = columns[name].dictionary_encode()
    table = pa.table({**columns, "more": pa.array(range(len(rows)), pa.int64())})
    sink = io.BytesIO()
    pq.write_table(
        table.select(rng.sample(table.schema.names, table.num_columns)),
        sink,
        compression=rng.choice(["none", "none", "none", "snappy", "gzip", "zstd", "lz4", "brotli"]),
        use_dictionary=rng.random() < 0.5,
        row_group_size=rng.choice([1, 3, 100]),
        data_page_size=rng.choice([16, 1 << 20]),
        data_page_version=rng.choice(["1.0", "2.0"]),
        write_page_checksum=rng.random() < 0.3,
        store_schema=rng.random() < 0.8,
    )
    return sink.getvalue()


def arrow_array(values: Sequence[Any], usual: Sequence[Any], wanted: pa.DataType) -> pa.Array:
    """Values as an array of a type, null where one does not fit."""
    scalars = []
    for value, other in zip(values, usual, strict=True):
        for candidate in (value, other, str(other), None):
            if candidate is None and pa.types.is_fixed_size_list(wanted):
                continue  # Arrow writes it and cannot read it: https://github.com/apache/arrow/issues/35692
            try:
                if pa.types.is_decimal(wanted) and isinstance(candidate, (int, float)):
                    candidate = Decimal(str(candidate))
                if pa.types.is_float16(wanted) and candidate is not None:
                    with np.errstate(over="ignore"):
                        candidate = np.float16(candidate)
                scalars.append(pa.array([candidate], wanted)[0].as_py())
                break
            except (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError):
                continue
    if pa.types.is_float16(wanted):
        scalars = [None if value is None else np.float16(value) for value in scalars]
    return pa.array(scalars, wanted)


AVRO_TYPES: dict[str, Sequence[Any]] = {
    "x": ["float", "double", ["null", "float"], "string", "long", "int"],
    "n": [["null", "long"], ["long", "null"], ["null", "int"], ["null", "string"], ["null", "double"], ["null", "boolean"]],
    "pixels": [
        {"type": "array", "items": {"type": "array", "items": "float"}},
        {"type": "array", "items": {"type": "array", "items": ["null", "double"]}},
        ["null", {"type": "array", "items": {"type": "array", "items": "float"}}],
    ],
    "words": [{"type": "array", "items": "string"}, {"type": "array", "items": ["null", "bytes"]}],
    "id": [["null", "long"], ["null", "string"], ["null", {"type": "array", "items": "long"}]],
    "note": [["null", "string"], ["null", "bytes"]],
}  # fmt: skip


def avro(rows: Rows, rng: random.Random, spoil: bool) -> bytes:
    types = {name: rng.choice(some) if spoil and rng.random() < 0.4 else some[0] for name, some in AVRO_TYPES.items()}
    fields = [{"name": name, "type": type} for name, type in types.items()] + [{"name": "more", "type": "int"}]
    rng.shuffle(fields)
    schema = fastavro.parse_schema({"type": "record", "name": "Row", "fields": fields})
    records = []
    for row in rows:
        record = {name: avro_value(row[name], types[name], spoil, rng) for name in NAMES} | {"more": 1}
        records.append(record)
    file = io.BytesIO()
    fastavro.writer(
        file, schema, records, rng.choice(["null", "null", "deflate"]),
        sync_interval=rng.choice([1, 100, 16000]), sync_marker=rng.randbytes(16),
    )  # fmt: skip
    return file.getvalue()


def avro_value(value: Any, wanted: Any, spoil: bool, rng: random.Random) -> Any:
    """A value of an Avro type, near the given one."""
    if isinstance(wanted, list):
        branch = next(some for some in wanted if some != "null")
        return None if value is None or (spoil and rng.random() < 0.2) else avro_value(value, branch, spoil, rng)
    if isinstance(wanted, dict):
        items = value if isinstance(value, list) else [value]
        if spoil and rng.random() < 0.1:
            items = rng.choice([items[:-1], items + items[:1], []])
        return [avro_value(item, wanted["items"], spoil, rng) for item in items]
    if wanted in ("float", "double", "int", "long"):
        number = value if isinstance(value, (int, float)) else 3
        if wanted in ("float", "double"):
            odd = [NAN, INF, 1e38, 0.5, 2.0**53, 3.0] + ([1e300] if wanted == "double" else [])
            return rng.choice(odd) if spoil and rng.random() < 0.3 else float(number)
        return int(number) % 2**31
    if wanted == "boolean":
        return bool(value)
    written = str(rng.choice(["text", "1.5", "7", ""]) if spoil and rng.random() < 0.3 else value)
    if wanted == "bytes":
        return rng.choice([b"\xff\xfe", written.encode()]) if spoil else written.encode()
    return written
