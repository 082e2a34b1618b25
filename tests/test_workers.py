"""Several processes on one machine: the same rows in the same parts, and none that is left behind, however a run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from bad_inputs import same
from linear_job import job_settings, write_job, write_shards

pytestmark = pytest.mark.any_tensorflow

TESTS = Path(__file__).parent
SHARDS, ROWS = 6, 5
KILLED = -signal.SIGKILL


@dataclass
class Bench:
    """A job over `SHARDS` shards, whose runs are processes of their own."""

    folder: Path
    model_dir: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        write_shards(self.folder, SHARDS, ROWS)
        model, code = {"estimator": "held_model:build_estimator"}, ["held_model.py"]
        write_job(self.folder, job_settings(self.folder, self.model_dir, "workers", model, code))

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def hold(self) -> Path:
        """Workers that the launcher has started wait while this file is there."""
        return self.folder / "held" / "hold"

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "score", "--config", str(self.folder / "job.yaml"), "--quiet",
             "--report", str(self.folder / "report.json"), *options],
            cwd=TESTS.parent,
            env={**os.environ, "HELD_MODEL": str(self.hold)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *options: str, code: int = 0) -> str:
        """Gives the error that the run ended with."""
        return ended(self.start(*options), code, within=100)

    def held(self, *options: str) -> tuple[subprocess.Popen[str], int]:
        """A run whose one other worker waits in the middle of a batch, while the launcher's own parts are done; and that worker."""
        self.hold.parent.mkdir(exist_ok=True)
        self.hold.touch()
        launcher = self.start("--workers", "2", *options)
        while launcher.poll() is None:
            waiting = [int(path.name) for path in self.hold.parent.iterdir() if path != self.hold]
            if waiting and len(list(self.output.glob("_temporary/*/result.json"))) == SHARDS // 2:
                return launcher, waiting[0]
            time.sleep(0.05)
        raise AssertionError(launcher.communicate())

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text(encoding="utf-8"))

    @property
    def published(self) -> dict[str, pa.Table]:
        return {path.name: pq.read_table(path) for path in self.output.glob("part-*.parquet")}


@pytest.fixture
def bench(linear_model_dir: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, linear_model_dir)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def ended(launcher: subprocess.Popen[str], code: int, within: float) -> str:
    """The last line that a run said, which ends with this exit code; warnings of libraries may stand before it."""
    _, said = launcher.communicate(timeout=within)
    same(launcher.returncode, code, said)
    assert "Traceback" not in said  # it may hold values of rows
    return said.splitlines()[-1] if said else ""


def is_gone(process: int, within: float = 30.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_the_same_rows_in_the_same_parts(bench: Bench) -> None:
    bench.run()
    alone = bench.published
    same(bench.report["memory"]["processes_per_machine"], 1)
    bench.run("--workers", "2", "--set", "output.if_exists=overwrite")
    assert sorted(alone) == [f"part-{part:05d}-of-{SHARDS:05d}.parquet" for part in range(SHARDS)]
    assert bench.published == alone
    memory = bench.report["memory"]
    same(memory["processes_per_machine"], 2)
    assert len(memory["workers_peak_bytes"]) == 2
    assert all(2**27 < peak < 2**33 for peak in (*memory["workers_peak_bytes"], memory["launcher_peak_bytes"]))
    manifest = json.loads((bench.output / "_manifest.json").read_text(encoding="utf-8"))
    assert manifest["memory"].keys() == memory.keys()
    same(manifest["rows"], {"read": SHARDS * ROWS, "scored": SHARDS * ROWS, "rejected": 0})


def test_a_worker_that_is_killed_ends_the_run(bench: Bench) -> None:
    launcher, worker = bench.held()
    os.kill(worker, signal.SIGKILL)
    same(
        ended(launcher, 1, within=30),
        "error: a worker process was killed, as the kernel does where memory runs out: lower runner.processes_per_machine "
        "(--workers). Finished parts are kept for the next run",
    )
    same(json.loads((bench.output / "_FAILED.json").read_text())["exit_code"], 1)
    bench.hold.unlink()
    bench.run("--workers", "2")
    same(bench.report["resumed_parts"], SHARDS // 2)
    same(len(bench.published), SHARDS)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, KILLED)], ids=str
)
def test_no_worker_outlives_the_launcher(number: int, code: int, bench: Bench) -> None:
    launcher, worker = bench.held()
    launcher.send_signal(number)
    said = ended(launcher, code, within=30)

    assert is_gone(worker)
    if code > 0:
        assert f"{SHARDS // 2} parts are done and kept for the next run; nothing was published" in said


def test_a_signal_to_all_is_the_launchers(bench: Bench) -> None:
    launcher, worker = bench.held()
    for number in (signal.SIGINT, signal.SIGTERM):  # as from a terminal, or from systemd
        os.kill(worker, number)
    time.sleep(0.5)
    assert launcher.poll() is None
    bench.hold.unlink()
    ended(launcher, 0, within=60)
    assert is_gone(worker, within=0.5)


def test_what_a_worker_refuses_ends_as_in_one_process(bench: Bench) -> None:
    shards = [str(bench.folder / f"rows-{shard:05d}.tfrecord") for shard in range(SHARDS)]
    for seed, shard in list(enumerate(shards))[1:]:  # those of every worker; the probe looks at the first alone
        columns = linear_model.make_columns(ROWS, seed=seed)
        columns[linear_model.FLOATS[3]][2] = float("nan")
        with tf.io.TFRecordWriter(shard) as writer:
            for record in linear_model.to_examples(columns):
                writer.write(record)
    ends = []
    for options in ((), ("--workers", "2")):
        said = bench.run(*options, code=4)
        left = json.loads((bench.output / "_FAILED.json").read_text())
        ends.append((left["exit_code"], left["stage"], left["shard"] in shards, said))
    same(ends[0][:3], (4, "predict", True))
    same(ends[1], ends[0])
