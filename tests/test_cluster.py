"""A run on a cluster: how it is followed, what is told of errors, and which options and versions are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline import cluster, progress
from pipeline.errors import JobError, ScoringError, VerdictError
from pipeline.failure import Failure, read_verdict, write_verdict
from pipeline.flink import Flink, error_in_words, flink_of, python_trace
from pipeline.lease import Lease, acquire
from pipeline.plan import STARTED, Plan, temporary, write_plan
from pipeline.results import RESULT
from pipeline.rows import Part, PartBatch, Piece, Shard, ShardEnd
from pipeline.runner import pipeline_options
from pipeline.stages import ReadPlan
from pipeline.versions import installed_versions, refuse_other_versions
from pipeline.write import PartWriter

SCHEMA = pa.schema([("score", pa.float32()), ("_row", pa.int64())])
IN_JAVA = """\
org.apache.flink.runtime.JobException: Recovery is suppressed by FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=20)
\tat org.apache.flink.runtime.executiongraph.failover.ExecutionFailureHandler.handleFailure(ExecutionFailureHandler.java:180)
Caused by: java.lang.Exception: The user defined 'open()' method caused an exception: java.lang.RuntimeException: Error
\tat org.apache.flink.runtime.operators.BatchTask.run(BatchTask.java:517)
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: Traceback (most recent call last):
  File "sdk_worker.py", line 313, in _execute
    response = task()
  File "trainer/model.py", line 7, in model_fn
    raise KeyError(name)
KeyError: 'a row says 4711'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "trainer/model.py", line 9, in model_fn
    raise ValueError(row)
ValueError: 4711 [while running 'Predict/Score-ptransform-32']

\tat org.apache.beam.runners.fnexecution.control.FnApiControlClient$ResponseStreamObserver.onNext(FnApiControlClient.java:180)
\t... 1 more
"""
NO_SLOTS = """\
org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestartBackoffTimeStrategy
\tat org.apache.flink.runtime.Handler.handle(Handler.java:180)
Caused by: java.util.concurrent.CompletionException: org.apache.flink.runtime.NoResourceAvailableException: slots
Caused by: org.apache.flink.runtime.NoResourceAvailableException: Could not acquire the minimum required resources.
"""


def test_the_python_error_within_a_java_error() -> None:
    trace = python_trace(IN_JAVA)
    assert trace is not None
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: 4711 [while running 'Predict/Score-ptransform-32']")
    assert python_trace(NO_SLOTS) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(IN_JAVA, "ValueError in model_fn (trainer/model.py:9)", id="python"),
        pytest.param(
            NO_SLOTS,
            "org.apache.flink.runtime.NoResourceAvailableException: Could not acquire the minimum required resources.",
            id="java",
        ),
        pytest.param(
            IN_JAVA.replace("ValueError: 4711", "ModuleNotFoundError: No module named 'pipeline.stages'"),
            "a worker has no Python module 'pipeline.stages'; install there what this launcher has",
            id="module",
        ),
        pytest.param("", "it told no reason; see the log of the JobManager", id="nothing"),
    ],
)
def test_an_error_in_words(text: str, words: str) -> None:
    assert error_in_words(text) == words


FLINK = ("--runner=FlinkRunner", "--flink_master=localhost:8081")


def test_workers_that_could_not_start_are_refused() -> None:
    with pytest.raises(JobError, match="without --environment_type each TaskManager starts Docker"):
        pipeline_options(FLINK)
    with pytest.raises(JobError, match="LOOPBACK runs the workers in this process, which a cluster does not reach"):
        pipeline_options([*FLINK, "--environment_type=LOOPBACK"])
    assert flink_of(pipeline_options(["--runner=FlinkRunner", "--flink_master=[local]"]), "job") is None
    assert flink_of(pipeline_options([*FLINK, "--environment_type=EXTERNAL"]), "job") is not None


# Versions

HERE = {"python": "3.11.7", "tensorflow": "2.21.0", "apache-beam": "2.77.0", "estimator-score": "0.1.0", "numpy": "2.4"}


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"python": "3.10.13"}, "Python 3.11 here and 3.10 there"),
        ({"tensorflow": "2.15.1"}, "TensorFlow 2.21.0 here and 2.15.1 there"),
        ({"apache-beam": "2.72.0"}, "Apache Beam 2.77.0 here and 2.72.0 there"),
        ({"estimator-score": "0.2.0", "python": "3.9.1"}, "Python 3.11 here and 3.9 there, estimator-score 0.1.0 here"),
    ],
    ids=["python", "tensorflow", "beam", "two"],
)
def test_other_versions_are_refused(there: dict[str, str], message: str) -> None:
    with pytest.raises(JobError, match=message):
        refuse_other_versions(HERE, HERE | there)


def test_versions_that_need_not_be_the_same() -> None:
    refuse_other_versions(HERE, HERE | {"python": "3.11.1", "numpy": "1.26"})
    without = {name: version for name, version in HERE.items() if name != "tensorflow"}
    refuse_other_versions(HERE, without)  # tensorflow-cpu, or a nightly one


def a_part(index: int) -> Part:
    return Part(index, f"key{index}", (Piece(Shard(f"in/{index}.csv", 10, "1", "then")),))


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    lease = acquire(str(tmp_path), "run1")
    write_plan(str(tmp_path), Plan("run1", None, "cluster", "then", (a_part(0), a_part(1)), "csv", SCHEMA))
    return lease


def test_a_worker_compares_versions_before_it_reads_the_plan(lease: Lease) -> None:
    with beam.Pipeline("FnApiRunner") as p:
        assert_that(p | ReadPlan(lease, installed_versions()), equal_to([a_part(0), a_part(1)]))
    assert Path(temporary(lease.output, STARTED)).read_text() == "run1"


def test_a_worker_with_another_version_leaves_a_verdict(lease: Lease) -> None:
    p = beam.Pipeline("FnApiRunner")
    _ = p | ReadPlan(lease, installed_versions() | {"apache-beam": "2.1.0"})
    with pytest.raises(Exception, match=r"Apache Beam 2\.1\.0 here and"):
        p.run()
    found = read_verdict(lease.output, "run1")
    assert found is not None
    assert (found.exit_code, found.stage) == (2, "launch")
    assert not Path(temporary(lease.output, STARTED)).exists()


# The end of a job


class Job:
    """States one after the other, the last one forever; `at` is called before each."""

    def __init__(self, *states: str, at: Any = lambda number: None):
        self._states, self._at, self.asked, self.cancelled = states, at, 0, False

    @property
    def state(self) -> str:
        self._at(self.asked)
        self.asked += 1
        return self._states[min(self.asked, len(self._states)) - 1]

    def cancel(self) -> None:
        self.cancelled = True

    def retried(self) -> str | None:
        return error_in_words(IN_JAVA) if self.asked == 2 else None

    def raise_error(self) -> None:
        raise ScoringError("the error")


@pytest.fixture
def run(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(cluster, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(cluster, "_SILENCE", 0.0)
    progress.reset()
    yield SimpleNamespace(lease=lease)
    progress.reset()


def write_part(output: str, part: Part) -> None:
    rows = pa.record_batch([pa.array([0.5, 1.5], pa.float32()), pa.array([0, 1], pa.int64())], schema=SCHEMA)
    PartWriter(output, part, SCHEMA, "csv", "a1", "run1").write(PartBatch(part, 0, rows, last=(ShardEnd(2, "done"),)))
    assert Path(temporary(output, part.key, RESULT)).exists()


def test_parts_are_counted_and_retries_told(run: Any) -> None:
    told: list[str] = []
    progress.current.tell = told.append
    write_part(run.lease.output, a_part(0))

    class UntilCounted(Job):
        """A busy machine looks for results less often."""

        @property
        def state(self) -> str:
            state = super().state
            return "DONE" if progress.current.parts == 2 else state

    running = ["RUNNING"] * 2000
    job = UntilCounted(*running, "DONE", at=lambda number: number == 3 and write_part(run.lease.output, a_part(1)))
    cluster._follow(job, run)  # type: ignore[arg-type]
    assert (progress.current.parts, progress.current.rows) == (2, 4)
    assert progress.current.first is None
    assert "the cluster runs again what failed: ValueError in model_fn (trainer/model.py:9)" in told
    assert [line for line in told if "no worker has begun for 0 s" in line] == told[:1]
    assert not job.cancelled


def test_a_verdict_ends_the_job_at_once(run: Any) -> None:
    write_verdict(run.lease.output, Failure("run1", 4, "too many bad rows", "publish"))
    job = Job("RUNNING")
    with pytest.raises(VerdictError, match="too many bad rows") as caught:
        cluster._follow(job, run)  # type: ignore[arg-type]
    assert caught.value.exit_code == 4
    assert job.cancelled
    assert job.asked == 1


def test_a_verdict_of_a_job_that_has_failed_already(run: Any) -> None:
    write_verdict(run.lease.output, Failure("run1", 5, "3 rows are missing", "publish"))
    with pytest.raises(VerdictError, match="3 rows are missing"):
        cluster._follow(Job("FAILED"), run)  # type: ignore[arg-type]


def test_ctrl_c_cancels_the_job(run: Any) -> None:
    def interrupt(number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    job = Job("RUNNING", at=interrupt)
    with pytest.raises(KeyboardInterrupt):
        cluster._follow(job, run)  # type: ignore[arg-type]
    assert job.cancelled


@pytest.mark.parametrize(
    ("state", "message"), [("FAILED", "the error"), ("CANCELLED", "the job was cancelled on the cluster")]
)
def test_a_job_that_ended_otherwise(run: Any, state: str, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        cluster._follow(Job("RUNNING", state), run)  # type: ignore[arg-type]


# The REST interface


@pytest.fixture
def rest() -> Iterator[SimpleNamespace]:
    """A JobManager with two jobs; `entries` are the failures of one, `requests` what it was asked for."""
    stub = SimpleNamespace(entries=[], requests=[], state="RUNNING")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {
                "/v1/jobs/overview": {"jobs": [{"jid": "1", "name": "other"}, {"jid": "2", "name": "ours"}]},
                "/v1/jobs/2": {"state": stub.state},
                "/v1/jobs/2/exceptions": {"exceptionHistory": {"entries": stub.entries}},
            }
            self._answer(answers[self.path])

        def do_PATCH(self) -> None:
            stub.state = "CANCELED"
            self._answer({})

        def _answer(self, answer: Any) -> None:
            stub.requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stub.url = f"http://localhost:{server.server_port}"
    yield stub
    server.shutdown()
    server.server_close()


def test_failures_are_told_once_and_the_last_is_known(rest: SimpleNamespace) -> None:
    flink = Flink(rest.url, "ours")
    assert flink.new_failure() is None
    rest.entries = [{"timestamp": 7, "stacktrace": "second"}, {"timestamp": 5, "stacktrace": "first"}]
    assert flink.new_failure() == "second"
    assert flink.new_failure() is None
    assert flink.last_failure() == (7, "second")


def test_a_job_is_cancelled_by_its_name(rest: SimpleNamespace) -> None:
    flink = Flink(rest.url, "ours")
    assert not flink.has_ended()
    assert flink.cancel()
    assert rest.requests[-1] == "PATCH /v1/jobs/2?mode=cancel"
    assert flink.has_ended()
    assert not Flink(rest.url, "unknown").cancel()
