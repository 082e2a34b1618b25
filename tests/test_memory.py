"""Peak memory of the whole process does not grow with the number of rows, however they lie in their one shard.

A row is some 800 bytes in memory, so that rows which are kept show: 180 thousand of them are a fifth of what TensorFlow
takes by itself.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

pytestmark = pytest.mark.any_tensorflow

TESTS = Path(__file__).parent
BLOCK = 10_000
GROWTH = 1.10
MEASURE = """\
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A child's peak starts with that of the process that forks it, so a small one stands between it and pytest."""


def make_columns(rows: int) -> dict[str, Any]:
    columns = linear_model.make_columns(rows)
    words = np.array([f"{index:0200d}".encode() for index in range(1000)], object)
    choices = np.random.default_rng(1).integers(0, len(words), (len(linear_model.WORDS), rows))
    return columns | {name: words[choice] for name, choice in zip(linear_model.WORDS, choices, strict=True)}


def write_gzip_tfrecord(path: Path, rows: int) -> None:
    """One gzip stream of a block of distinct records, over and over: only framing them anew would take minutes."""
    plain = path.with_suffix(".block")
    with tf.io.TFRecordWriter(str(plain)) as writer:
        for record in linear_model.to_examples(make_columns(BLOCK)):
            writer.write(record)
    block = plain.read_bytes()
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(rows // BLOCK):
            file.write(block)


def write_single_row_group(path: Path, rows: int) -> None:
    columns = make_columns(rows)
    pq.write_table(pa.table(columns), path, row_group_size=rows, use_dictionary=linear_model.WORDS)
    assert pq.read_metadata(path).num_row_groups == 1


WRITERS = [
    pytest.param("tfrecord", write_gzip_tfrecord, id="gzip-tfrecord"),
    pytest.param("parquet", write_single_row_group, id="parquet-single-row-group"),
]


@pytest.mark.parametrize(("format", "write"), WRITERS)
def test_peak_memory_of_20_and_200_thousand_rows(
    format: str, write: Callable[[Path, int], None], linear_model_dir: str, tmp_path: Path
) -> None:
    few, many = (peak_memory(format, write, rows, linear_model_dir, tmp_path) for rows in (20_000, 200_000))
    assert many <= GROWTH * few


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("format", "write"), WRITERS)
def test_peak_memory_of_200_thousand_and_2_million_rows(
    format: str, write: Callable[[Path, int], None], linear_model_dir: str, tmp_path: Path
) -> None:
    few, many = (peak_memory(format, write, rows, linear_model_dir, tmp_path) for rows in (200_000, 2_000_000))
    assert many <= GROWTH * few


def peak_memory(format: str, write: Callable[[Path, int], None], rows: int, model_dir: str, folder: Path) -> int:
    """KiB that the command had in memory at most while it scored one shard of so many rows."""
    shard, output = folder / f"shard-{rows}", folder / f"out-{rows}"
    write(shard, rows)
    job = {
        "name": "memory",
        "code": [str(TESTS / "linear_model.py")],
        "input": {"pattern": str(shard), "format": format},
        "features": linear_model.FEATURES,
        "model": {**linear_model.MODEL, "model_dir": model_dir},
        "output": {"path": str(output), "passthrough": ["word_0"]},
    }
    config = folder / "job.yaml"
    config.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "score", "--config", str(config), "--quiet"]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert measured.returncode == 0, measured.stderr
    manifest = json.loads((output / "_manifest.json").read_text(encoding="utf-8"))
    assert manifest["rows"] == {"read": rows, "scored": rows, "rejected": 0}
    print(f"{format}, {rows:,} rows: {int(measured.stdout) / 1024:,.0f} MiB")
    return int(measured.stdout)
