"""A shard of a job, read as its `input` section says."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline import files
from pipeline.job import Batch, Input
from pipeline.readers import read_shard
from pipeline.rows import Chunk, Columns


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
