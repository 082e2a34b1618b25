"""Runs on a real Flink cluster of this machine: the output is that of a local run, whatever is killed meanwhile.

`scripts/flink_tests.sh`; see `flink_cluster.py` for what that needs.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from flink_cluster import ROOT, FlinkCluster, Unavailable, fetch
from flink_runs import SHARDS, Bench, end, published, score, workers
from linear_job import job_settings, write_job, write_shards
from test_tabular import needs_extra
from test_tabular import work as tabular  # noqa: F401  a fixture

from examples.digits import train
from pipeline.commands import main

pytestmark = [pytest.mark.flink, pytest.mark.any_tensorflow, pytest.mark.timeout(1200)]

CONFIGS = ROOT / "configs"
UBER_JAR = "--flink_submit_uber_jar"
UNFORESEEN = """
import apache_beam as beam, pipeline.graph as graph
def unforeseen(element):
    raise LookupError("a value of a row")
class Unforeseen(beam.PTransform):
    def __init__(self, *_):
        super().__init__()
    def expand(self, rows):
        return rows | beam.Map(unforeseen)
graph.BatchRows = Unforeseen
"""
"""Has a launcher submit a stage that fails on the workers for a reason that the project knows nothing of."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    try:
        fetch()
    except Unavailable as error:
        pytest.skip(f"cannot be had here: {error}")
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    train.train(folder, steps=100)
    return folder


@pytest.fixture(scope="module")
def settings_of(request: pytest.FixtureRequest) -> Callable[[str], dict[str, Any]]:
    """Where an example's shards and model are."""

    def settings(example: str) -> dict[str, Any]:
        work: Path = request.getfixturevalue(example)
        shards = work / ("shards" if example == "digits" else "held_out") / "*.tfrecord"
        transform = {"transform.path": work / "transform"} if example == "tabular" else {}
        return {"input.pattern": shards, "model.model_dir": work / "model", **transform}

    return settings


@pytest.fixture(scope="module")
def local(
    settings_of: Callable[[str], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The output of an example that was run on this machine alone, when it is first asked for."""
    folder = tmp_path_factory.mktemp("local")

    def output(example: str) -> Path:
        path = folder / example
        if not path.exists():
            end(score(CONFIGS / f"{example}.yaml", {**settings_of(example), "output.path": path}))
        return path

    return output


@pytest.mark.parametrize(
    ("example", "parallelism", "more"),
    [
        pytest.param("digits", 2, (), id="digits-2-job server"),
        pytest.param("digits", 4, (UBER_JAR,), id="digits-4-uber jar"),
        pytest.param("tabular", 4, (), id="tabular-4-job server", marks=needs_extra),
        pytest.param("tabular", 2, (UBER_JAR,), id="tabular-2-uber jar", marks=needs_extra),
        pytest.param("digits", 4, (), id="digits-4-job server", marks=pytest.mark.long),
        pytest.param("digits", 2, (UBER_JAR,), id="digits-2-uber jar", marks=pytest.mark.long),
        pytest.param("tabular", 2, (), id="tabular-2-job server", marks=[pytest.mark.long, needs_extra]),
        pytest.param("tabular", 4, (UBER_JAR,), id="tabular-4-uber jar", marks=[pytest.mark.long, needs_extra]),
    ],
)
def test_an_example_has_the_output_of_a_local_run(
    example: str,
    parallelism: int,
    more: Sequence[str],
    cluster: FlinkCluster,
    settings_of: Callable[[str], dict[str, Any]],
    local: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    settings = {**settings_of(example), "output.path": tmp_path / "flink"}
    options = cluster.options(f"--parallelism={parallelism}", *more)
    end(score(CONFIGS / f"{example}.yaml", settings, *options))
    assert published(tmp_path / "flink") == published(local(example))


def test_a_run_goes_on_without_its_launcher(
    cluster: FlinkCluster, settings_of: Callable[[str], dict[str, Any]], local: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = {**settings_of("digits"), "output.path": tmp_path / "flink"}
    end(score(CONFIGS / "digits.yaml", settings, *cluster.options("--parallelism=2", UBER_JAR), "--no_wait"))
    assert not (tmp_path / "flink" / "_SUCCESS").exists()
    assert main(["wait", str(tmp_path / "flink"), "--timeout=10m"]) == 0
    assert published(tmp_path / "flink") == published(local("digits"))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_small_shards(cluster: FlinkCluster, linear_model_dir: str, tmp_path: Path) -> None:
    """Says how long they take, for docs/flink.md: pytest -s."""
    write_shards(tmp_path, 1000, 100)
    config = write_job(tmp_path, job_settings(tmp_path, linear_model_dir))
    runs = {"local": [], "flink2": cluster.options("--parallelism=2"), "flink4": cluster.options("--parallelism=4")}
    for name, options in runs.items():
        report = tmp_path / f"{name}.json"
        end(score(config, {"output.path": tmp_path / name}, f"--report={report}", *options), seconds=1700)
        print(name, json.loads(report.read_text())["seconds"])
    assert published(tmp_path / "flink2") == published(tmp_path / "flink4") == published(tmp_path / "local")


# Faults


@pytest.fixture
def bench(tmp_path: Path, cluster: FlinkCluster, linear_model_dir: str) -> Iterator[Bench]:
    bench = Bench(tmp_path, cluster)
    bench.write(linear_model_dir)
    yield bench
    for process in bench.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    "more", [pytest.param((), id="job server", marks=pytest.mark.long), pytest.param((UBER_JAR,), id="uber jar")]
)
def test_a_worker_is_killed(bench: Bench, more: Sequence[str]) -> None:
    process = bench.start(*more)
    bench.wait_for(lambda: bench.finished_parts() >= 3)
    finished = bench.finished_shards()
    for pid in workers(bench.cluster):
        os.kill(pid, signal.SIGKILL)
    assert "the cluster runs again what failed" in end(process)
    bench.assert_published(finished)


def test_ctrl_c_cancels_the_job(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for(lambda: bench.finished_parts() >= 2)
    os.killpg(process.pid, signal.SIGINT)
    said = end(process, 130)
    assert said.splitlines()[-1].startswith("stopped; ")
    assert bench.last_job()["state"] == "CANCELED"
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
    said = end(bench.start(), 4)
    assert "error: 1 of 60 rows were rejected, more than errors.max_bad_rows: 0 allows" in said
    assert "Exception" not in said
    assert bench.last_job()["state"] in ("CANCELED", "FAILED")


def test_counts_that_do_not_add_up_are_told_at_once(bench: Bench) -> None:
    """A file of a finished part is replaced behind the run's back."""
    process = bench.start()
    bench.wait_for(lambda: bench.finished_parts() >= 2)
    result = next(bench.output.glob("_temporary/*/result.json"))
    told = json.loads(result.read_text())
    told["pieces"][0]["read"] += 1
    result.write_text(json.dumps(told))
    said = end(process, 5)
    assert "error: " in said
    assert bench.last_job()["state"] in ("CANCELED", "FAILED")


def test_workers_with_another_tensorflow_are_refused(bench: Bench) -> None:
    other = "import pipeline.versions as v; old = v.installed_versions; v.installed_versions = lambda: {**old(), 'tensorflow': '2.1.0'}"
    said = end(bench.start(code=other), 2)
    assert "TensorFlow 2.1.0 here and" in said.splitlines()[-1]
    assert bench.last_job()["duration"] < 60_000
    assert bench.scored == 0


@pytest.mark.long
def test_a_model_that_workers_cannot_build_is_told_at_once(bench: Bench, linear_model_dir: str) -> None:
    bench.write(linear_model_dir, fails=True)
    said = end(bench.start(), 6)
    assert re.search(r"^error: model_fn in PREDICT mode: .*slow_model.py:\d+: LookupError", said.splitlines()[-1])
    assert bench.last_job()["state"] in ("CANCELED", "FAILED")


def test_the_python_error_of_a_failed_job_is_the_last_word(bench: Bench) -> None:
    said = end(bench.start(code=UNFORESEEN), 1)
    assert re.search(r"^error: the job failed on the cluster: LookupError in unforeseen \(.*\)$", said.splitlines()[-1])
    assert "the cluster runs again what failed: LookupError in unforeseen" in said
    assert "\tat " not in said
    assert "a value of a row" not in said
    assert bench.last_job()["state"] == "FAILED"


def test_a_busy_task_manager_is_killed(bench: Bench) -> None:
    process = bench.start()
    bench.wait_for(lambda: bench.finished_parts() >= 3)
    task_managers = bench.cluster.get("taskmanagers")["taskmanagers"]
    busy = min(task_managers, key=lambda task_manager: task_manager["freeSlots"])["id"]
    finished = bench.finished_shards()
    bench.cluster.kill(busy)
    said = end(process)
    assert "the cluster runs again what failed" in said
    assert re.search(rf"^[1-9]\d* of {SHARDS} parts, \d+ rows, \d+ rows/s, \d+ s left$", said, re.M)
    bench.assert_published(finished)
    bench.cluster.start_task_manager(int(busy[-1]))
    bench.cluster.wait()
