"""A shard of a job, read as its `input` section says."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.errors import BrokenShard, InputError
from pipeline.job import Batch, Input
from pipeline.partitions import with_partitions
from pipeline.plan import check_unchanged
from pipeline.readers import read_shard, rejected_format
from pipeline.rows import ORIGIN, ROW, Chunk, Columns, Origin, Piece, Shard


def read_input(
    path: str,
    source: Input,
    columns: Columns,
    batch: Batch,
    keep_record: bool = True,
    row_groups: tuple[int, int] | None = None,
) -> Iterator[Chunk]:
    """Chunks of one shard, no larger than a batch; see `pipeline.readers.read_shard` for what they hold and raise.

    What the path of the shard says stands in further columns of them, also where the graph parses the record.
    """
    chunks = read_shard(
        lambda: files.open_read(path),
        source.format,
        columns.of_record,
        csv=source.csv,
        rows=batch.rows,
        max_bytes=batch.bytes,
        keep_record=keep_record,
        row_groups=row_groups,
    )
    return with_partitions(chunks, path, columns) if columns.partitions else chunks


def with_format(source: Input, shards: Sequence[Shard]) -> Input:
    """The `input` section with the format of what is read: files of rejected rows carry that of their records.

    The first shard that can be read tells. Where it names another format than `source`, all shards have to be files of
    rejected rows; where it does not, such files may lie among others.

    Raises:
      InputError: the file has rejected rows whose records were not kept, or lies among shards of another format.
    """
    for shard in shards:
        try:
            found = rejected_format(partial(files.open_read, shard.path))
        except BrokenShard:
            continue  # the run tells of it
        if found is None:
            return source
        format, any_kept = found
        if format is None:
            continue  # it has no rows
        if not any_kept:
            raise InputError(
                f"{shard.path} holds rejected rows without their records (errors.keep_record: false), which cannot be "
                "scored again; score their shards"
            )
        if format == source.format:
            return source
        for other in shards:
            if _is_ordinary(other):
                raise InputError(
                    f"{shard.path} holds rejected rows of the format {format}, and {other.path} is no such file: "
                    f"it would be read as {source.format}; score them in two runs"
                )
        return source.model_copy(update={"format": format})
    return source


def _is_ordinary(shard: Shard) -> bool:
    try:
        return rejected_format(partial(files.open_read, shard.path)) is None
    except BrokenShard:
        return False  # the run tells of it


def as_planned(shard: Shard, chunks: Iterable[Chunk]) -> Generator[Chunk, None, None]:
    """The chunks of a shard; raises BrokenShard where its file is not the one that was planned, before or after."""
    check_unchanged(shard)
    yield from chunks
    check_unchanged(shard)


def joined(chunk: Chunk, piece: Piece, before: int) -> Chunk:
    """A chunk of a part of several pieces: its rows count on from the `before` rows of the others, and have an origin."""
    numbers = chunk.rows.column(ROW)
    offset = before - piece.first_row
    place = chunk.rows.schema.get_field_index(ROW)
    rows = chunk.rows.set_column(place, ROW, pa.array(numbers.to_numpy() + offset))
    if ORIGIN not in rows.schema.names:
        shards = pa.repeat(pa.scalar(piece.shard.path, pa.string()), rows.num_rows)
        rows = rows.append_column(ORIGIN, pa.StructArray.from_arrays([shards, numbers], Origin._fields))
    rejected = tuple(
        row._replace(row=row.row + offset, origin=row.origin or Origin(piece.shard.path, row.row))
        for row in chunk.rejected
    )
    return chunk._replace(rows=rows, rejected=rejected)


def first_rows(chunks: Iterable[Chunk], count: int, first: int = 0) -> Iterator[Chunk]:
    """The chunks up to row number `count` of a shard, not included; what lies behind is not read. first: of the chunks."""
    read = first
    for chunk in chunks:
        if read + chunk.read <= count:
            yield chunk
        else:
            rows = chunk.rows.slice(0, int(np.searchsorted(chunk.rows.column(ROW).to_numpy(), count)))
            rejected = tuple(row for row in chunk.rejected if row.row < count)
            yield Chunk(rows, rejected, count - read, _present(chunk, rows.num_rows + len(rejected)))
        read += chunk.read
        if read >= count:
            return


def _present(chunk: Chunk, rows: int) -> dict[str, int]:
    """Presence was counted over the whole chunk; of its first rows no more can be said than at most how many."""
    return {name: min(present, rows) for name, present in chunk.present.items()}
