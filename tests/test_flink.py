"""Runs on a real Flink cluster of this machine: the output is that of a local run, whatever is killed meanwhile.

`pytest -m flink tests/test_flink.py`; see `flink_cluster.py` for what that needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow.parquet as pq
import pytest
from flink_cluster import ROOT, FlinkCluster
from linear_job import job_settings, write_job, write_shards
from test_tabular import needs_extra
from test_tabular import work as tabular  # noqa: F401  a fixture

from examples.digits import train

pytestmark = [pytest.mark.flink, pytest.mark.any_tensorflow, pytest.mark.timeout(300)]

TESTS = Path(__file__).resolve().parent
SHARDS, ROWS = 12, 5
UBER_JAR = "--flink_submit_uber_jar"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    train.train(folder, steps=100)
    return folder


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


def end(process: subprocess.Popen[str], code: int = 0, seconds: float = 240) -> str:
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


@pytest.mark.parametrize("more", [(), (UBER_JAR,)], ids=["job server", "uber jar"])
@pytest.mark.parametrize("parallelism", [2, 4])
@pytest.mark.parametrize("example", ["digits", pytest.param("tabular", marks=needs_extra)])
def test_an_example_has_the_output_of_a_local_run(
    example: str,
    parallelism: int,
    more: Sequence[str],
    cluster: FlinkCluster,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    work, config = request.getfixturevalue(example), ROOT / "configs" / f"{example}.yaml"
    shards = work / ("shards" if example == "digits" else "held_out") / "*.tfrecord"
    settings = {"input.pattern": shards, "model.model_dir": work / "model", "output.path": tmp_path / "local"}
    if example == "tabular":
        settings["transform.path"] = work / "transform"
    end(score(config, settings))
    settings["output.path"] = tmp_path / "flink"
    end(score(config, settings, *cluster.options(f"--parallelism={parallelism}", *more)))
    assert published(tmp_path / "flink") == published(tmp_path / "local")


# Faults


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

    def start(self, *options: str, code: str = "") -> subprocess.Popen[str]:
        self.started.append(score(self.config, {}, *self.cluster.options("--parallelism=2", *options), code=code))
        return self.started[-1]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.started[-1].poll() is None, self.started[-1].communicate()
            assert time.monotonic() < until
            time.sleep(0.1)

    def finished_parts(self) -> int:
        return len(list(self.output.glob("_temporary/*/result.json")))

    def states(self) -> list[str]:
        """Of all jobs of this bench, the last one first."""
        jobs = [job for job in self.cluster.get("jobs/overview")["jobs"] if job["name"].startswith("slow-")]
        return [job["state"] for job in sorted(jobs, key=lambda job: -job["start-time"])]


@pytest.fixture
def bench(tmp_path: Path, cluster: FlinkCluster, linear_model_dir: str) -> Iterator[Bench]:
    bench = Bench(tmp_path, cluster)
    bench.write(linear_model_dir)
    yield bench
    for process in bench.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def workers(cluster: FlinkCluster) -> list[int]:
    """Processes that the pool has started and that are there."""
    pool = cluster.processes["pool"].pid
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        if int(group) == pool and pid != pool and state not in "ZX":
            found.append(pid)
    return found


def assert_published(bench: Bench) -> None:
    parts, manifest = published(bench.output)
    assert manifest["rows"] == {"read": SHARDS * ROWS, "scored": SHARDS * ROWS, "rejected": 0}
    assert [part["_shard"].to_pylist() for part in parts] == [
        [str(bench.folder / f"rows-{shard:05d}.tfrecord")] * ROWS for shard in range(SHARDS)
    ]
    assert bench.scored <= SHARDS + 2  # what was under way when something was killed, and nothing else


@pytest.mark.parametrize("more", [(), (UBER_JAR,)], ids=["job server", "uber jar"])
def test_a_worker_is_killed(bench: Bench, more: Sequence[str]) -> None:
    process = bench.start(*more)
    bench.wait_for(lambda: bench.finished_parts() >= 3)
    for pid in workers(bench.cluster):
        os.kill(pid, signal.SIGKILL)
    assert "the cluster runs again what failed" in end(process)
    assert_published(bench)


def test_ctrl_c_cancels_the_job(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for(lambda: bench.finished_parts() >= 2)
    os.killpg(process.pid, signal.SIGINT)
    said = end(process, 130, seconds=60)
    assert said.splitlines()[-1].startswith("stopped; ")
    assert bench.states()[0] == "CANCELED"
    assert not (bench.output / "_SUCCESS").exists()

    kept = bench.finished_parts()
    assert kept >= 2
    scored = bench.scored
    end(bench.start())
    assert bench.scored - scored == SHARDS - kept
    published(bench.output)
    assert json.loads((bench.output / "_manifest.json").read_text())["resumed_parts"] == kept


def test_too_many_bad_rows_are_told_at_once(bench: Bench) -> None:
    shard = bench.folder / "rows-00003.tfrecord"
    data = bytearray(shard.read_bytes())
    data[20] ^= 1  # in the data of the first record, so its checksum does not fit
    shard.write_bytes(bytes(data))
    said = end(bench.start(), 4, seconds=90)
    assert "error: 1 of 60 rows were rejected, more than errors.max_bad_rows: 0 allows" in said
    assert "Exception" not in said
    assert bench.states()[0] in ("CANCELED", "FAILED")


def test_counts_that_do_not_add_up_are_told_at_once(bench: Bench) -> None:
    """A file of a finished part is replaced behind the run's back."""
    process = bench.start()
    bench.wait_for(lambda: bench.finished_parts() >= 2)
    result = next(bench.output.glob("_temporary/*/result.json"))
    told = json.loads(result.read_text())
    told["pieces"][0]["read"] += 1
    result.write_text(json.dumps(told))
    said = end(process, 5, seconds=90)
    assert "error: " in said
    assert bench.states()[0] in ("CANCELED", "FAILED")


def test_workers_with_another_tensorflow_are_refused(bench: Bench) -> None:
    other = "import pipeline.versions as v; old = v.installed_versions; v.installed_versions = lambda: {**old(), 'tensorflow': '2.1.0'}"
    start = time.monotonic()
    said = end(bench.start(code=other), 2, seconds=90)
    assert "TensorFlow 2.1.0 here and" in said.splitlines()[-1]
    assert time.monotonic() - start < 60
    assert bench.scored == 0


def test_the_python_error_of_a_failed_job_is_the_last_word(bench: Bench, linear_model_dir: str) -> None:
    bench.write(linear_model_dir, fails=True)
    said = end(bench.start(), 1, seconds=280)
    last = said.splitlines()[-1]
    assert "LookupError in model_fn" in last
    assert "slow_model.py" in last
    assert "\tat " not in said
    assert bench.states()[0] == "FAILED"


def test_a_busy_task_manager_is_killed(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for(lambda: bench.finished_parts() >= 3)
    task_managers = bench.cluster.get("taskmanagers")["taskmanagers"]
    busy = min(task_managers, key=lambda task_manager: task_manager["freeSlots"])["id"]
    bench.cluster.kill(busy)
    end(process)
    assert_published(bench)
    bench.cluster.start_task_manager(int(busy[-1]))
    bench.cluster.wait()
