"""What travels through the pipeline: record batches of one part, in order, with the rows that were set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.features import Feature, decoded_features
from pipeline.serialized_rows import RECORD, SerializedRows

ROW = "_row"
"""Column of a row's number: int64. Counts up without a gap in its part, and is that in its shard where there is no `ORIGIN`."""

ORIGIN = "_origin"
"""Column of rows that an earlier run had rejected, and of parts that join shards: where each stood first, a struct of
`shard` and `row`."""

OF_PATH = {b"of": b"path"}
"""Metadata of a field whose values come from the path of the shard: they decide no boundary of a batch."""

RECORD_HEADER = b"record_header"
"""Key of the metadata of a batch: bytes that stand before the record of each of its rows when that is kept."""

Rows: TypeAlias = pa.RecordBatch | SerializedRows
"""A batch of rows: of decoded columns, or of records that the graph parses."""

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


DAMAGED = "data checksum does not match"
"""How the reason ends for a record whose bytes are known to be wrong, whatever they decode to."""


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
    partitions: columns that the path of a shard has, and no record -> their dtype.
    record: what the records of TFRecord are: example, sequence_example or bytes.
    """

    features: Mapping[str, Feature]
    optional: frozenset[str] = frozenset()
    sources: Mapping[str, str] = field(default_factory=dict)
    passthrough: Mapping[str, PassThrough] = field(default_factory=dict)
    partitions: Mapping[str, str] = field(default_factory=dict)
    record: str = "example"

    def source(self, name: str) -> str:
        """Name in the file of a feature or of a pass-through source."""
        return self.sources.get(name, name)

    @property
    def needed(self) -> tuple[str, ...]:
        """Names in the file that are read, each once: those of the features, then those of the pass-through columns."""
        names = [*self.decoded, *(column.source for column in self.passthrough.values())]
        return tuple(dict.fromkeys(self.source(name) for name in names))

    @property
    def decoded(self) -> dict[str, Feature]:
        """The features that columns are decoded as, one for each field: those of a sparse one are its fields."""
        return decoded_features(self.features)

    def may_lack(self, name: str) -> bool:
        """Whether a shard may lack one of `decoded`."""
        return name in self.optional or any(
            name in self.features[feature].keys for feature in self.optional if feature in self.features
        )

    @property
    def of_record(self) -> Columns:
        """Those that are read from the records."""
        return self._chosen(lambda source: source not in self.partitions) if self.partitions else self

    @property
    def of_path(self) -> Columns:
        """Those that the path of a shard gives."""
        return self._chosen(lambda source: source in self.partitions)

    def _chosen(self, is_chosen: Callable[[str], bool]) -> Columns:
        features = {name: feature for name, feature in self.features.items() if is_chosen(self.source(name))}
        passthrough = {
            name: column for name, column in self.passthrough.items() if is_chosen(self.source(column.source))
        }
        return replace(self, features=features, passthrough=passthrough, partitions={})


@dataclass(frozen=True)
class Shard:
    """One input file as it was when the run was planned. `modified` and `etag`: as in `files.FileInfo`."""

    path: str
    bytes: int
    modified: float | None = None
    etag: str | None = None

    @property
    def version(self) -> float | str | None:
        """What tells these bytes from others under the same path: where a store has an etag, it alone."""
        return self.modified if self.etag is None else self.etag


@dataclass(frozen=True)
class Piece:
    """What a part takes of one shard: all of it, or some consecutive row groups of a Parquet shard.

    row_groups: number of the first, and of the one behind the last. first_row: number in the shard of the first row.
    """

    shard: Shard
    row_groups: tuple[int, int] | None = None
    first_row: int = 0


@dataclass(frozen=True)
class Part:
    """What is scored and written as one: one shard, unless the job joins small shards or splits large ones.

    index: its place in the plan. key: digest of all that its scores rest on. folder: of its file, below the output.
    """

    index: int
    key: str
    pieces: tuple[Piece, ...]
    folder: str = ""

    @classmethod
    def of_shard(cls, index: int, key: str, shard: Shard) -> Part:
        """The part that is one whole shard."""
        return cls(index, key, (Piece(shard),))

    @property
    def name(self) -> str:
        """Its shards, in words."""
        return in_words([piece.shard for piece in self.pieces])


def in_words(shards: Sequence[Shard]) -> str:
    """Some shards: the path of the first, and how many there are beside it."""
    others = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
    return f"{shards[0].path}{others}"


class Origin(NamedTuple):
    """Where a row stood first."""

    shard: str
    row: int


class Rejected(NamedTuple):
    """A row that costs itself alone.

    row: as in the column `_row`. stage: read, transform or predict. record: its bytes, or None when not kept.
    origin: as in the column `_origin`, None where there is none.
    """

    row: int
    stage: str
    reason: str
    record: bytes | None = None
    origin: Origin | None = None


class Chunk(NamedTuple):
    """Rows of one shard, in order, as many as a reader decodes at once.

    rows: the good ones: `_row`, `record`, and (unless the graph parses the record) feature and pass-through columns;
        `_origin` too where they come from a file of rejected rows.
    rejected: the bad ones.
    read: number of rows framed, good or bad.
    present: feature -> number of rows that had a value for it; empty where the graph parses the record.
    """

    rows: Rows
    rejected: tuple[Rejected, ...] = ()
    read: int = 0
    present: Mapping[str, int] = {}


class ShardEnd(NamedTuple):
    """How reading a piece ended. `state`: done, tail_lost (it broke after some rows) or unreadable (before any)."""

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
    last: on the last batch of the part, and there alone: how reading each of its pieces ended.
    present: feature -> number of rows that had a value for it, known after decoding.
    halved: how often a batch was too large for the memory and was scored in two halves.
    """

    part: Part
    sequence: int
    rows: Rows
    rejected: tuple[Rejected, ...] = ()
    last: tuple[ShardEnd, ...] = ()
    present: Mapping[str, int] = field(default_factory=dict)
    halved: int = 0

    @property
    def shard(self) -> str | None:
        """Path of the shard that an error in the batch is told of; None where the part has several."""
        return self.part.pieces[0].shard.path if len(self.part.pieces) == 1 else None


def record_bytes(rows: Rows, index: int) -> bytes | None:
    """The record of one row as it is kept beside a rejected row, or None where records are not kept.

    TFRecord and JSON lines: its bytes in the shard. CSV: the line with the column names, if the shard has one, and the
    line of the row. Parquet and Avro: an Arrow IPC stream of that one row, with the columns that were read.
    """
    if isinstance(rows, SerializedRows):
        return rows.records[index]
    if RECORD not in rows.schema.names:
        return None
    record = rows.column(RECORD)
    if not pa.types.is_struct(record.type):
        return (rows.schema.metadata or {}).get(RECORD_HEADER, b"") + record[index].as_py()
    row = pa.RecordBatch.from_struct_array(record.take(pa.array([index])))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as stream:
        stream.write_batch(row)
    return sink.getvalue().to_pybytes()


def take_rows(rows: Rows, chosen: np.ndarray) -> Rows:
    """Rows of a batch. chosen: their places, int64, in the order that is wanted; or a mask, bool (rows,)."""
    return rows.take(pa.array(np.flatnonzero(chosen) if chosen.dtype == bool else chosen))


def fields_of_record(rows: Rows) -> list[str]:
    """Columns of a batch, apart from those that number and keep its rows and those that the path of a shard gives."""
    own = (ROW, RECORD, ORIGIN)
    return [column.name for column in rows.schema if column.name not in own and column.metadata != OF_PATH]


def origins_of(numbers: pa.Array, rows: Rows) -> pa.StructArray | None:
    """Where some rows of a batch stood first, by their numbers and in their order; None where `_row` itself says so."""
    if ORIGIN not in rows.schema.names:
        return None
    origins, all_numbers = rows.column(ORIGIN), rows.column(ROW)
    return origins if numbers.equals(all_numbers) else origins.take(pc.index_in(numbers, all_numbers))


def origin_of(rows: Rows, index: int) -> tuple[str | None, int]:
    """Shard (None where that is the one of the part) and number there of one row of a batch."""
    if ORIGIN not in rows.schema.names:
        return None, rows.column(ROW)[index].as_py()
    origin = rows.column(ORIGIN)[index].as_py()
    return origin["shard"], origin["row"]


def with_origin(rejected: tuple[Rejected, ...], rows: Rows) -> tuple[Rejected, ...]:
    """Rows that were rejected from a batch, with where they stood first."""
    if not rejected:
        return rejected
    origins = origins_of(pa.array([row.row for row in rejected], pa.int64()), rows)
    if origins is None:
        return rejected
    return tuple(
        row._replace(origin=Origin(**origin)) for row, origin in zip(rejected, origins.to_pylist(), strict=True)
    )


def rejected_table(shard: str, record_format: str, rejected: Iterable[Rejected]) -> pa.Table:
    """Rejected rows in their order, as they are written under `_rejected/`. shard: of those that have no origin."""
    rows = sorted(rejected)
    origins = [row.origin or Origin(shard, row.row) for row in rows]
    return pa.table(
        [
            pa.array([origin.shard for origin in origins], pa.string()),
            pa.array([origin.row for origin in origins], pa.int64()),
            pa.array([row.stage for row in rows], pa.string()),
            pa.array([row.reason for row in rows], pa.string()),
            pa.array([record_format] * len(rows), pa.string()),
            pa.array([row.record for row in rows], pa.binary()),
        ],
        schema=REJECTED_SCHEMA,
    )
