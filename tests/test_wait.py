"""The command `wait`, for a run that was left to a cluster. Google's service is `dataflow_stub.py`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dataflow_stub import DataflowStub, dataflow
from left_runs import UNKNOWN, job_of, left
from published import new_plan, run, take, write_part

from pipeline import dataflow as service
from pipeline import lease as locks
from pipeline import wait as waiting
from pipeline.commands import main
from pipeline.errors import CountError, JobError, OutputError, ScoringError, VerdictError
from pipeline.failure import Failure, read_failed, write_failed, write_verdict
from pipeline.lease import acquire, holder_of, is_locked
from pipeline.plan import write_plan
from pipeline.publish import Limits, publish
from pipeline.wait import wait

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


class Clock:
    """Time that passes while it is slept; `at` is called with each new time."""

    def __init__(self, at: Any = lambda now: None):
        self.now, self._at = 0.0, at

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += 5.0
        self._at(self.now)


def wait_with(output: str, at: Any = lambda now: None, timeout: float | None = None) -> Any:
    clock = Clock(at)
    return wait(output, timeout, clock=clock, sleep=clock.sleep)


def test_there_is_nothing_to_wait_for(output: str) -> None:
    with pytest.raises(JobError, match="there is no output, and no run is at work on one"):
        wait(output)
    write_plan(output, new_plan("r1", 1))
    with pytest.raises(ScoringError, match="has ended without a word; run again, and finished parts are kept"):
        wait(output)


def test_the_last_run_failed(output: str) -> None:
    run(output, "r0", 1)
    write_failed(output, Failure("r1", 5, "3 rows are missing"))
    with pytest.raises(VerdictError, match="3 rows are missing") as failed:
        wait(output)
    assert failed.value.exit_code == 5


def test_the_run_and_no_earlier_one_is_waited_for(output: str) -> None:
    run(output, "r0", 1)
    lease = take(output, "r1")
    plan = new_plan("r1", 2)
    write_plan(output, plan)

    def at(now: float) -> None:
        if now == 15.0:
            for index in range(2):
                write_part(output, plan, index)
            publish(lease, plan, Limits())

    assert wait_with(output, at).run_id == "r1"


def test_a_timeout(output: str) -> None:
    with (
        left(output, UNKNOWN).kept(),
        pytest.raises(ScoringError, match=r"run r1 .* is at work still after 60 s") as late,
    ):
        wait_with(output, timeout=60)
    assert late.value.exit_code == 1
    assert is_locked(output)
    assert read_failed(output) is None


def test_a_verdict_cancels_the_job(output: str, stub: DataflowStub) -> None:
    left(output, job_of(stub))

    def at(now: float) -> None:
        if now == 10.0:
            write_verdict(output, Failure("r1", 4, "too many bad rows", "publish"))

    with pytest.raises(VerdictError, match="too many bad rows") as failed:
        wait_with(output, at)
    assert failed.value.exit_code == 4
    assert stub.jobs[0]["currentState"] == "JOB_STATE_CANCELLED"
    assert read_failed(output) == Failure("r1", 4, "too many bad rows", "publish")
    assert not is_locked(output)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ("FAILED", ScoringError, "the job failed on Dataflow: the quota is used up"),
        ("CANCELLED", ScoringError, "the job was cancelled on the cluster; finished parts are kept for the next run"),
        ("DONE", CountError, "the job ended without an error, and nothing was published; see its log"),
    ],
)
def test_a_job_that_ended_without_a_word(
    output: str, stub: DataflowStub, state: str, error: type[ScoringError], message: str
) -> None:
    left(output, job_of(stub))
    stub.end(stub.jobs[0], state, *(["the quota is used up"] if state == "FAILED" else []))
    with pytest.raises(error, match=message):
        wait_with(output)
    failed = read_failed(output)
    assert failed is not None
    assert message in failed.error
    assert failed.exit_code == error.exit_code
    assert not is_locked(output), "the next run has it at once"


def test_a_run_that_gives_no_sign_of_life(output: str) -> None:
    left(output, UNKNOWN)
    with pytest.raises(
        ScoringError, match=r"run r1 .* gives no sign of life for 600 s; look at it on the cluster, or run"
    ):
        wait_with(output)
    assert not is_locked(output)


def test_workers_keep_the_lock_of_a_run_that_was_left(output: str) -> None:
    """And as long as they do, it is waited for."""
    left(output, UNKNOWN)
    lock = Path(locks._path(output, 1))

    def at(now: float) -> None:
        if now < 2000:
            lock.touch()

    clock = Clock(at)
    with pytest.raises(ScoringError, match="gives no sign of life"):
        wait(output, clock=clock, sleep=clock.sleep)
    assert clock.now > 2500


def test_a_run_that_was_replaced(output: str) -> None:
    left(output, UNKNOWN)

    def at(now: float) -> None:
        if now == 10.0:
            acquire(output, "r2", over="r1")

    with pytest.raises(OutputError, match=r"run r1 .* was replaced by run r2 .*; wait for that one"):
        wait_with(output, at)
    assert is_locked(output)


def test_an_output_out_of_reach(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left(output, UNKNOWN)
    clock = Clock()
    asked: list[float] = []

    def holder(output: str) -> Any:
        asked.append(clock.now)
        if len(asked) > 1:
            raise ConnectionResetError("the store")
        return holder_of(output)

    monkeypatch.setattr(waiting, "holder_of", holder)
    with pytest.raises(ConnectionResetError):
        wait(output, clock=clock, sleep=clock.sleep)
    assert clock.now > 120


def test_ctrl_c_ends_the_waiting_alone(output: str, stub: DataflowStub, capsys: pytest.CaptureFixture[str]) -> None:
    import signal

    left(output, job_of(stub))
    threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
    assert main(["wait", output]) == 130
    assert capsys.readouterr().err.endswith("stopped; the run goes on\n")
    assert stub.jobs[0]["currentState"] == "JOB_STATE_RUNNING"
    assert is_locked(output)
    assert main(["wait", output, "--timeout", "1s"]) == 1


@pytest.mark.parametrize("timeout", ["6", "an hour", "-1h"])
def test_a_timeout_is_a_duration(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["wait", "out", f"--timeout={timeout}"])
    assert ended.value.code == 2
    assert "expected a duration such as 90s, 30m, 2h or 1d" in capsys.readouterr().err
