"""Rows of one part to batches whose boundaries depend on the rows alone, never on how a reader cut its chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.rows import RECORD, Rows, fields_of_record
from pipeline.serialized_rows import SerializedRows, concat_rows


class Regrouper:
    """Cuts the rows of one part into batches of exactly `rows` rows, or fewer where one more would exceed `max_bytes`.

    A row that is larger than `max_bytes` by itself is a batch of its own; the last batch may be smaller.
    """

    def __init__(self, rows: int, max_bytes: int):
        self._rows, self._max_bytes = rows, max_bytes
        self._pending: list[Rows] = []
        self._pending_rows = self._pending_bytes = 0

    def add(self, rows: Rows) -> list[Rows]:
        """Take the next rows of the part; returns the batches that are full now."""
        if rows.num_rows == 0:
            return []
        batches = []
        ends = np.concatenate([[0], np.cumsum(row_bytes(rows))])
        start = 0
        while start < rows.num_rows:
            room = self._max_bytes - self._pending_bytes
            end = int(np.searchsorted(ends, ends[start] + room, side="right")) - 1
            end = min(end, start + self._rows - self._pending_rows, rows.num_rows)
            if end <= start:
                if self._pending:
                    batches += self.finish()
                    continue
                end = start + 1
            self._pending.append(rows.slice(start, end - start))
            self._pending_rows += end - start
            self._pending_bytes += int(ends[end] - ends[start])
            if self._pending_rows == self._rows:
                batches += self.finish()
            start = end
        return batches

    def finish(self) -> list[Rows]:
        """The rows that do not fill a batch, as the part's last one; none if there are none."""
        if not self._pending:
            return []
        batch = self._pending[0] if len(self._pending) == 1 else concat_rows(self._pending)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        return [batch]


def row_bytes(rows: Rows) -> np.ndarray:
    """Bytes of every row, int64 (rows,): of what is fed and passed through, or of the record where the graph parses it.

    A record that is only kept in case its row is rejected does not count: keeping it must not move a boundary.
    """
    if isinstance(rows, SerializedRows):
        return rows.sizes
    names = fields_of_record(rows) or [name for name in rows.schema.names if name == RECORD]
    columns = [rows.column(name) for name in names]
    total = np.full(rows.num_rows, sum(fixed_bytes(column.type) or 0 for column in columns), np.int64)
    for column in columns:
        if fixed_bytes(column.type) is None:
            total += _value_bytes(column)
    return total


def _value_bytes(array: pa.Array) -> np.ndarray:
    """Bytes of every value without offsets and validity, int64 (rows,); a null has none but for its fixed width."""
    types, source = pa.types, array.type
    if isinstance(array, pa.ExtensionArray):
        return _value_bytes(array.storage)
    if types.is_dictionary(source):
        return _value_bytes(array.dictionary_decode())
    if types.is_null(source):
        return np.zeros(len(array), np.int64)
    if types.is_struct(source):
        return sum((_value_bytes(child) for child in array.flatten()), np.zeros(len(array), np.int64))
    if (width := fixed_bytes(source)) is not None:
        return np.full(len(array), width)
    if types.is_fixed_size_list(source):
        values = array.values.slice(array.offset * source.list_size, len(array) * source.list_size)
        return _value_bytes(values).reshape(len(array), source.list_size).sum(axis=1)
    if types.is_list(source) or types.is_large_list(source) or types.is_map(source):
        return _list_bytes(array)
    return pc.fill_null(pc.binary_length(array), 0).to_numpy().astype(np.int64)


def fixed_bytes(source: pa.DataType) -> int | None:
    """Bytes of every value of a type, or None where they differ."""
    types = pa.types
    if types.is_fixed_size_list(source) and (width := fixed_bytes(source.value_type)) is not None:
        return source.list_size * width
    if types.is_primitive(source) or types.is_decimal(source) or types.is_fixed_size_binary(source):
        return max(source.bit_width // 8, 1)
    return None


def _list_bytes(array: pa.Array) -> np.ndarray:
    if len(array) == 0:
        return np.zeros(0, np.int64)
    offsets = array.offsets.to_numpy().astype(np.int64)
    if (width := fixed_bytes(array.values.type)) is not None:
        sizes = np.diff(offsets) * width
    else:
        inner = _value_bytes(array.values.slice(offsets[0], offsets[-1] - offsets[0]))
        ends = np.concatenate([[0], np.cumsum(inner)])
        sizes = ends[offsets[1:] - offsets[0]] - ends[offsets[:-1] - offsets[0]]
    return np.where(array.is_valid().to_numpy(zero_copy_only=False), sizes, 0) if array.null_count else sizes
