"""What the files of configs/schedule find at /opt/estimator-score, in a folder of the test, with a small model."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow.parquet as pq
from linear_job import job_settings, write_shards

ROOT = Path(__file__).resolve().parent.parent
SCHEDULE = ROOT / "configs" / "schedule"
HOME = "/opt/estimator-score"
ROWS = 3
"""Of each of the two shards of a day."""


@dataclass(frozen=True)
class Home:
    """A checkout whose configs/digits.yaml is a job of `linear_model`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, model_dir: str) -> Home:
        home = cls(folder)
        home.add_command()
        (folder / "configs").mkdir()
        home.copy("nightly.yaml", "backfill.sh")
        (folder / "configs" / "digits.yaml").write_text(json.dumps(job_settings(folder, model_dir)))
        return home

    def add_command(self) -> None:
        """Make .venv/bin/estimator-score, which runs this checkout in this environment."""
        script = self.folder / ".venv" / "bin" / "estimator-score"
        script.parent.mkdir(parents=True)
        script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pipeline "$@"\n')
        script.chmod(0o755)

    def copy(self, *names: str) -> None:
        """Copy files of configs/schedule, which name this folder then."""
        for name in names:
            path = self.folder / "configs" / "schedule" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here((SCHEDULE / name).read_text()))
            path.chmod((SCHEDULE / name).stat().st_mode)

    def here(self, text: str) -> str:
        """The text with this folder in place of the one that users have."""
        return text.replace(HOME, str(self.folder))

    @property
    def nightly(self) -> Path:
        return self.folder / "configs" / "schedule" / "nightly.yaml"

    def lay(self, date: str) -> None:
        """What the upstream leaves for a day: two shards, then its marker."""
        day = self.folder / "work" / "digits" / "days" / date
        day.mkdir(parents=True)
        write_shards(day, 2, ROWS)
        for number, shard in enumerate(sorted(day.iterdir())):
            shard.rename(day / f"rows-{number:05d}-of-00002.tfrecord")
        (day / "_SUCCESS").touch()

    def output(self, date: str) -> Path:
        return self.folder / "work" / "digits" / "nightly" / date

    def run_id(self, date: str) -> str:
        """That of the run that has published the day."""
        return (self.output(date) / "_SUCCESS").read_text()

    def scored(self, date: str) -> int:
        """Rows that are published for a day."""
        assert (self.output(date) / "_SUCCESS").exists()
        return sum(pq.read_metadata(part).num_rows for part in self.output(date).glob("part-*.parquet"))


def report(path: Path) -> Any:
    return json.loads(path.read_text())
