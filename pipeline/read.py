"""A shard of a job, read as its `input` section says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import files
from pipeline.job import Batch, Input
from pipeline.readers import read_shard
from pipeline.rows import ROW, Chunk, Columns


def read_input(path: str, source: Input, columns: Columns, batch: Batch, keep_record: bool = True) -> Iterator[Chunk]:
    """Chunks of one shard, no larger than a batch; see `pipeline.readers.read_shard` for what they hold and raise."""
    return read_shard(
        lambda: files.open_read(path),
        source.format,
        columns,
        csv=source.csv,
        rows=batch.rows,
        max_bytes=batch.bytes,
        keep_record=keep_record,
    )


def first_rows(chunks: Iterable[Chunk], count: int) -> Iterator[Chunk]:
    """The chunks of a shard up to its row number `count`, not included; what lies behind is not read."""
    read = 0
    for chunk in chunks:
        if read + chunk.read <= count:
            yield chunk
        else:
            rows = chunk.rows.filter(pc.less(chunk.rows.column(ROW), pa.scalar(count, pa.int64())))
            rejected = tuple(row for row in chunk.rejected if row.row < count)
            yield Chunk(rows, rejected, count - read, _present(chunk, rows.num_rows + len(rejected)))
        read += chunk.read
        if read >= count:
            return


def _present(chunk: Chunk, rows: int) -> dict[str, int]:
    """Presence was counted over the whole chunk; of its first rows no more can be said than at most how many."""
    return {name: min(present, rows) for name, present in chunk.present.items()}
