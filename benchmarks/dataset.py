"""The shards of a workload, and where all that belongs to them lies; what each way of scoring is told."""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

WORK = Path("work/benchmarks/score")
WORKLOADS = ("images", "tabular", "text")
FORMATS = {"tfrecord": "tfrecord", "gzip": "tfrecord.gz", "parquet": "parquet"}
"""Format -> how names of shards end."""
BATCH_ROWS = {"images": 4_096, "tabular": 16_384, "text": 16_384}
"""Workload -> the batch, of ours and of the loop by hand, that took least CPU of 4,096, 8,192 and 16,384."""


@dataclass(frozen=True)
class Dataset:
    """Shards of one workload in one format; made by `benchmarks.prepare`."""

    workload: str
    format: str
    rows: int
    work: Path = WORK

    @property
    def module(self) -> Any:
        """The module of the workload."""
        return importlib.import_module(f"benchmarks.workloads.{self.workload}")

    @property
    def home(self) -> Path:
        return self.work.absolute() / self.workload

    @property
    def model_dir(self) -> Path:
        return self.home / "model"

    @property
    def transform(self) -> Path | None:
        """The folder of the saved transform, of the workload that has one."""
        return self.home / "transform" if hasattr(self.module, "save_transform") else None

    @property
    def export(self) -> Path:
        """The folder of what `benchmarks.export` makes."""
        return self.home / "export"

    @property
    def folder(self) -> Path:
        return self.home / f"{self.format}-{self.rows}"

    @property
    def shards(self) -> list[Path]:
        """The shards, in their order."""
        return sorted(self.folder.iterdir())

    @property
    def compression(self) -> str | None:
        """What tf.data calls it."""
        return "GZIP" if self.format == "gzip" else None

    @property
    def job(self) -> Path:
        return self.folder.with_suffix(".yaml")

    @property
    def output(self) -> Path:
        """Where the job publishes."""
        return self.home / "output" / self.folder.name

    @property
    def schema(self) -> pa.Schema:
        """Of the rows that peers write."""
        return pa.schema({"id": self.module.ID, **self.module.PREDICTIONS})


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that each way of scoring has."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--workload", required=True, choices=WORKLOADS)
    arguments.add_argument("--format", required=True, choices=FORMATS)
    arguments.add_argument("--rows", type=int, required=True, metavar="N")
    arguments.add_argument("--work", type=Path, default=WORK, help="folder of what `benchmarks.prepare` made")
    arguments.add_argument(
        "--output", type=Path, required=True, help="Parquet file to write, or what its names start with"
    )
    return arguments


def parsed(known: argparse.Namespace) -> Dataset:
    return Dataset(known.workload, known.format, known.rows, known.work)
