"""Shards to chunks of decoded rows, one module a format. Nothing here knows of Beam: the caller opens the file.

A file of rejected rows is read in place of any shard: it is told by its own columns, whatever format is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import pyarrow as pa

from pipeline.errors import BrokenShard
from pipeline.job import Csv
from pipeline.readers.compression import read_head
from pipeline.rows import Chunk, Columns, record_bytes

if TYPE_CHECKING:
    from pipeline.readers.parquet import ParquetShard, RowGroup

__all__ = ["read_shard", "record_bytes", "rejected_format", "rejected_origins", "row_groups_of", "source_schema"]

PARQUET_MAGIC = b"PAR1"
CHUNK_ROWS = 4096
CHUNK_BYTES = 16 << 20
DEFAULT_CSV = Csv()
Told = TypeVar("Told")


def read_shard(
    open_shard: Callable[[], BinaryIO],
    format: str,
    columns: Columns,
    *,
    csv: Csv = DEFAULT_CSV,
    rows: int = CHUNK_ROWS,
    max_bytes: int = CHUNK_BYTES,
    keep_record: bool = True,
    row_groups: tuple[int, int] | None = None,
) -> Iterator[Chunk]:
    """Read one shard in order.

    Args:
      open_shard: opens the shard's file as it is stored, for reading and seeking.
      format: tfrecord, parquet, csv, jsonl or avro. For tfrecord `columns` is not looked at: chunks hold the records.
      rows, max_bytes: bounds of a chunk; the second of the data that is read for it, roughly.
      keep_record: whether chunks and rejected rows carry the record itself. TFRecord chunks always do.
      row_groups: those of a Parquet file that are read: the first, and the one behind the last. None: all.

    Yields:
      Chunks; the numbers of their good and rejected rows count up without a gap, from that of the first row read.

    Raises:
      BrokenShard: the container broke; all rows before the break were yielded.
    """
    # Each reader is imported when it is needed: fastavro and google-crc32c are not there for every job's sake.
    with _open(open_shard) as file:
        parquet = _parquet(file, format, row_groups)
        if parquet is not None and _is_rejected(parquet):
            from pipeline.readers.rejected import read_rejected

            yield from read_rejected(
                parquet, format, columns, csv, rows=rows, max_bytes=max_bytes, keep_record=keep_record
            )
        elif format == "tfrecord":
            from pipeline.readers.tfrecord import read_tfrecord

            yield from read_tfrecord(file, rows=rows, max_bytes=max_bytes, keep_record=keep_record)
        elif parquet is not None:
            from pipeline.readers.parquet import read_parquet

            yield from read_parquet(parquet, columns, rows=rows, max_bytes=max_bytes, keep_record=keep_record)
        elif format == "csv":
            from pipeline.readers.csv import read_csv

            yield from read_csv(file, columns, csv, rows=rows, max_bytes=max_bytes, keep_record=keep_record)
        elif format == "jsonl":
            from pipeline.readers.jsonl import read_jsonl

            yield from read_jsonl(file, columns, rows=rows, max_bytes=max_bytes, keep_record=keep_record)
        elif format == "avro":
            from pipeline.readers.avro import read_avro

            yield from read_avro(file, columns, rows=rows, max_bytes=max_bytes, keep_record=keep_record)
        else:
            raise ValueError(f"unknown format {format!r}")


def source_schema(open_shard: Callable[[], BinaryIO], format: str) -> pa.Schema:
    """Names and Arrow types of the columns of a Parquet or Avro shard.

    Raises:
      BrokenShard: the file cannot be opened, or does not tell.
    """
    with _open(open_shard) as file:
        parquet = _parquet(file, format)
        if parquet is not None and _is_rejected(parquet):
            from pipeline.readers.rejected import rejected_schema

            return rejected_schema(parquet)
        if parquet is not None:
            return parquet.schema
        if format == "avro":
            from pipeline.readers.avro import avro_schema

            return avro_schema(file)
    raise ValueError(f"shards of format {format!r} do not name types")


def rejected_format(open_shard: Callable[[], BinaryIO]) -> tuple[str | None, bool] | None:
    """What a file of rejected rows tells: their format, and whether any record was kept; None for any other file.

    Raises:
      BrokenShard: the file cannot be opened or read.
    """
    from pipeline.readers.rejected import rejected_format

    return _of_rejected(open_shard, rejected_format)


def rejected_origins(open_shard: Callable[[], BinaryIO]) -> list[str] | None:
    """Paths of the shards that the rows of a file of rejected rows come from, each once; None for any other file.

    Raises:
      BrokenShard: the file cannot be opened or read.
    """
    from pipeline.readers.rejected import rejected_origins

    return _of_rejected(open_shard, rejected_origins)


def _of_rejected(open_shard: Callable[[], BinaryIO], told: Callable[[Any], Told]) -> Told | None:
    with _open(open_shard) as file:
        parquet = _parquet(file, "")
        return told(parquet) if parquet is not None and _is_rejected(parquet) else None


def row_groups_of(open_shard: Callable[[], BinaryIO], format: str) -> list[RowGroup] | None:
    """The row groups of a shard, as its footer has them; None for a file that is not Parquet.

    Raises:
      BrokenShard: the file cannot be opened, or its footer cannot be read.
    """
    with _open(open_shard) as file:
        parquet = _parquet(file, format)
        return None if parquet is None else parquet.row_groups


def _is_rejected(parquet: ParquetShard) -> bool:
    from pipeline.readers.rejected import is_rejected

    return is_rejected(parquet.schema)


def _parquet(file: BinaryIO, format: str, row_groups: tuple[int, int] | None = None) -> ParquetShard | None:
    """The file as Parquet: where that is the format, or where the file is one all the same."""
    if format == "parquet":
        from pipeline.readers.parquet import ParquetShard

        return ParquetShard(file, row_groups)
    is_one = read_head(file, len(PARQUET_MAGIC)) == PARQUET_MAGIC
    file.seek(0)
    if not is_one:
        return None
    try:
        return _parquet(file, "parquet", row_groups)
    except BrokenShard:  # text may begin like this
        file.seek(0)
        return None


def _open(open_shard: Callable[[], BinaryIO]) -> BinaryIO:
    try:
        return open_shard()
    except ConnectionError:
        raise  # a store that does not answer says nothing of the shard: the run fails, and a retry may help
    except OSError as error:
        raise BrokenShard(f"the file cannot be opened ({type(error).__name__})") from error
