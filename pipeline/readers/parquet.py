"""Parquet shards: the columns that are needed, in batches whose size does not grow with the row groups."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.decode_rows import decode_rows
from pipeline.errors import BrokenShard
from pipeline.readers.compression import read_head
from pipeline.readers.required import require_columns
from pipeline.rows import Chunk, Columns

_BUFFER_BYTES = 1 << 20


def read_parquet(
    file: BinaryIO, columns: Columns, *, rows: int, max_bytes: int, keep_record: bool = True
) -> Iterator[Chunk]:
    """Rows of a shard in chunks of up to `rows` rows and about `max_bytes` of data.

    Raises:
      BrokenShard: the footer or a page cannot be read, or a column is missing; all batches before were yielded.
    """
    watched = _WatchedFile(file)
    parquet = _open(watched)
    present = parquet.schema_arrow.names
    require_columns(columns, present, "Parquet file")
    names = [name for name in columns.needed if name in present]
    size = max(1, min(rows, max_bytes // _row_bytes(parquet, names)))
    batches = parquet.iter_batches(size, columns=names, use_threads=False)
    read = 0
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pa.ArrowException) as error:
            raise watched.error or BrokenShard(f"row {read}: the data cannot be read from here on") from error
        if batch is None:
            break
        source = {name: batch.column(name) for name in names}
        record = pa.StructArray.from_arrays(list(source.values()), names) if keep_record and names else None
        yield decode_rows(source, columns, np.arange(read, read + batch.num_rows), record=record)
        read += batch.num_rows
    if read != parquet.metadata.num_rows:
        raise BrokenShard(f"the file ends after {read} rows, its footer tells of {parquet.metadata.num_rows}")


def parquet_schema(file: BinaryIO) -> pa.Schema:
    """Columns of a shard.

    Raises:
      BrokenShard: the footer cannot be read.
    """
    return _open(_WatchedFile(file)).schema_arrow


def _open(file: _WatchedFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            pa.PythonFile(file, mode="r"),
            buffer_size=_BUFFER_BYTES,  # without it a whole column chunk is read at once
            pre_buffer=False,
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        raise file.error or BrokenShard("the footer cannot be read: no Parquet file, or its end is lost") from error


def _row_bytes(parquet: pq.ParquetFile, names: list[str]) -> int:
    """Bytes of a row on average, at least one; dictionaries make it more than the file says, so a value counts 8."""
    metadata = parquet.metadata
    chosen = [
        index
        for index in range(metadata.num_columns)
        if any(f"{parquet.schema.column(index).path}.".startswith(f"{name}.") for name in names)
    ]
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in chosen]
    total = sum(max(chunk.total_uncompressed_size, 8 * chunk.num_values) for chunk in chunks)
    return max(1, total // max(1, metadata.num_rows))


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
