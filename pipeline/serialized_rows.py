"""Rows that the graph parses: a record batch of which one column is Python's own bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

RECORD = "record"
"""Column of the row as it stands in its shard: serialized bytes of text formats and TFRecord, a struct of columnar ones."""


@dataclass(frozen=True, eq=False)
class SerializedRows:
    """A record batch, as far as batches of rows are looked at, whose column `record` is not in Arrow's memory.

    TensorFlow takes strings as Python's bytes. So records become such where they are read, and are fed as they are: to
    copy them into Arrow's memory and out of it again took a tenth of the CPU time that large ones are scored in.

    beside: the other columns. records: object (rows,), of bytes. sizes: int64 (rows,), how many bytes each has.
    """

    beside: pa.RecordBatch
    records: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, beside: pa.RecordBatch, records: Sequence[bytes]) -> SerializedRows:
        """Rows of a few records."""
        count = len(records)
        return cls(beside, np.fromiter(records, object, count), np.fromiter(map(len, records), np.int64, count))

    @property
    def num_rows(self) -> int:
        return len(self.records)

    @property
    def nbytes(self) -> int:
        return self.beside.nbytes + int(self.sizes.sum())

    @cached_property
    def schema(self) -> pa.Schema:
        return self.beside.schema.append(pa.field(RECORD, pa.binary()))

    def column(self, name: str) -> pa.Array:
        """A column by its name; that of the records is a copy of them."""
        return pa.array(self.records, pa.binary()) if name == RECORD else self.beside.column(name)

    def select(self, names: Sequence[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([self.column(name) for name in names], list(names))

    def slice(self, offset: int = 0, length: int | None = None) -> SerializedRows:
        chosen = slice(offset, None if length is None else offset + length)
        return SerializedRows(self.beside.slice(offset, length), self.records[chosen], self.sizes[chosen])

    def take(self, places: pa.Array) -> SerializedRows:
        chosen = places.to_numpy()
        return SerializedRows(self.beside.take(places), self.records[chosen], self.sizes[chosen])

    def append_column(self, field: pa.Field | str, values: pa.Array) -> SerializedRows:
        return SerializedRows(self.beside.append_column(field, values), self.records, self.sizes)

    def set_column(self, index: int, field: pa.Field | str, values: pa.Array) -> SerializedRows:
        if index == len(self.beside.schema):
            return SerializedRows.of(self.beside, values.to_pylist())
        return SerializedRows(self.beside.set_column(index, field, values), self.records, self.sizes)


def concat_rows(batches: Sequence[pa.RecordBatch | SerializedRows]) -> pa.RecordBatch | SerializedRows:
    """Batches of one kind as one."""
    if not isinstance(batches[0], SerializedRows):
        return pa.concat_batches(batches)
    return SerializedRows(
        pa.concat_batches([rows.beside for rows in batches]),
        np.concatenate([rows.records for rows in batches]),
        np.concatenate([rows.sizes for rows in batches]),
    )
