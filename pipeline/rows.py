"""What travels through the pipeline: record batches of one part, in order, with the rows that were set aside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from pipeline.features import Feature

ROW = "_row"
"""Column of a row's number in its shard: int64, from 0."""

RECORD = "record"
"""Column of the row as it stands in its shard: serialized bytes of text formats and TFRecord, a struct of columnar ones."""

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("_shard", pa.string(), nullable=False),
        pa.field("_row", pa.int64(), nullable=False),
        pa.field("_stage", pa.string(), nullable=False),
        pa.field("_reason", pa.string(), nullable=False),
        pa.field("_format", pa.string(), nullable=False),
        pa.field("_record", pa.binary()),
    ]
)


def feature_column(name: str) -> str:
    """Name of the column that carries the raw feature `name` from Read to Predict."""
    return f"feature:{name}"


def passthrough_column(name: str) -> str:
    """Name of the column that carries the pass-through column `name` from Read to Predict."""
    return f"passthrough:{name}"


@dataclass(frozen=True)
class PassThrough:
    """Where an output column comes from.

    source: name in the file (or of a raw feature); `Columns.sources` is looked up for it as well.
    type: of the output column. None: as in the file for Parquet and Avro, else the dtype of the raw feature of that
        name, else string.
    """

    source: str
    type: pa.DataType | None = None


@dataclass(frozen=True)
class Columns:
    """What is taken out of every record.

    features: raw features, in the order of the job.
    optional: raw features that a shard may lack.
    sources: feature or pass-through source -> name in the file; itself when absent.
    passthrough: output column -> where it comes from.
    """

    features: Mapping[str, Feature]
    optional: frozenset[str] = frozenset()
    sources: Mapping[str, str] = field(default_factory=dict)
    passthrough: Mapping[str, PassThrough] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """Name in the file of a feature or of a pass-through source."""
        return self.sources.get(name, name)

    @property
    def needed(self) -> tuple[str, ...]:
        """Names in the file that are read, each once: those of the features, then those of the pass-through columns."""
        names = [*self.features, *(column.source for column in self.passthrough.values())]
        return tuple(dict.fromkeys(self.source(name) for name in names))


@dataclass(frozen=True)
class Shard:
    """One input file as it was when the run was planned. `modified`: seconds since 1970, or None where unknown."""

    path: str
    bytes: int
    modified: float | None = None


@dataclass(frozen=True)
class Part:
    """What is scored and written as one: a shard, its place in the plan, and the digest of all that its scores rest on."""

    index: int
    key: str
    shard: Shard


class Rejected(NamedTuple):
    """A row that costs itself alone. `stage`: read, transform or predict; `record`: its bytes, or None when not kept."""

    row: int
    stage: str
    reason: str
    record: bytes | None = None


class Chunk(NamedTuple):
    """Rows of one shard, in order, as many as a reader decodes at once.

    rows: the good ones: `_row`, `record`, and (unless the graph parses the record) feature and pass-through columns.
    rejected: the bad ones.
    read: number of rows framed, good or bad.
    present: feature -> number of rows that had a value for it; empty where the graph parses the record.
    """

    rows: pa.RecordBatch
    rejected: tuple[Rejected, ...] = ()
    read: int = 0
    present: Mapping[str, int] = {}


class ShardEnd(NamedTuple):
    """How reading a shard ended. `state`: done, tail_lost (it broke after some rows) or unreadable (before any)."""

    read: int
    state: str = "done"
    reason: str = ""


@dataclass(frozen=True)
class PartBatch:
    """Consecutive rows of one part.

    sequence: counts up from 0 within the part after every stage; Write refuses a gap.
    rows: from Read to Batch `_row`, `record`, and (unless the graph parses the record) the feature and pass-through
        columns; from Predict on the output columns.
    rejected: rows of the part that were set aside so far and are not in `rows`.
    last: set on the last batch of the part, and there alone.
    present: feature -> number of rows that had a value for it, known after decoding.
    halved: how often a batch was too large for the memory and was scored in two halves.
    """

    part: Part
    sequence: int
    rows: pa.RecordBatch
    rejected: tuple[Rejected, ...] = ()
    last: ShardEnd | None = None
    present: Mapping[str, int] = field(default_factory=dict)
    halved: int = 0


def record_bytes(rows: pa.RecordBatch, index: int) -> bytes | None:
    """The record of one row as it is kept beside a rejected row, or None where records are not kept.

    Text formats and TFRecord: its bytes in the shard. Parquet and Avro: an Arrow IPC stream of that one row, with the
    columns that were read.
    """
    if RECORD not in rows.schema.names:
        return None
    record = rows.column(RECORD)
    if not pa.types.is_struct(record.type):
        return record[index].as_py()
    row = pa.RecordBatch.from_struct_array(record.take(pa.array([index])))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as stream:
        stream.write_batch(row)
    return sink.getvalue().to_pybytes()


def rejected_table(shard: str, record_format: str, rejected: Iterable[Rejected]) -> pa.Table:
    """The rejected rows of a shard, in the order of the shard, as they are written under `_rejected/`."""
    rows = sorted(rejected)
    return pa.table(
        [
            pa.array([shard] * len(rows), pa.string()),
            pa.array([row.row for row in rows], pa.int64()),
            pa.array([row.stage for row in rows], pa.string()),
            pa.array([row.reason for row in rows], pa.string()),
            pa.array([record_format] * len(rows), pa.string()),
            pa.array([row.record for row in rows], pa.binary()),
        ],
        schema=REJECTED_SCHEMA,
    )
