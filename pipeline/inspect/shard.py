"""What a shard holds: format, compression, number of rows, and its columns; never a value of a row."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any, NamedTuple

from pipeline import files
from pipeline.errors import BrokenShard, InputError
from pipeline.job import Csv
from pipeline.job.values import format_of
from pipeline.readers import DEFAULT_CSV, read_shard, source_schema
from pipeline.readers.compression import GZIP_MAGIC, inflate, is_zlib, plain_blocks, read_head, text_blocks
from pipeline.readers.tfrecord import read_tfrecord
from pipeline.rows import RECORD, Columns
from pipeline.text import counted, facts, table

SAMPLE_ROWS = 1000
COUNTED_ROWS = 100_000
"""Formats that do not tell their number of rows are read this far."""

_HEAD_BYTES = 64 * 1024
_START_BYTES = 512 * 1024


class Kind(NamedTuple):
    """How a file is stored. `compression`: of the whole file, or `inside` where the format compresses its own blocks."""

    format: str
    compression: str


def kind_of(path: str) -> Kind | None:
    """Format and compression of a shard, by its content; where text may be anything, by its name. None: not a shard.

    Raises:
      InputError: the content is not what the name says.
    """
    with files.open_read(path) as file:
        head = read_head(file, _HEAD_BYTES)
    compression = _compression(path, head)
    if head.startswith(b"PAR1"):
        return Kind("parquet", "inside")
    if head.startswith(b"Obj\x01"):
        return Kind("avro", "inside")
    named = format_of(path)
    broken = _not_tfrecord(path)
    if broken is None and (head or named == "tfrecord"):
        return Kind("tfrecord", compression)
    if named == "tfrecord":
        raise InputError(f"{path}: named as a TFRecord shard, but {broken}")
    if named in ("parquet", "avro"):
        raise InputError(f"{path}: named as a shard of {named}, but it does not start as one; copy or write it again")
    if named is None and compression != "zlib" and _first_text(path)[:1] == b"{":
        named = "jsonl"
    return Kind(named, compression) if named else None


def inspect_shard(path: str, kind: Kind) -> str:
    """Format, size, number of rows and columns of a shard.

    Raises:
      InputError: the container is broken; the message tells where.
    """
    describe = {"parquet": _parquet, "avro": _avro, "csv": _csv, "jsonl": _jsonl, "tfrecord": _tfrecord}[kind.format]
    try:
        about, lines = describe(path)
    except BrokenShard as error:
        raise InputError(f"{path}: a broken shard ({kind.format}, compression {kind.compression}): {error}") from error
    compression = [] if kind.compression == "inside" else [("compression", kind.compression)]
    first = [("shard", path), ("format", kind.format), *compression, ("bytes", f"{files.size(path):,}")]
    return "\n".join([*facts([*first, *about]), *lines])


Description = tuple[list[tuple[str, str]], list[str]]
"""Facts, and the lines below them."""


def _parquet(path: str) -> Description:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.open_read(path) as file:
        try:
            footer = pq.read_metadata(file)
            schema = footer.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise BrokenShard("its footer is damaged or cut off") from error
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    codecs = {group.column(index).compression.lower() for group in groups[:1] for index in range(group.num_columns)}
    largest = f", the largest of {counted(max(group.num_rows for group in groups), 'row')}" if groups else ""
    about = [
        ("compression", ", ".join(sorted(codecs)) or "none"),
        ("rows", f"{footer.num_rows:,}"),
        ("row groups", f"{len(groups):,}{largest}"),
    ]
    return about, table("columns", [(column.name, str(column.type)) for column in schema], ("name", "type"))


def _avro(path: str) -> Description:
    import fastavro

    readable = {column.name: str(column.type) for column in source_schema(lambda: files.open_read(path), "avro")}
    _, rows = _rows(path, "avro")
    with files.open_read(path) as file:
        container = fastavro.reader(file)
        schema: Any = container.writer_schema
        names = [column["name"] for column in schema["fields"]]
    columns = [(name, readable.get(name, "a record, map or union: cannot be read")) for name in names]
    return [("compression", container.codec), *rows], table("columns", columns, ("name", "type"))


def _tfrecord(path: str) -> Description:
    from pipeline.inspect.example import describe_examples

    sample, rows = _rows(path, "tfrecord")
    return rows, describe_examples(sample, path)


def _jsonl(path: str) -> Description:
    sample, rows = _rows(path, "jsonl")
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for record in sample:
        try:
            row = json.loads(record)
        except (ValueError, RecursionError):
            continue
        for key, value in row.items() if isinstance(row, dict) else ():
            kinds[key][_json_kind(value)] += 1
    keys = [
        (key, ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())), f"{counts.total():,}")
        for key, counts in kinds.items()
    ]
    return rows, table(
        f"keys of the first {counted(len(sample), 'good row')}", keys, ("name", "JSON kinds", "present in")
    )


def _json_kind(value: Any) -> str:
    if isinstance(value, list):
        inner = sorted({_json_kind(item) for item in value})
        return f"array of {' or '.join(inner)}" if inner else "empty array"
    kinds = {dict: "object", str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return kinds[type(value)]


def _csv(path: str) -> Description:
    delimiter, cells = _first_cells(path)
    if not cells:
        raise BrokenShard("there is no header: the file is empty")
    header = _is_header(cells)
    options = Csv(delimiter=delimiter)
    if not header:
        names = [f"column {index}" for index in range(len(cells[0]))]
        options = Csv(header=False, columns=names, delimiter=delimiter)
    _, rows = _rows(path, "csv", options)
    about = [("delimiter", repr(delimiter)), ("columns", f"{len(cells[0]):,}"), *rows]
    if header:
        return about, table("header", [(name,) for name in cells[0]])
    about.append(("header", "not certain: the first row may be one of values, so it is counted and not shown"))
    return about, []


def _is_header(cells: list[list[str]]) -> bool:
    """Whether the first row names the columns: distinct names, and a column of numbers under one of them.

    Without such a column nothing tells names from values, and a value is never shown.
    """
    first, below = cells[0], [row for row in cells[1:] if len(row) == len(cells[0])]
    if len(set(first)) < len(first) or any(not cell or _is_number(cell) for cell in first):
        return False
    columns = [[cell for cell in column if cell] for column in zip(*below, strict=True)]
    return any(column and all(map(_is_number, column)) for column in columns)


def _is_number(cell: str) -> bool:
    return bool(
        re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*|[-+]?(nan|inf|infinity)", cell, re.IGNORECASE)
    )


def _first_cells(path: str) -> tuple[str, list[list[str]]]:
    """The delimiter that stands most often in the first line, and the cells of up to `SAMPLE_ROWS` first rows."""
    start = _first_text(path)
    text = start.decode(errors="replace")
    delimiter = max(",\t;|", key=text.partition("\n")[0].count)
    rows = []
    # Only for a look at the names; the rows are counted by the strict reader, which tells what is wrong with them.
    with suppress(csv.Error):
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) == SAMPLE_ROWS:
                break
    if len(start) >= _START_BYTES and len(rows) > 1:
        rows.pop()  # it may have been cut
    return delimiter, rows


def _first_text(path: str) -> bytes:
    """The first bytes of a text file, plain or gzip, some more than `_START_BYTES` if it has as many."""
    start = b""
    with files.open_read(path) as file, suppress(BrokenShard):  # the reader tells of it, and how far it came
        for block in text_blocks(file, _HEAD_BYTES):
            start += block
            if len(start) >= _START_BYTES:
                break
    return start


def _rows(path: str, record_format: str, options: Csv = DEFAULT_CSV) -> tuple[list[bytes], list[tuple[str, str]]]:
    """The first `SAMPLE_ROWS` good records, and how many rows were counted, at most about `COUNTED_ROWS`."""
    sample: list[bytes] = []
    rows, bad, first_reason, more = 0, 0, "", ""
    chunks = read_shard(lambda: files.open_read(path), record_format, Columns({}), csv=options)
    try:
        for chunk in chunks:
            rows += chunk.read
            bad += len(chunk.rejected)
            if chunk.rejected and not first_reason:
                first_reason = f", the first: row {chunk.rejected[0].row}: {chunk.rejected[0].reason}"
            if record_format in ("tfrecord", "jsonl") and len(sample) < SAMPLE_ROWS:
                sample += chunk.rows.column(RECORD)[: SAMPLE_ROWS - len(sample)].to_pylist()
            if rows >= COUNTED_ROWS:
                more = " or more; counting stopped there"
                break
    except BrokenShard as error:
        raise BrokenShard(f"after {counted(rows, 'row')}: {error}") from error
    about = [("rows", f"{rows:,}{more}")]
    return sample, about + [("bad rows", f"{bad:,}{first_reason}")] * bool(bad)


def _compression(path: str, head: bytes) -> str:
    name = "gzip" if head.startswith(GZIP_MAGIC) else "zlib" if is_zlib(head) else ""
    if not name:
        return "none"
    with files.open_read(path) as file:  # the length of a plain TFRecord may look like a magic number
        try:
            next(inflate(plain_blocks(file, _HEAD_BYTES), 1, name), None)
        except BrokenShard:
            return "none"
    return name


def _not_tfrecord(path: str) -> str | None:
    """Why the first record is no TFRecord; None where it is one, or the file has none."""
    with files.open_read(path) as file:
        try:
            next(read_tfrecord(file, rows=1, max_bytes=1), None)
        except BrokenShard as error:
            return str(error)
    return None
