"""Independent readers of Avro, written from its specification, and of Parquet: DuckDB, which shares no code with Arrow."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

from fuzz.job import NAMES
from fuzz.oracle import Reading
from fuzz.taken import row_of

_MOST_ITEMS = 10_000


class BrokenError(Exception):
    """The container breaks here."""


class UnknownError(Exception):
    """Something that this reader was not written for."""


def read_avro(data: bytes) -> Reading:
    rows: list[Any] = []
    try:
        source = _Bytes(data)
        decode, sync, codec = _avro_header(source)
        while source.place < len(data):
            count, block = source.long(), _Bytes(codec(source.take(source.long())))
            if source.take(16) != sync:
                raise BrokenError
            if count < 0:
                raise BrokenError
            if count > _MOST_ITEMS:
                raise UnknownError if not block.data else BrokenError
            records = [decode(block) for _ in range(count)]
            if block.place != len(block.data):
                raise BrokenError
            rows += [row_of(record) for record in records]
    except BrokenError:
        return Reading(rows, False)
    except UnknownError:
        return Reading(rows, None)
    return Reading(rows, True)


class _Bytes:
    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.place + size > len(self.data):
            raise BrokenError
        self.place += size
        return self.data[self.place - size : self.place]

    def long(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 63:
                raise BrokenError
        number = (number >> 1) ^ -(number & 1)
        if not -(2**63) <= number < 2**63:
            raise BrokenError
        return number


def _avro_header(source: _Bytes) -> tuple[Callable[[_Bytes], dict[str, Any]], bytes, Callable[[bytes], bytes]]:
    if source.take(4) != b"Obj\x01":
        raise BrokenError
    pairs: dict[bytes, bytes] = {}
    while count := source.long():
        if count < 0:
            source.long()
        if abs(count) > _MOST_ITEMS:
            raise BrokenError
        for _ in range(abs(count)):
            key = source.take(source.long())
            if not _is_text(key):
                raise BrokenError
            pairs[key] = source.take(source.long())
    codecs: dict[bytes, Callable[[bytes], bytes]] = {b"null": bytes, b"deflate": _inflated}
    try:
        schema = json.loads(pairs[b"avro.schema"])
        codec = codecs[pairs.get(b"avro.codec", b"null")]
    except (KeyError, ValueError):
        raise BrokenError from None
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise BrokenError
    try:
        names = [field["name"] for field in schema["fields"] if schema["name"]]
        decode = _decoder(schema)
    except (KeyError, TypeError, AttributeError):
        raise UnknownError from None
    if not set(NAMES) <= set(names):
        raise BrokenError
    if len(set(names)) < len(names):
        raise UnknownError
    return decode, source.take(16), codec


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(-15)
    try:
        inflated = stream.decompress(data)
    except zlib.error:
        raise BrokenError from None
    if not stream.eof:  # some writers leave bytes of zlib's own checksum behind
        raise BrokenError
    return inflated


def _decoder(schema: Any) -> Callable[[_Bytes], Any]:
    if isinstance(schema, list):
        branches = [_decoder(branch) for branch in schema]

        def union(source: _Bytes) -> Any:
            index = source.long()
            if -len(branches) <= index < 0:  # fastavro counts these from the end
                raise UnknownError
            if not 0 <= index < len(branches):
                raise BrokenError
            return branches[index](source)

        return union
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, dict) and "logicalType" in schema:
        raise UnknownError
    if kind == "record":
        fields = [(field["name"], _decoder(field["type"])) for field in schema["fields"]]
        return lambda source: {name: decode(source) for name, decode in fields}
    if kind == "array":
        return _array(_decoder(schema["items"]))
    if not isinstance(kind, str) or kind not in _PRIMITIVES:
        raise UnknownError
    return _PRIMITIVES[kind]


def _array(decode: Callable[[_Bytes], Any]) -> Callable[[_Bytes], list[Any]]:
    def array(source: _Bytes) -> list[Any]:
        items: list[Any] = []
        while count := source.long():
            if count < 0:
                source.long()
            if abs(count) > _MOST_ITEMS:
                raise BrokenError
            items += [decode(source) for _ in range(abs(count))]
        return items

    return array


def _boolean(source: _Bytes) -> bool:
    byte = source.take(1)[0]
    if byte > 1:
        raise UnknownError
    return byte == 1


def _string(source: _Bytes) -> str:
    data = source.take(source.long())
    if not _is_text(data):
        raise BrokenError
    return data.decode()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _int(source: _Bytes) -> int:
    number = source.long()
    if not -(2**31) <= number < 2**31:
        raise UnknownError
    return number


_PRIMITIVES: dict[str, Callable[[_Bytes], Any]] = {
    "null": lambda source: None,
    "boolean": _boolean,
    "int": _int,
    "long": lambda source: source.long(),
    "float": lambda source: struct.unpack("<f", source.take(4))[0],
    "double": lambda source: struct.unpack("<d", source.take(8))[0],
    "bytes": lambda source: source.take(source.long()),
    "string": _string,
}


def read_parquet(path: str) -> Reading:
    """What DuckDB reads; where it does not, it may know less of the format than Arrow does, and cannot tell."""
    import duckdb

    connection = duckdb.connect(config={"threads": 1, "memory_limit": "512MB"})
    try:
        columns = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [path]).fetchall()
        types = {column[0]: column[1] for column in columns}
        if not set(NAMES) <= set(types):
            return Reading([], None)
        chosen = ", ".join(f'"{name}"' for name in NAMES)
        found = connection.execute(f"SELECT {chosen} FROM read_parquet(?)", [path]).fetchall()
    except (duckdb.Error, UnicodeDecodeError, MemoryError):
        return Reading([], None)
    finally:
        connection.close()
    rows = [dict(zip(NAMES, row, strict=True)) for row in found]
    for name in ("words", "note"):
        if types[name].removesuffix("[]") not in ("VARCHAR", "BLOB"):  # an empty list of numbers is no list of words
            rows = [{**row, name: None if row[name] is None else {}} for row in rows]
    return Reading([row_of(row) for row in rows], True)
