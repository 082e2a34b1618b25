"""How pipelines of rows read and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam

from benchmarks.dataset import Dataset


def read_records(dataset: Dataset) -> Any:
    """Serialized tf.Examples."""
    return beam.io.ReadFromTFRecord(f"{dataset.folder}/rows-*")


def read_rows(dataset: Dataset) -> Any:
    """Rows of Parquet, as dicts."""
    return beam.io.ReadFromParquet(f"{dataset.folder}/rows-*")


def write_rows(dataset: Dataset, output: Path) -> Any:
    """Parquet files of rows that are dicts; their names start with `output`."""
    return beam.io.WriteToParquet(str(output), dataset.schema, codec="zstd", file_name_suffix=".parquet")
