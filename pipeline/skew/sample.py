"""The first rows of the input, as the graph takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.errors import BrokenShard
from pipeline.read import read_input
from pipeline.rows import RECORD, Chunk, Shard, feature_column
from pipeline.scoring import ScoringSpec

ROWS = 4096
"""Rows that are looked at: enough for a share to be right to 2 %, and read in a moment."""

SHARDS = 8
"""Most shards that are opened for them, where shards are small."""


@dataclass(frozen=True)
class Sample:
    """Rows of the first shards.

    rows: what the graph input takes of them. read: how many were read, bad ones among them. shards: how many were opened.
    present: feature -> rows of `read` that have a value; empty where the graph parses the record.
    """

    rows: pa.RecordBatch
    read: int
    shards: int
    present: Mapping[str, int]


def first_rows(spec: ScoringSpec, shards: Sequence[Shard]) -> Sample | None:
    """About `ROWS` rows of the first shards, fewer where rows are large; None where there are none. Broken shards are left out."""
    job = spec.job
    columns = replace(spec.columns, passthrough={})
    batch = job.batch.model_copy(update={"rows": min(job.batch.rows, ROWS)})
    of_record = spec.record_format == "tfrecord"
    names = [feature_column(name) for name in (columns.of_path if of_record else columns).decoded]
    names += [RECORD] if of_record else []
    chunks: list[Chunk] = []
    opened = 0
    for shard in shards[:SHARDS]:
        opened += 1
        try:
            for chunk in read_input(shard.path, job.input, columns, batch, keep_record=False):
                chunks.append(chunk)
                if _is_enough(chunks, batch.bytes):
                    break
        except BrokenShard:
            continue  # the run tells of it
        if _is_enough(chunks, batch.bytes):
            break
    read = sum(chunk.read for chunk in chunks)
    if not read:
        return None
    present = Counter[str]()
    for chunk in chunks:
        present.update(chunk.present)
    batches = [chunk.rows.select(names).replace_schema_metadata(None) for chunk in chunks]
    return Sample(pa.concat_batches(batches), read, opened, present)


def _is_enough(chunks: Sequence[Chunk], most_bytes: int) -> bool:
    return sum(chunk.read for chunk in chunks) >= ROWS or sum(chunk.rows.nbytes for chunk in chunks) >= most_bytes
