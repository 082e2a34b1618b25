"""Whether two ways of scoring gave the same: a fast way to wrong scores is worth nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TOLERANCE = 1e-6
"""Of probabilities. Batches of other sizes are multiplied in another order."""


def disagreement(ours: Path, theirs: Path, predictions: Sequence[str]) -> str | None:
    """What differs between the parts of our output and the Parquet files of another's, or None.

    Args:
      ours: the folder of a published output.
      theirs: a Parquet file, or a folder of them.
      predictions: columns; those of floats may differ by `TOLERANCE`, others not at all.
    """
    columns = ["id", *predictions]
    wanted = _sorted(sorted(ours.glob("part-*.parquet")), columns)
    found = _sorted(sorted(theirs.rglob("*.parquet")) if theirs.is_dir() else [theirs], columns)
    if len(found) != len(wanted):
        return f"{len(found)} rows in place of {len(wanted)}"
    if not _values(found["id"]).equals(_values(wanted["id"])):
        return "other ids"
    for name in predictions:
        differ = _different(_values(found[name]), _values(wanted[name]))
        if differ:
            return f"{name}: {differ} values differ"
    return None


def _sorted(files: Sequence[Path], columns: list[str]) -> pa.Table:
    """The rows in the order of their ids, which peers do not keep; rows of one id are copies."""
    table = pa.concat_tables(pq.read_table(file, columns=columns) for file in files)
    return table.take(pc.sort_indices(table["id"]))


def _values(column: pa.ChunkedArray) -> pa.Array:
    """All values, flat, of the type they would have without lists and with text for bytes."""
    values = column.combine_chunks()
    while pa.types.is_nested(values.type):
        values = values.flatten()
    return values.cast(pa.string()) if pa.types.is_binary(values.type) else values


def _different(found: pa.Array, wanted: pa.Array) -> int:
    if len(found) != len(wanted):
        return abs(len(found) - len(wanted))
    if pa.types.is_floating(wanted.type):
        return int((~(np.abs(found.to_numpy() - wanted.to_numpy()) <= TOLERANCE)).sum())
    return len(wanted) - (pc.sum(pc.equal(found, wanted)).as_py() or 0)
