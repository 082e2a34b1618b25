"""`compare` joins more rows than its memory would hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from test_memory import MEASURE

ROWS = 10_000_000
CHANGED = 7_654_321
BLOCK = 1_000_000


def write_scores(path: Path, order: np.ndarray, changed: int | None = None) -> None:
    """Rows `order` of the scores: a key of 24 letters, a score, two probabilities and a class, 50 bytes together."""
    score = np.random.default_rng(3).random(len(order), np.float32)
    if changed is not None:
        score[changed] += 0.25
    with pq.ParquetWriter(path, table_of(order[:1], score).schema) as writer:
        for start in range(0, len(order), BLOCK):
            writer.write_table(table_of(order[start : start + BLOCK], score))


def table_of(rows: np.ndarray, score: np.ndarray) -> pa.Table:
    p = score[rows]
    keys = pc.utf8_lpad(pa.array(rows).cast(pa.string()), 24, "0")
    both = pa.FixedSizeListArray.from_arrays(pa.array(np.column_stack([1 - p, p]).ravel()), 2)
    return pa.table({"trip_id": keys, "score": p, "probabilities": both, "class": (p > 0.5).astype(np.int64)})


@pytest.mark.long
@pytest.mark.timeout(900)
def test_10_million_rows_in_another_order_in_less_than_2_gb(tmp_path: Path) -> None:
    new, old, report = (tmp_path / name for name in ("new.parquet", "old.parquet", "report.json"))
    write_scores(new, np.arange(ROWS))
    write_scores(old, np.random.default_rng(1).permutation(ROWS), CHANGED)

    command = ["-m", "pipeline", "compare", str(new), str(old), "--on", "trip_id", "--report", str(report)]
    started = time.monotonic()
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *command],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert measured.returncode == 8, measured.stderr
    found = json.loads(report.read_text())
    assert (found["paired"], found["differing"]) == (ROWS, 1)
    (worst,) = next(column for column in found["columns"] if column["name"] == "score")["worst"]
    assert worst["key"] == {"trip_id": f"{CHANGED:024d}"}
    mebibytes = int(measured.stdout.splitlines()[-1]) / 1024
    print(f"{ROWS:,} rows: {mebibytes:,.0f} MiB, {time.monotonic() - started:.0f} s")
    assert mebibytes * 2**20 < 2e9
