"""Independent readers of TFRecord, CSV and JSON lines, written from their specifications, a byte at a time."""

from __future__ import annotations

import csv as python_csv
import io
import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fuzz.job import NAMES, Row
from fuzz.oracle_example import Either, read_example
from fuzz.shards import masked
from fuzz.taken import Number, row_of


class Reading(NamedTuple):
    """What a reader makes of a shard.

    rows: those before the container breaks, in order; None for a bad one, and `Either` where that depends on the reader.
    whole: whether it does not break; None: this reader cannot tell.
    all_before: whether the pipeline has to keep all of `rows` if it breaks; in a compressed stream it is not defined
        how many bytes before the damage come out.
    """

    rows: Sequence[Row | Either | None]
    whole: bool | None
    all_before: bool = True


def read_tfrecord(data: bytes) -> Reading:
    inflated, sound = data, True
    if not (len(data) >= 12 and masked(data[:8]) == data[8:12]):
        inflated, sound = _inflated(data, zlib_too=True)
    rows: list[Row | Either | None] = []
    place = 0
    while place < len(inflated):
        length = inflated[place : place + 8]
        if len(length) < 8 or masked(length) != inflated[place + 8 : place + 12]:
            return Reading(rows, False, inflated is data)
        end = place + 12 + struct.unpack("<Q", length)[0]
        if end + 4 > len(inflated):
            return Reading(rows, False, inflated is data)
        record = inflated[place + 12 : end]
        rows.append(read_example(record) if masked(record) == inflated[end : end + 4] else None)
        place = end + 4
    return Reading(rows, sound, inflated is data)


def read_jsonl(data: bytes) -> Reading:
    text, sound, plain = _text(data)
    if text is None:
        return Reading([], False)
    lines = text.split(b"\n")
    if not sound:
        lines.pop()  # nobody knows how it goes on
    rows = [row_of(_object(line.removesuffix(b"\r"))) for line in lines if line.strip()]
    return Reading(rows, sound, plain)


def read_csv(data: bytes) -> Reading:
    text, sound, plain = _text(data)
    if text is None:
        return Reading([], False)
    lines, whole = _csv_lines(text, sound)
    if whole:
        _agree_with_python(text, lines)
    if not lines:
        return Reading([], False)
    try:
        names = [(field or b"").decode() for field in lines[0]]
    except UnicodeDecodeError:
        return Reading([], False)
    if len(set(names)) < len(names) or not set(NAMES) <= set(names):
        return Reading([], False)
    rows: list[Row | None] = []
    for line in lines[1:]:
        values = None
        if len(line) == len(names):
            values = _csv_values(dict(zip(names, line, strict=True)))
        rows.append(None if values is None else row_of(values))
    return Reading(rows, whole, plain)


def _csv_values(cells: dict[str, bytes | None]) -> dict[str, Any] | None:
    """Cells of one row as values: JSON where a feature is a list or has a shape; None if that is no JSON."""
    values: dict[str, Any] = dict(cells)
    for name in ("pixels", "words"):
        cell = cells[name]
        if cell is not None:
            try:
                values[name] = _json(cell.decode(), unique=False)
            except (ValueError, RecursionError):
                return None
    return values


def _csv_lines(text: bytes, sound: bool) -> tuple[list[list[bytes | None]], bool]:
    """Fields of all lines before the quoting breaks, and whether it does not; a missing field is None."""
    lines: list[list[bytes | None]] = []
    place, size = 0, len(text)
    while place < size:
        if text[place : place + 1] == b"\n" or text[place : place + 2] == b"\r\n":
            place += 1 if text[place] == 0x0A else 2
            continue
        line: list[bytes | None] = []
        while True:
            start = place
            if text[place : place + 1] == b'"':
                place += 1
                while True:
                    quote = text.find(b'"', place)
                    if quote < 0:
                        return lines, False
                    place = quote + 1
                    if text[place : place + 1] != b'"':
                        break
                    place += 1
                line.append(text[start + 1 : place - 1].replace(b'""', b'"'))
            else:
                while place < size and text[place] not in b',\n\r"':
                    place += 1
                line.append(text[start:place] or None)
            if text[place : place + 1] == b",":
                place += 1
                continue
            break
        if place < size and text[place : place + 1] != b"\n" and text[place : place + 2] != b"\r\n":
            return lines, False
        if place >= size and not sound:
            return lines, False
        lines.append(line)
        place += 1 if text[place : place + 1] == b"\n" else 2
    return lines, sound


def _agree_with_python(text: bytes, lines: list[list[bytes | None]]) -> None:
    """Hold this reader against Python's in strict mode, byte for character."""
    reader = python_csv.reader(io.StringIO(text.decode("latin-1"), newline=""), strict=True)
    theirs = [[field.encode("latin-1") for field in line] for line in reader if line]
    assert theirs == [[field or b"" for field in line] for line in lines], "the oracle for CSV is wrong"


def _object(line: bytes) -> dict[str, Any]:
    """The object of a line; one without values, so that it is bad, where there is none."""
    try:
        value = _json(line.decode(), unique=True)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _json(text: str, unique: bool) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if unique and len({name for name, _ in found}) < len(found):
            raise ValueError("twice")
        return dict(found)

    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=float, object_pairs_hook=pairs)


def _text(data: bytes) -> tuple[bytes | None, bool, bool]:
    """Text of a shard without a byte order mark (None: UTF-16), whether it is all there, and whether it is plain."""
    text, sound = _inflated(data) if data[:2] == b"\x1f\x8b" else (data, True)
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return None, False, False
    return text.removeprefix(b"\xef\xbb\xbf"), sound, data[:2] != b"\x1f\x8b"


def _inflated(data: bytes, zlib_too: bool = False) -> tuple[bytes, bool]:
    """What comes out of a gzip or zlib stream before it breaks, byte for byte, and whether it does not break."""
    if data[:2] == b"\x1f\x8b":
        return _pieces(data, 31)
    is_zlib = len(data) >= 2 and data[0] & 15 == 8 and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0
    return _pieces(data, 15) if zlib_too and is_zlib else (data, True)


def _pieces(data: bytes, window: int) -> tuple[bytes, bool]:
    out = bytearray()
    stream = zlib.decompressobj(window)
    for byte in _bytes(data):
        if stream.eof:
            if window == 31 and byte == b"\0":
                continue  # padding
            if window == 15 or byte != b"\x1f":
                return bytes(out), False
            stream = zlib.decompressobj(window)
        try:
            out += stream.decompress(byte)
        except zlib.error:
            return bytes(out), False
    return bytes(out), stream.eof


def _bytes(data: bytes) -> Iterator[bytes]:
    return (data[place : place + 1] for place in range(len(data)))
