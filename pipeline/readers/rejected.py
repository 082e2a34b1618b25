"""Files of rejected rows (`pipeline.rows.REJECTED_SCHEMA`): their records are read as the shards that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.decode_rows import decode_rows
from pipeline.errors import BrokenShard
from pipeline.job import Csv
from pipeline.readers.csv import parse_record
from pipeline.readers.jsonl import BadLineError, parse_line
from pipeline.readers.parquet import ParquetShard
from pipeline.readers.required import require_columns
from pipeline.rows import (
    DAMAGED,
    ORIGIN,
    RECORD,
    REJECTED_SCHEMA,
    ROW,
    Chunk,
    Columns,
    Origin,
    Rejected,
    origins_of,
    with_origin,
)
from pipeline.serialized_rows import SerializedRows

_FEW_ROWS = 256
_MANY_ROWS = 64 * 1024
_FEW_BYTES = 16 << 20


def is_rejected(schema: pa.Schema) -> bool:
    """Whether a Parquet file holds rejected rows: no other one has just these columns."""
    return schema.names == REJECTED_SCHEMA.names


def read_rejected(
    shard: ParquetShard, format: str, columns: Columns, csv: Csv, *, rows: int, max_bytes: int, keep_record: bool
) -> Iterator[Chunk]:
    """Rows of a file of rejected rows, numbered by their place in it; their `_origin` is where they stood first.

    A record that was not kept, that is of another format than `format`, or whose checksum did not match is rejected
    again.

    Raises:
      BrokenShard: a page cannot be read, or the columns have other types.
    """
    read = shard.first_row
    for batch in shard.batches(REJECTED_SCHEMA.names, rows, max_bytes):
        yield from _chunks(_typed(batch), format, columns, csv, read, keep_record)
        read += batch.num_rows


def rejected_format(shard: ParquetShard) -> tuple[str | None, bool]:
    """The format that the first row names, and whether any row has kept its record."""
    format, any_kept = None, False
    for batch in shard.batches(REJECTED_SCHEMA.names, _FEW_ROWS, _FEW_BYTES):
        formats, records = _typed(batch).column("_format"), batch.column("_record")
        format = format or (formats[0].as_py() if len(formats) else None)
        any_kept = records.null_count < len(records)
        if any_kept:
            break
    return format, any_kept


def rejected_origins(shard: ParquetShard) -> list[str]:
    """Paths of the shards that its rows come from, sorted."""
    columns = (batch.column(0).cast(pa.string()) for batch in shard.batches(["_shard"], _MANY_ROWS, _FEW_BYTES))
    return sorted({path for column in columns for path in column.unique().drop_null().to_pylist()})


def rejected_schema(shard: ParquetShard) -> pa.Schema:
    """Columns of the Parquet or Avro shard that the first record comes from, those that were read.

    Raises:
      BrokenShard: there is no such record.
    """
    for batch in shard.batches(REJECTED_SCHEMA.names, _FEW_ROWS, _FEW_BYTES):
        for record in _typed(batch).column("_record").drop_null():
            return _arrow_row(Columns({}), record.as_py()).schema
    raise BrokenShard("no row has kept its record")


def _typed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in the types that we write: another program may have filtered the file and widened them."""
    try:
        columns = [batch.column(field.name).cast(field.type) for field in REJECTED_SCHEMA]
        typed = pa.RecordBatch.from_arrays(columns, REJECTED_SCHEMA.names)
        typed.validate(full=True)
        return typed
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BrokenShard("its columns are not of the types of rejected rows") from error


def _chunks(
    kept: pa.RecordBatch, format: str, columns: Columns, csv: Csv, first: int, keep_record: bool
) -> Iterator[Chunk]:
    """One chunk; more where records of Parquet and Avro differ in their schemas, which are not decoded together."""
    parse = _parser(format, columns, csv)
    parsed: dict[int, Any] = {}
    rejected: dict[int, Rejected] = {}
    for index, row in enumerate(kept.to_pylist()):
        reason = _unusable(row, format)
        if reason is None:
            try:
                parsed[index] = parse(row["_record"])
            except (BrokenShard, BadLineError) as error:
                reason = str(error)
        if reason is not None:
            record = row["_record"] if keep_record else None
            rejected[index] = Rejected(first + index, "read", reason, record, _origin(row["_shard"], row["_row"]))
    runs = [list(run) for _, run in groupby(parsed, lambda index: getattr(parsed[index], "schema", None))] or [[]]
    starts = [0, *(run[0] for run in runs[1:]), kept.num_rows]
    for run, start, stop in zip(runs, starts, starts[1:], strict=False):
        some, numbers = kept.take(pa.array(run, pa.int64())), first + np.array(run, np.int64)
        records = [parsed[index] for index in run]
        chunk = _with_origins(_decode(records, format, columns, numbers, some, keep_record), some, numbers)
        failed = [rejected[index] for index in range(start, stop) if index in rejected]
        yield chunk._replace(rejected=tuple(sorted([*chunk.rejected, *failed])), read=stop - start)


def _unusable(row: Mapping[str, Any], format: str) -> str | None:
    """Why the record of a row is not looked at, or None if it is."""
    if _origin(row["_shard"], row["_row"]) is None:
        return "the file of rejected rows does not tell its _shard and _row"
    if row["_format"] != format:
        return f"its record is of another format than {format}, which this run reads"
    if row["_record"] is None:
        return "its record was not kept (errors.keep_record: false); score its shard again"
    return f"record {row['_row']}: {DAMAGED}" if (row["_reason"] or "").endswith(DAMAGED) else None


def _parser(format: str, columns: Columns, csv: Csv) -> Callable[[bytes], Any]:
    if format == "tfrecord":
        return lambda record: record
    if format == "jsonl":
        return parse_line
    return partial(parse_record, columns, csv) if format == "csv" else partial(_arrow_row, columns)


def _arrow_row(columns: Columns, record: bytes) -> pa.RecordBatch:
    """The row of an Arrow IPC stream, as `pipeline.rows.record_bytes` makes it."""
    try:
        [row] = pa.ipc.open_stream(record)
        row.validate(full=True)
        names = row.schema.names  # which need not be text in a damaged record
    except (OSError, ValueError, pa.ArrowException) as error:
        raise BrokenShard("its record is not an Arrow stream of one row") from error
    if row.num_rows != 1:
        raise BrokenShard("its record is not an Arrow stream of one row")
    require_columns(columns, names, "record")
    return row


def _decode(
    parsed: Sequence[Any], format: str, columns: Columns, numbers: np.ndarray, kept: pa.RecordBatch, keep_record: bool
) -> Chunk:
    records = kept.column("_record")
    if format == "tfrecord":
        beside = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], [ROW])
        return Chunk(SerializedRows.of(beside, records.to_pylist()))
    if not parsed:
        return Chunk(pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64()), records], [ROW, RECORD]))
    source: Mapping[str, Any]
    if format == "jsonl":
        source = {name: [row.get(name) for row in parsed] for name in columns.needed}
    elif format == "csv":
        source = {name: pa.array([row.get(name) for row in parsed], pa.binary()) for name in columns.needed}
    else:
        batch = pa.concat_batches(parsed)
        source = {name: batch.column(name) for name in columns.needed if name in batch.schema.names}
    return decode_rows(source, columns, numbers, text=format == "csv", record=records if keep_record else None)


def _with_origins(chunk: Chunk, kept: pa.RecordBatch, numbers: np.ndarray) -> Chunk:
    """A chunk with where its rows stood first. kept, numbers: the rows that were decoded, some of which it holds."""
    origins = pa.StructArray.from_arrays([kept.column("_shard"), kept.column("_row")], Origin._fields)
    known = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64()), origins], [ROW, ORIGIN])
    rows = chunk.rows.append_column(ORIGIN, origins_of(chunk.rows.column(ROW), known))
    return chunk._replace(rows=rows, rejected=with_origin(chunk.rejected, known))


def _origin(shard: str | None, row: int | None) -> Origin | None:
    return None if shard is None or row is None else Origin(shard, row)
