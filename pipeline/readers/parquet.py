"""Parquet shards: the columns that are needed, in batches whose size does not grow with the row groups."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.batch import fixed_bytes
from pipeline.decode_rows import decode_rows
from pipeline.errors import BrokenShard
from pipeline.readers.compression import read_head
from pipeline.readers.required import require_columns
from pipeline.rows import Chunk, Columns

_BUFFER_BYTES = 1 << 20
_FIRST_ROWS = 8
_DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What pyarrow raises on bytes that are not Parquet; the last one for names of columns."""


class RowGroup(NamedTuple):
    """A row group as the footer has it. `bytes`: before compression."""

    rows: int
    bytes: int


class ParquetShard:
    """An open Parquet file: damage is a BrokenShard, and a failed read stays the error of the filesystem that it is.

    Args:
      file: the file as it is stored.
      only: the row groups that are read, the first and the one behind the last; None for all.

    Attributes:
      row_groups: of the file. first_row: number of the first row that is read.

    Raises:
      BrokenShard: the footer cannot be read, or it has no such row groups.
    """

    def __init__(self, file: BinaryIO, only: tuple[int, int] | None = None):
        self._file = _WatchedFile(file)
        try:
            self._parquet = pq.ParquetFile(
                pa.PythonFile(self._file, mode="r"),
                buffer_size=_BUFFER_BYTES,  # without it a whole column chunk is read at once
                pre_buffer=False,
                page_checksum_verification=True,
            )
            self.schema: pa.Schema = self._parquet.schema_arrow
            self.names: list[str] = self.schema.names
            metadata = self._parquet.metadata
            groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
            self.row_groups = [RowGroup(group.num_rows, group.total_byte_size) for group in groups]
        except _DAMAGE as error:
            raise self._broken("the footer cannot be read: no Parquet file, or its end is lost") from error
        first, end = only or (0, len(self.row_groups))
        if end > len(self.row_groups):
            raise BrokenShard(f"the footer tells of {len(self.row_groups)} row groups, not of {end}")
        self._only = None if only is None else list(range(first, end))
        self._rows = metadata.num_rows if only is None else sum(group.rows for group in self.row_groups[first:end])
        self.first_row = sum(group.rows for group in self.row_groups[:first])

    def batches(self, names: Sequence[str], rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
        """Rows of some columns, in batches of up to `rows` rows and about `max_bytes` of data.

        Raises:
          BrokenShard: a page cannot be read; all batches before were yielded.
        """
        read = 0
        try:
            size = max(1, min(rows, max_bytes // self._row_bytes(names)))
            for batch in self._parquet.iter_batches(size, self._only, columns=names, use_threads=False):
                yield batch
                read += batch.num_rows
        except _DAMAGE as error:
            raise self._broken(f"row {self.first_row + read}: the data cannot be read from here on") from error
        if read != self._rows:
            raise BrokenShard(f"the file ends after {read} rows, its footer tells of {self._rows}")

    def _broken(self, reason: str) -> Exception:
        return self._file.error or BrokenShard(reason)

    def _row_bytes(self, names: Sequence[str]) -> int:
        """Bytes of a row, at least one: as the footer has it for all columns, or as the first rows do where that is more.

        Dictionaries make a column larger than the file says. What the footer says of a single column is not asked for:
        where that is damaged, `RowGroupMetaData.column` ends the process.
        """
        stored = sum(group.bytes for group in self.row_groups) // max(1, self._parquet.metadata.num_rows)
        types = {name: self.schema.field(name).type for name in names}
        lists = [name for name, each in types.items() if pa.types.is_nested(each) and fixed_bytes(each) is None]
        decoded = sum(fixed_bytes(types[name]) or 8 for name in names if name not in lists)
        if lists:  # whose lengths the first rows tell
            for batch in self._parquet.iter_batches(_FIRST_ROWS, self._only, columns=lists, use_threads=False):
                decoded += batch.nbytes // max(1, batch.num_rows)
                break
        return max(1, stored, decoded)


def read_parquet(
    shard: ParquetShard, columns: Columns, *, rows: int, max_bytes: int, keep_record: bool = True
) -> Iterator[Chunk]:
    """Rows of a shard in chunks of up to `rows` rows and about `max_bytes` of data.

    Raises:
      BrokenShard: a page cannot be read, or a column is missing; all batches before were yielded.
    """
    present = shard.names
    require_columns(columns, present, "Parquet file")
    names = [name for name in columns.needed if name in present]
    read = shard.first_row
    for batch in shard.batches(names, rows, max_bytes):
        source = {name: batch.column(name) for name in names}
        record = pa.StructArray.from_arrays(list(source.values()), names) if keep_record and names else None
        yield decode_rows(source, columns, np.arange(read, read + batch.num_rows), record=record)
        read += batch.num_rows


class _WatchedFile(io.RawIOBase):
    """A file that keeps the error of a failed read: Arrow raises OSError for damaged pages as well."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read() if size is None or size < 0 else read_head(self._file, size)
        except Exception as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
