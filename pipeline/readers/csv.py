"""CSV shards, strictly as RFC 4180 has them: what a quote opens and closes is never guessed.

A block of the file is cut into rows and fields with numpy: a byte is outside of quotes where an even number of quotes
stand before it, which holds up to the first quote that breaks the rules, and the shard ends there. pyarrow.csv is not
strict: one stray quote swallows rows without an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.decode_rows import decode_rows
from pipeline.errors import BrokenShard
from pipeline.job import Csv
from pipeline.readers.compression import text_blocks
from pipeline.readers.required import require_columns
from pipeline.rows import RECORD_HEADER, Chunk, Columns, Rejected

_QUOTE, _LF, _CR = 0x22, 0x0A, 0x0D
_MAX_ROW_BYTES = 256 << 20
"""A row may not be longer: most likely it is a quote that is never closed."""


def read_csv(
    file: BinaryIO,
    columns: Columns,
    csv: Csv,
    *,
    rows: int,
    max_bytes: int,
    block_bytes: int = 1 << 20,
    keep_record: bool = True,
) -> Iterator[Chunk]:
    """Rows of a plain or gzip shard in chunks of up to `rows` rows.

    Raises:
      BrokenShard: the quoting is broken, a carriage return stands alone, the gzip stream is broken, or a column is
        missing or stands there twice; all rows before were yielded.
    """
    names = None if csv.header else _checked(csv.columns, columns)
    delimiter, nulls = ord(csv.delimiter), [null.encode() for null in csv.nulls]
    blocks = text_blocks(file, min(block_bytes, max_bytes))
    buffer, header, read, last = b"", b"", 0, False
    while not last:
        buffer, last, broken = _longer(buffer, blocks)
        split = split_rows(buffer, delimiter, last and broken is None)
        if names is None and split.starts.size:
            names, header = _checked(_header(split), columns), buffer[split.starts[0] : split.ends[0]] + b"\n"
            split = split.rows(1, split.starts.size)
        if names is not None:
            for start in range(0, split.starts.size, rows):
                some = split.rows(start, start + rows)
                yield _chunk(some, names, nulls, columns, read, header if keep_record else None)
                read += min(rows, split.starts.size - start)
        if split.fault is not None:
            raise BrokenShard(f"{'the header' if names is None else f'row {read}'}: {split.fault}")
        if broken is not None:
            raise broken
        buffer = buffer[split.rest :]
        if len(buffer) > _MAX_ROW_BYTES:
            raise BrokenShard(f"row {read}: longer than {_MAX_ROW_BYTES >> 20} MiB; is a quote never closed?")
    if names is None:
        raise BrokenShard("the file has no header")


def _longer(buffer: bytes, blocks: Iterator[bytes]) -> tuple[bytes, bool, BrokenShard | None]:
    """At least twice as much as `buffer`, so that a long row is not gone through again for every block of it.

    Returns: the bytes, whether they are the last ones, and the error that made them so.
    """
    pieces, size = [buffer], len(buffer)
    try:
        for block in blocks:
            pieces.append(block)
            size += len(block)
            if size > 2 * len(buffer):
                return b"".join(pieces), False, None
    except BrokenShard as error:
        return b"".join(pieces), True, error
    return b"".join(pieces), True, None


def _checked(names: Sequence[str], columns: Columns) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice in columns.needed:
        raise BrokenShard(f"the header names the column {twice!r} {names.count(twice)} times")
    if twice is not None:  # a name that the job does not know may be a value, of a file without a header
        places = [str(place) for place, name in enumerate(names, 1) if name == twice]
        raise BrokenShard(f"the header gives one name to its columns {', '.join(places)}")
    require_columns(columns, names, "CSV file")
    return list(names)


class _Split(NamedTuple):
    """Rows of a buffer.

    data: uint8, the buffer. starts, ends: int64 (rows,), of their text without the line end; blank lines are left out.
    quotes, delimiters: int64, positions of all quotes, and of the delimiters outside of quotes.
    fault: what ended the splitting before its time. rest: where the row begins that the buffer does not hold whole.
    """

    buffer: bytes
    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    quotes: np.ndarray
    delimiters: np.ndarray
    fault: str | None
    rest: int

    def rows(self, start: int, stop: int) -> _Split:
        return self._replace(starts=self.starts[start:stop], ends=self.ends[start:stop])

    def fields(self) -> np.ndarray:
        """Number of fields of every row, int64 (rows,)."""
        return self._delimiters_before(self.ends) - self._delimiters_before(self.starts) + 1

    def edges(self, fields: int) -> np.ndarray:
        """What stands before each field and behind the last one, int64 (rows, fields + 1); every row has that many."""
        first = self._delimiters_before(self.starts)
        between = self.delimiters[first[:, None] + np.arange(fields - 1)]
        return np.column_stack([self.starts - 1, between, self.ends])

    def text(self, starts: np.ndarray, ends: np.ndarray, null: np.ndarray | None = None) -> pa.Array:
        """Binary array of pieces of the buffer that follow each other."""
        offsets = np.stack([starts, ends], axis=1).reshape(-1).astype(np.int32)
        length = max(0, offsets.size - 1)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self.buffer)]
        pieces = pa.Array.from_buffers(pa.binary(), length, buffers)  # every second one lies between two pieces
        return pieces.take(pa.array(np.arange(0, length, 2), mask=null))

    def cells(self, starts: np.ndarray, ends: np.ndarray, nulls: Sequence[bytes]) -> pa.Array:
        """Fields of one column as they were meant: without quotes, null where missing."""
        quoted = np.zeros(starts.size, bool)
        if self.quotes.size:
            quoted = (ends > starts) & (self.data[np.minimum(starts, self.data.size - 1)] == _QUOTE)
            starts, ends = starts + quoted, ends - quoted
        null = (ends == starts) & ~quoted if b"" in nulls else np.zeros(starts.size, bool)
        cells = self.text(starts, ends, null if null.any() else None)
        words = [word for word in nulls if word]
        if words:
            is_word = pc.is_in(cells, pa.array(words, pa.binary())).to_numpy(zero_copy_only=False) & ~quoted
            cells = pc.if_else(pa.array(is_word), pa.scalar(None, pa.binary()), cells)
        if (np.searchsorted(self.quotes, ends[quoted]) > np.searchsorted(self.quotes, starts[quoted])).any():
            cells = pc.replace_substring(cells, '""', '"')  # a quote stands in quoted cells only, and there doubled
        return cells

    def _delimiters_before(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.delimiters, positions)


def _header(split: _Split) -> list[str]:
    row = split.rows(0, 1)
    edges = row.edges(int(row.fields()[0]))
    cells = row.cells(edges[0, :-1] + 1, edges[0, 1:], []).to_pylist()
    try:
        return [cell.decode() for cell in cells]
    except UnicodeDecodeError as error:
        raise BrokenShard("the header is not UTF-8") from error


def _chunk(
    split: _Split, names: list[str], nulls: Sequence[bytes], columns: Columns, first: int, header: bytes | None
) -> Chunk:
    """Decode the rows of a split. header: what stands before the record of a row that is kept; None: none is kept."""
    numbers = np.arange(first, first + split.starts.size)
    record = None if header is None else split.text(split.starts, split.ends)
    fields = split.fields()
    whole = fields == len(names)
    rejected = [
        Rejected(
            int(numbers[row]), "read", f"expected {len(names)} fields, found {fields[row]}",
            None if record is None else record[row].as_py(),
        )
        for row in np.flatnonzero(~whole).tolist()
    ]  # fmt: skip
    if rejected:
        split = split._replace(starts=split.starts[whole], ends=split.ends[whole])
        record = None if record is None else record.filter(pa.array(whole))
    chunk = decode_rows(_columns(split, names, nulls, columns), columns, numbers[whole], text=True, record=record)
    rejected += chunk.rejected
    if header:  # a rejected row is to be read without its shard
        decoded: pa.RecordBatch = chunk.rows
        chunk = chunk._replace(rows=decoded.replace_schema_metadata({RECORD_HEADER: header}))
        rejected = [row._replace(record=header + (row.record or b"")) for row in rejected]
    return chunk._replace(rejected=tuple(sorted(rejected)), read=numbers.size)


def _columns(split: _Split, names: Sequence[str], nulls: Sequence[bytes], columns: Columns) -> dict[str, pa.Array]:
    """Cells of the columns that are needed; every row has as many as there are names."""
    edges = split.edges(len(names))
    source = {}
    for name in columns.needed:
        if name in names:
            field = names.index(name)
            source[name] = split.cells(edges[:, field] + 1, edges[:, field + 1], nulls)
    return source


def parse_record(columns: Columns, csv: Csv, record: bytes) -> dict[str, bytes | None]:
    """Cells of a row as it is kept beside a rejected one, with its column names before it unless csv.header is false.

    Raises:
      BrokenShard: it is not one row, or a column is missing.
    """
    split = split_rows(record, ord(csv.delimiter), True)
    if split.fault is not None:
        raise BrokenShard(f"its record: {split.fault}")
    if split.starts.size != (2 if csv.header else 1):
        wanted = "the column names and one row (input.csv.header: true)" if csv.header else "one row"
        raise BrokenShard(f"its record is {split.starts.size} lines of CSV, not {wanted}")
    names = _checked(_header(split) if csv.header else csv.columns, columns)
    row = split.rows(split.starts.size - 1, split.starts.size)
    fields = int(row.fields()[0])
    if fields != len(names):
        raise BrokenShard(f"expected {len(names)} fields, found {fields}")
    cells = _columns(row, names, [null.encode() for null in csv.nulls], columns)
    return {name: cell[0].as_py() for name, cell in cells.items()}


def split_rows(buffer: bytes, delimiter: int, last: bool) -> _Split:
    """Cut a buffer that begins with a row into rows. last: nothing follows, so that what is left over is a row."""
    data = np.frombuffer(buffer, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)

    def outside(byte: int) -> np.ndarray:
        positions = np.flatnonzero(data == byte)
        return positions[np.searchsorted(quotes, positions) % 2 == 0] if quotes.size else positions

    newlines = outside(_LF)
    fault, limit = _first_fault(data, quotes, outside(_CR), delimiter, last)
    line_ends = newlines[newlines < limit]
    rest = int(line_ends[-1]) + 1 if line_ends.size else 0
    if last and fault is None and rest < len(data):
        line_ends = np.append(line_ends, len(data))
        rest = len(data)
    starts = np.concatenate([[0], line_ends[:-1] + 1])[: line_ends.size]
    ends = line_ends - ((line_ends > starts) & (data[line_ends - 1] == _CR))
    full = ends > starts
    return _Split(buffer, data, starts[full], ends[full], quotes, outside(delimiter), fault, rest)


def _first_fault(
    data: np.ndarray, quotes: np.ndarray, returns: np.ndarray, delimiter: int, last: bool
) -> tuple[str | None, int]:
    """The first break of the rules and its position; up to there quotes come in pairs of opening and closing."""
    size = len(data)
    opening, closing = quotes[0::2], quotes[1::2]
    before = data[opening - 1]
    misplaced = opening[(opening > 0) & (before != delimiter) & (before != _LF) & (before != _QUOTE)]
    closing = closing[closing + 1 < size]  # at the end of a file a quote may close; at that of a block nothing is known
    behind = data[closing + 1]
    trailed = closing[(behind != delimiter) & (behind != _LF) & (behind != _CR) & (behind != _QUOTE)]
    followed = data[np.minimum(returns + 1, size - 1)] == _LF
    lone = returns[np.where(returns + 1 < size, ~followed, last)]
    faults = [
        (positions[0], fault)
        for positions, fault in (
            (misplaced, "a quote inside a field that is not quoted"),
            (trailed, "text after a closing quote"),
            (lone, "a carriage return without a line feed"),
            (quotes[-1:] if last and quotes.size % 2 else quotes[:0], "the file ends inside a quoted field"),
        )
        if positions.size
    ]
    position, fault = min(faults, default=(size, None))
    return fault, int(position)
