"""Runs on a Flink cluster, as processes of their own, and what they have published."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from flink_cluster import ROOT, FlinkCluster
from linear_job import job_settings, write_job, write_shards
from linear_model import FLOATS, make_columns

SHARDS, ROWS = 12, 5


def score(config: Path, settings: dict[str, Any], *options: str, code: str = "") -> subprocess.Popen[str]:
    """Start `score` as a process of its own. code: Python that goes before."""
    set_ = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
    command = f"{code}\nimport sys; from pipeline.commands import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["score", "--config", str(config), *set_, *options]
    return subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], code: int = 0, seconds: float = 900) -> str:
    """What a run has said to stderr, which ended with this code."""
    try:
        out, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, said = process.communicate()
    assert process.returncode == code, out + said
    return said


def published(output: Path) -> tuple[list[Any], dict[str, Any]]:
    """The rows of each part, and what the manifest says of all but this very run; all that is temporary is gone."""
    manifest = json.loads((output / "_manifest.json").read_text())
    assert (output / "_SUCCESS").read_text() == manifest["run_id"]
    assert {path.name for path in output.iterdir()} == {file["path"] for file in manifest["files"]} | {
        "_manifest.json",
        "_SUCCESS",
    }
    names = ("rows", "schema", "shards", "features", "model", "transform", "versions")
    parts = [pq.read_table(output / file["path"]) for file in manifest["files"]]
    return parts, {name: manifest[name] for name in names}


@dataclass
class Bench:
    """A job over `SHARDS` shards, whose model is slow on the cluster."""

    folder: Path
    cluster: FlinkCluster
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, model_dir: str, **params: Any) -> None:
        write_shards(self.folder, SHARDS, ROWS)
        self.calls.touch()
        told = {"calls": str(self.calls), "seconds": 1.0, **params}
        model = {"estimator": "slow_model:build_estimator", "params": told}
        write_job(self.folder, job_settings(self.folder, model_dir, "slow", model, ["slow_model.py"]))

    @property
    def config(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def scored(self) -> int:
        """Batches that were scored on the cluster."""
        return len(self.calls.read_text().splitlines())

    def times_scored(self) -> list[int]:
        """How often the batch of each shard was scored on the cluster."""
        calls = Counter(self.calls.read_text().splitlines())
        firsts = [make_columns(ROWS, seed=shard)[FLOATS[0]][0] for shard in range(SHARDS)]
        return [calls[repr(float(first))] for first in firsts]

    def finished_shards(self) -> list[int]:
        """Numbers of the shards whose parts have a result by now."""
        results = [json.loads(path.read_text()) for path in self.output.glob("_temporary/*/result.json")]
        return [int(result["pieces"][0]["shard"]["path"][-14:-9]) for result in results]

    def start(self, *options: str, code: str = "") -> subprocess.Popen[str]:
        self.started.append(score(self.config, {}, *self.cluster.options("--parallelism=2", *options), code=code))
        return self.started[-1]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 400) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.started[-1].poll() is None, self.started[-1].communicate()
            assert time.monotonic() < until
            time.sleep(0.1)

    def finished_parts(self) -> int:
        return len(list(self.output.glob("_temporary/*/result.json")))

    def last_job(self) -> dict[str, Any]:
        """What the cluster says of the job that was started last; times in milliseconds."""
        jobs = [job for job in self.cluster.get("jobs/overview")["jobs"] if job["name"].startswith("slow-")]
        return max(jobs, key=lambda job: job["start-time"])

    def assert_published(self, finished: Sequence[int]) -> None:
        """All is there; what was finished when something was killed was not scored again, and the rest once at most.

        finished: shards that were, right before.
        """
        parts, manifest = published(self.output)
        assert manifest["rows"] == {"read": SHARDS * ROWS, "scored": SHARDS * ROWS, "rejected": 0}
        assert [part["_shard"].to_pylist() for part in parts] == [
            [str(self.folder / f"rows-{shard:05d}.tfrecord")] * ROWS for shard in range(SHARDS)
        ]
        times = self.times_scored()
        assert sum(times) == self.scored
        assert set(times) <= {1, 2}
        assert [times[shard] for shard in finished] == [1] * len(finished)


def workers(cluster: FlinkCluster) -> list[int]:
    """Processes that the pools have started and that are there."""
    pools = {process.pid for name, process in cluster.processes.items() if name.startswith("pool")}
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        if int(group) in pools and pid not in pools and state not in "ZX":
            found.append(pid)
    return found
