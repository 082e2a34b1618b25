"""JSON lines shards: one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pipeline.decode_rows import decode_rows
from pipeline.decode_text import parse_json
from pipeline.errors import BrokenShard
from pipeline.readers.compression import text_blocks
from pipeline.rows import Chunk, Columns


def read_jsonl(
    file: BinaryIO,
    columns: Columns,
    *,
    rows: int,
    max_bytes: int,
    block_bytes: int = 1 << 20,
    keep_record: bool = True,
) -> Iterator[Chunk]:
    """Lines of a plain or gzip shard in chunks of up to `rows` rows and about `max_bytes`; blank lines are no rows.

    Raises:
      BrokenShard: the gzip stream is broken; all whole lines before were yielded.
    """
    lines: list[bytes] = []
    read = size = 0
    broken = None
    try:
        for line in _lines(text_blocks(file, block_bytes)):
            lines.append(line)
            size += len(line)
            if len(lines) == rows or size >= max_bytes:
                yield _chunk(lines, columns, read, keep_record)
                read += len(lines)
                lines, size = [], 0
    except BrokenShard as error:
        broken = error
    if lines:
        yield _chunk(lines, columns, read, keep_record)
    if broken is not None:
        raise broken


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their ends, blank ones left out."""
    rest: list[bytes] = []
    for block in blocks:
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield from (line.removesuffix(b"\r") for line in (b"".join(rest), *others[:-1]) if line.strip())
            rest = [others[-1]]
    line = b"".join(rest)
    if line.strip():
        yield line.removesuffix(b"\r")


def _chunk(lines: list[bytes], columns: Columns, first: int, keep_record: bool) -> Chunk:
    bad: dict[int, str] = {}
    objects: list[dict[str, Any]] = []
    for row, line in enumerate(lines):
        try:
            objects.append(parse_line(line))
        except BadLineError as error:
            bad[row] = str(error)
            objects.append({})
    source = {name: [values.get(name) for values in objects] for name in columns.needed}
    record = pa.array(lines, pa.binary()) if keep_record else None
    numbers = np.arange(first, first + len(lines))
    return decode_rows(source, columns, numbers, record=record, bad=bad)


class BadLineError(ValueError):
    """A line is not one object."""


def parse_line(line: bytes) -> dict[str, Any]:
    """The object of a line.

    Raises:
      BadLineError: it is none.
    """
    try:
        value = parse_json(line.decode(), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise BadLineError("the line is not UTF-8") from None
    except BadLineError:
        raise
    except (ValueError, RecursionError):
        raise BadLineError("the line is not JSON") from None
    if not isinstance(value, dict):
        raise BadLineError("the line is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise BadLineError("a key stands twice in an object")
    return values
