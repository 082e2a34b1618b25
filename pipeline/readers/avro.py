"""Avro shards: object container files whose schema is a record."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from uuid import UUID

import fastavro
import numpy as np
import pyarrow as pa
from fastavro.schema import SchemaParseException

from pipeline.decode_rows import decode_rows
from pipeline.errors import BrokenShard
from pipeline.readers.required import require_columns
from pipeline.rows import Chunk, Columns

_PRIMITIVES = {
    "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "bytes": pa.binary(), "string": pa.string(),
}  # fmt: skip
_LOGICAL = {
    "date": pa.date32(), "time-millis": pa.time32("ms"), "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"), "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"), "local-timestamp-micros": pa.timestamp("us"),
}  # fmt: skip
_MAGIC = b"Obj\x01"
_MARKER_BYTES = 16
_DAMAGE = (
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
    StopIteration,
    struct.error,
    zlib.error,
)
"""What fastavro raises on bytes that are not Avro; errors of the filesystem (OSError) are none of them."""


def read_avro(
    file: BinaryIO, columns: Columns, *, rows: int, max_bytes: int, keep_record: bool = True
) -> Iterator[Chunk]:
    """Rows of a shard, block by block, in chunks of up to `rows` rows.

    Raises:
      BrokenShard: the header or a block cannot be read, or a column is missing or of a type that has no place in Arrow;
        all blocks before were yielded.
    """
    blocks, types = _open(file)
    require_columns(columns, list(types), "Avro file")
    names = [name for name in columns.needed if name in types]
    for name in names:
        if types[name] is None:
            raise BrokenShard(
                f"the column {name!r} of the Avro file is of a type that cannot be read (a record, map or union)"
            )
    pending: list[pa.StructArray] = []
    read = held = size = 0
    broken = None
    while True:
        try:
            end = file.tell()
            block = next(blocks, None)
            if block is None:
                if file.tell() != end:  # fastavro takes a file that ends inside a count for one that ends before it
                    raise EOFError("the file ends inside its count")
                break
            records = list(block)
            if len(records) != block.num_records:
                raise ValueError("its count is negative")
            if block.bytes_.read(1):
                raise ValueError("its records end before it does")
            pending.append(_struct(records, names, types))
        except _DAMAGE as error:
            broken = BrokenShard(f"row {read + held}: the block that begins here cannot be read")
            broken.__cause__ = error
            break
        held += len(records)
        size += block.bytes_.getbuffer().nbytes
        if held >= rows or size >= max_bytes:
            yield from _chunks(pending, columns, read, rows, keep_record)
            read, held, size, pending = read + held, 0, 0, []
    yield from _chunks(pending, columns, read, rows, keep_record)
    if broken is not None:
        raise broken


def _chunks(
    pending: list[pa.StructArray], columns: Columns, first: int, rows: int, keep_record: bool
) -> Iterator[Chunk]:
    if not pending:
        return
    records = pa.concat_arrays(pending)
    for start in range(0, len(records), rows):
        record = records.slice(start, rows)
        names = [field.name for field in record.type]
        source = dict(zip(names, record.flatten(), strict=True))
        numbers = np.arange(first + start, first + start + len(record))
        yield decode_rows(source, columns, numbers, record=record if keep_record else None)


def avro_schema(file: BinaryIO) -> pa.Schema:
    """Columns of a shard, without those of a type that cannot be read.

    Raises:
      BrokenShard: the header cannot be read.
    """
    return pa.schema([(name, type) for name, type in _open(file)[1].items() if type is not None])


def _struct(records: list[dict[str, Any]], names: list[str], types: Mapping[str, pa.DataType | None]) -> pa.StructArray:
    """The columns that are needed, of one block."""
    arrays = [_column(records, name, types[name]) for name in names]
    if not arrays:
        return pa.array([{}] * len(records), pa.struct([]))
    return pa.StructArray.from_arrays(arrays, names)


def _column(records: list[dict[str, Any]], name: str, type: pa.DataType | None) -> pa.Array:
    values = [record[name] for record in records]
    if type == pa.string():
        values = [str(value) if isinstance(value, UUID) else value for value in values]
    return pa.array(values, type)


def _open(file: BinaryIO) -> tuple[Any, dict[str, pa.DataType | None]]:
    named: dict[str, pa.DataType] = {}
    try:
        blocks = fastavro.block_reader(file)
        schema = blocks.writer_schema
        header = blocks._header  # fastavro looks at neither of these
        if header["magic"] != _MAGIC or len(header["sync"]) != _MARKER_BYTES:
            raise ValueError("no Avro file, or cut off inside the marker of its blocks")
        if not isinstance(schema, dict) or schema["type"] != "record":
            raise BrokenShard("the schema of the Avro file is not a record")
        return blocks, {field["name"]: _arrow_type(field["type"], named) for field in schema["fields"]}
    except (*_DAMAGE, SchemaParseException) as error:
        raise BrokenShard("the header cannot be read: no Avro file, or damaged") from error


def _arrow_type(schema: Any, named: dict[str, pa.DataType]) -> pa.DataType | None:
    """Arrow type of an Avro schema, None where there is none. named: enums and fixed types that were defined before."""
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema, named.get(schema))
    if isinstance(schema, list):
        some = [branch for branch in schema if branch != "null"]
        return _arrow_type(some[0], named) if len(some) == 1 else (None if some else pa.null())
    kind, logical = schema["type"], schema.get("logicalType")
    if logical == "decimal":
        return pa.decimal128(schema["precision"], schema.get("scale", 0)) if schema["precision"] <= 38 else None
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if kind == "array":
        values = _arrow_type(schema["items"], named)
        return None if values is None else pa.list_(values)
    if kind == "enum":
        named[schema["name"]] = pa.string()
        return pa.string()
    if kind == "fixed":
        named[schema["name"]] = pa.binary(schema["size"])
        return named[schema["name"]]
    return _arrow_type(kind, named) if not isinstance(kind, str) or kind in _PRIMITIVES else None
