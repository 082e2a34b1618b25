"""Runs that are left to a cluster: from launch to `_SUCCESS`, and their lock. Google's service is `dataflow_stub.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from dataflow_stub import DataflowStub, dataflow
from left_runs import IMAGE, UNKNOWN, job_of, left
from linear_job import job_settings, write_job, write_shards

from pipeline import dataflow as service
from pipeline import lease as locks
from pipeline import wait as waiting
from pipeline.commands import main
from pipeline.errors import JobError, LeaseLost, ModelError, OutputError
from pipeline.failure import Failure, read_failed, read_verdict, verdict, write_verdict
from pipeline.handover import left_job, over
from pipeline.lease import acquire, holder_of, is_locked
from pipeline.runner import pipeline_options

pytestmark = pytest.mark.any_tensorflow


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[DataflowStub]:
    (tmp_path / "service").mkdir()
    with dataflow(tmp_path / "service") as stub:
        yield stub


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(tmp_path / "out")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(service, "_ASK_EVERY", 0.0)
    monkeypatch.setattr(service, "_LAST_WORDS", 0.0)


# From the launch to `_SUCCESS`


def test_a_run_goes_on_without_its_launcher(
    tmp_path: Path, output: str, stub: DataflowStub, linear_model_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stub runs what was staged in a process of its own, as the service would on its machines."""
    write_shards(tmp_path, 2, 5)
    job = write_job(tmp_path, job_settings(tmp_path, linear_model_dir))
    report = tmp_path / "report.json"
    stub.runs = True
    score = ["score", "--config", str(job), *stub.options, IMAGE, "--no_wait"]
    assert main([*score, "--report", str(report)]) == 0
    told = json.loads(report.read_text())
    (sent,) = stub.jobs
    assert (told["status"], told["exit_code"]) == ("submitted", 0)
    assert told["job"]["id"] == sent["id"]
    assert told["job"]["name"] == sent["name"]
    assert is_locked(output)

    assert main(score) == 7
    said = capsys.readouterr()
    assert "which is RUNNING on DataflowRunner; wait for it (estimator-score wait" in said.err
    assert main(["wait", output, "--timeout", "100s"]) == 0
    said = capsys.readouterr()
    assert "rows        10 read, 10 scored, 0 rejected" in said.out
    assert f"job {sent['name']}, since" in said.err
    until = time.monotonic() + 30
    while sent["currentState"] == "JOB_STATE_RUNNING" and time.monotonic() < until:
        time.sleep(0.1)
    assert sent["currentState"] == "JOB_STATE_DONE"
    assert not (tmp_path / "out" / "_temporary").exists()
    assert main(["wait", output]) == 0, "of a run that has ended it is told at once"


def test_nobody_waits_for_a_template(tmp_path: Path, output: str, stub: DataflowStub, linear_model_dir: str) -> None:
    """The launcher of a Flex Template names a place for the job, and submits it when the program has ended."""
    write_shards(tmp_path, 2, 5)
    job = write_job(tmp_path, job_settings(tmp_path, linear_model_dir))
    template = tmp_path / "job_object"
    more = [f"--template_location={template}", "--job_name=from-template"]
    assert main(["score", "--config", str(job), *stub.options, IMAGE, *more]) == 0
    assert json.loads(template.read_text())["name"] == "from-template"
    assert stub.requests == []
    holder = holder_of(output)
    assert holder is not None
    assert holder.content["job"]["name"] == "from-template"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command line: --no_wait is for clusters, and FnApiRunner runs in this process; leave it out"),
        (["--runner=PrismRunner"], "--no_wait is for clusters, and PrismRunner runs in this process"),
        (["--runner=SparkRunner"], "the job server that Beam starts for SparkRunner ends with this command; start one"),
        (
            ["--runner=FlinkRunner", "--flink_master=f:8081", "--environment_type=EXTERNAL"],
            "starts for FlinkRunner ends with this command; or give --flink_submit_uber_jar, start one yourself",
        ),
        (["--runner=PortableRunner", "--job_endpoint=embed"], "the job server that Beam starts for PortableRunner"),
        (
            ["--runner=PortableRunner", "--job_endpoint=h:8099", "--environment_type=LOOPBACK"],
            "with --environment_type=LOOPBACK the workers run in this process",
        ),
    ],
    ids=["here", "prism", "spark", "flink", "embedded", "loopback"],
)
def test_what_cannot_be_left(arguments: list[str], message: str) -> None:
    with pytest.raises(JobError) as refused:
        left_job(pipeline_options(arguments), "trips", "r1", no_wait=True)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["--runner=FlinkRunner", "--flink_master=f:8081", "--environment_type=EXTERNAL", "--flink_submit_uber_jar"],
         {"flink_master": "f:8081"}),
        (["--runner=PortableRunner", "--job_endpoint=h:8099"], {}),
    ],
    ids=["flink", "portable"],
)  # fmt: skip
def test_what_can_be_left(arguments: list[str], place: dict[str, str]) -> None:
    options = pipeline_options(arguments)
    assert left_job(options, "trips", "0123456789", no_wait=False) is None
    found = left_job(options, "trips", "0123456789", no_wait=True)
    assert found == {"runner": arguments[0].partition("=")[2], "name": "trips-01234567", "options": place}


# The lock of a run that was left


def test_workers_leave_word_of_a_run_that_was_left(output: str) -> None:
    lease = left(output, UNKNOWN)
    with pytest.raises(ModelError), verdict(lease, "predict", "in/0.csv"):
        raise ModelError("no such file: vocabulary.txt")
    for found in (read_verdict(output, "r1"), read_failed(output)):
        assert found == Failure("r1", 6, "no such file: vocabulary.txt", "predict", "in/0.csv")


def test_the_next_run_takes_the_lock_of_one_with_a_verdict_at_once(output: str) -> None:
    lease = left(output, UNKNOWN)
    write_verdict(output, Failure("r1", 4, "too many bad rows"))
    assert over(output) == "r1"
    acquire(output, "r2", over=over(output)).check()
    with pytest.raises(LeaseLost):
        lease.check()


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "DONE"])
def test_the_next_run_asks_the_service(output: str, stub: DataflowStub, state: str) -> None:
    left(output, job_of(stub))
    with pytest.raises(
        OutputError, match=r"is locked by run r1 \(.*, job trips-1, since .*\), which is RUNNING on Datafl"
    ):
        over(output)
    stub.end(stub.jobs[0], state)
    assert over(output) == "r1"


def test_where_nobody_can_be_asked_the_lock_is_watched_for_longer(
    output: str, stub: DataflowStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody touches it until workers were started, which takes minutes."""
    monkeypatch.setattr(locks, "LOST_AFTER", 0.2)
    monkeypatch.setattr(locks, "SILENT_WHEN_LEFT", 1.5)
    job = job_of(stub, "other")
    stub.close()
    for number, where in enumerate((job, UNKNOWN)):
        run_id = f"r{number}"
        left(f"{output}{number}", where, run_id)
        assert over(f"{output}{number}") is None
        start = time.monotonic()
        told: list[str] = []
        acquire(f"{output}{number}", "next", on_wait=told.append)
        assert time.monotonic() - start >= 1.5
        assert "watching for up to 2 s whether that run is alive" in told[0]


def test_a_run_of_this_machine_is_not_asked_for(output: str) -> None:
    acquire(output, "r1")
    assert over(output) is None
    assert over(output + "/none") is None
