"""Jobs of Dataflow as the launcher sees them, and options with which none is taken; the service is `dataflow_stub.py`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from dataflow_stub import AFTER, IMAGE, TRACE, DataflowStub, dataflow

from pipeline import dataflow as service
from pipeline.dataflow import DataflowJob, find_dataflow_job, refuse_paths_of_this_machine, refused_in_words
from pipeline.errors import JobError, ScoringError
from pipeline.handover import job_name
from pipeline.runner import pipeline_options
from pipeline.versions import installed_versions
from pipeline.wheel import write_wheel

pytestmark = pytest.mark.any_tensorflow

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[DataflowStub]:
    with dataflow(tmp_path) as stub:
        yield stub


@pytest.fixture
def options(stub: DataflowStub) -> PipelineOptions:
    return pipeline_options([*stub.options, IMAGE])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_ASK_EVERY", 0.0)
    monkeypatch.setattr(service, "_LAST_WORDS", 0.0)


def submitted(stub: DataflowStub, name: str = "trips-1") -> dict[str, Any]:
    return stub.take({"name": name})


def test_a_service_that_gives_no_answer(stub: DataflowStub, options: PipelineOptions) -> None:
    stub.refuses = 503
    with pytest.raises(OSError, match="Dataflow gives no answer"), refused_in_words("name"):
        service._Clients(options).jobs.create_job({"project_id": "a-project", "location": "a-region", "job": {}})


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("PENDING", "PENDING"),
        ("QUEUED", "QUEUED"),
        ("RUNNING", "RUNNING"),
        ("DONE", "DONE"),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_states(stub: DataflowStub, options: PipelineOptions, quick: None, state: str, expected: str) -> None:
    job = submitted(stub)
    stub.end(job, state)
    assert DataflowJob(options, job["id"]).state == expected


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ([TRACE, AFTER], "ValueError in model_fn (trainer/model.py:9)"),
        (
            ["Startup of the worker pool failed: QUOTA_EXCEEDED", AFTER],
            "Startup of the worker pool failed: QUOTA_EXCEEDED",
        ),
        ([AFTER], AFTER),
        ([], "it told no reason"),
    ],
    ids=["python", "service", "summary", "nothing"],
)
def test_why_a_job_failed(
    stub: DataflowStub, options: PipelineOptions, quick: None, errors: list[str], words: str
) -> None:
    job = submitted(stub)
    stub.end(job, "FAILED", *errors)
    with pytest.raises(ScoringError) as failed:
        DataflowJob(options, job["id"]).raise_error()
    link = f"https://console.cloud.google.com/dataflow/jobs/a-region/{job['id']}?project=a-project"
    assert str(failed.value) == f"the job failed on Dataflow: {words} ({link})"


def test_a_job_that_is_not_found_yet(stub: DataflowStub, options: PipelineOptions) -> None:
    with pytest.raises(OSError, match=r"Dataflow gives no answer: .*no such job"):
        _ = DataflowJob(options, "2026-11-22-9").state


def test_what_went_wrong_is_told_once(stub: DataflowStub, options: PipelineOptions, quick: None) -> None:
    job = submitted(stub)
    followed = DataflowJob(options, job["id"])
    assert followed.retried() is None
    stub.tell(job, TRACE)
    stub.tell(job, AFTER)
    assert followed.retried() == "ValueError in model_fn (trainer/model.py:9)"
    assert followed.retried() is None


def test_the_newest_job_of_a_name(stub: DataflowStub, options: PipelineOptions) -> None:
    first = submitted(stub)
    stub.end(first, "DONE")
    second = submitted(stub)
    submitted(stub, "other")
    found = find_dataflow_job(options, "trips-1")
    assert found is not None
    assert found.known_as()["id"] == second["id"]
    assert find_dataflow_job(options, "trips") is None
    found.cancel()
    assert second["currentState"] == "JOB_STATE_CANCELLED"


def test_the_wheel_is_taken_by_pip(tmp_path: Path) -> None:
    wheel = write_wheel(str(tmp_path))
    again = tmp_path / "again"
    again.mkdir()
    assert Path(write_wheel(str(again))).read_bytes() == Path(wheel).read_bytes()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", "there", wheel]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    for package in ("pipeline", "transforms"):
        sources = {path.relative_to(ROOT): path.read_bytes() for path in (ROOT / package).rglob("*.py")}
        there = tmp_path / "there"
        assert {path.relative_to(there): path.read_bytes() for path in (there / package).rglob("*.py")} == sources
    (metadata,) = (tmp_path / "there").glob("estimator_score-*.dist-info/METADATA")
    assert f"Requires-Dist: tensorflow=={installed_versions()['tensorflow']}\n" in metadata.read_text()


GOOGLE = [
    "--runner=DataflowRunner", "--project=a-project", "--region=a-region", "--temp_location=gs://bucket/temp",
    "--no_auth",
]  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam asks for settings of the buckets, and there are none."""
    monkeypatch.setattr(GoogleCloudOptions, "_warn_if_soft_delete_policy_enabled", lambda options, name: None)
    monkeypatch.setattr(DataflowRunner, "get_default_gcp_region", lambda runner: None)


def without(name: str) -> list[str]:
    return [option for option in GOOGLE if not option.startswith(f"--{name}=")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (without("project"), "command line: --runner=DataflowRunner needs --project"),
        (without("region"), "command line: Missing required option: region"),
        (without("temp_location"), "command line: --runner=DataflowRunner needs --temp_location"),
        (
            [*without("temp_location"), "--temp_location=/tmp"],
            "--temp_location /tmp is no folder on Google Cloud Storage",
        ),
        ([*GOOGLE, "--staging_location=/tmp"], "--staging_location /tmp is no folder on Google Cloud Storage"),
        ([*GOOGLE, "--job_name=My_job"], r"command line: Invalid job_name \(My_job\); the name must consist of only"),
        ([*without("project"), "--project=123"], r"Please make sure you specified the Project ID"),
        ([*GOOGLE, "--num_workers=9", "--max_num_workers=3"], r"num_workers \(9\) cannot exceed max_num_workers \(3\)"),
    ],
    ids=["project", "region", "temp", "local temp", "local staging", "name", "number", "workers"],
)
@pytest.mark.usefixtures("offline")
def test_options_with_which_no_job_is_taken(arguments: list[str], message: str) -> None:
    with pytest.raises(JobError, match=message):
        pipeline_options([*arguments, IMAGE])


@pytest.mark.usefixtures("offline")
def test_a_client_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apache_beam.runners.dataflow.internal.apiclient", None)
    monkeypatch.delattr("apache_beam.runners.dataflow.internal.apiclient", raising=False)
    with pytest.raises(
        JobError, match=r"pip install 'estimator-score\[dataflow\]' \(not apache-beam\[gcp\], which cannot"
    ):
        pipeline_options(GOOGLE)


@pytest.mark.usefixtures("offline")
def test_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "get_service_credentials", lambda options: None)
    with pytest.raises(JobError, match=r"there are no credentials of Google; log in \(gcloud auth application-default"):
        pipeline_options([*GOOGLE[:-1], IMAGE])


@pytest.mark.usefixtures("offline")
def test_an_old_tensorflow_needs_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "installed_versions", lambda: {"tensorflow": "2.15.1"})
    with pytest.raises(
        JobError, match=r"TensorFlow 2\.15 cannot be installed in Beam's own image.*--sdk_container_image"
    ):
        pipeline_options(GOOGLE)
    pipeline_options([*GOOGLE, IMAGE])


@pytest.mark.parametrize(
    ("input", "output", "message"),
    [
        (
            "/in/*.csv",
            "gs://b/out",
            r"input.pattern: /in/\*.csv is on this machine, which Dataflow's workers do not see",
        ),
        ("gs://b/*.csv", "/out", "output.path: /out is on this machine"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_files_that_workers_do_not_see(input: str, output: str, message: str) -> None:
    errors, model = SimpleNamespace(rejected_path=None), SimpleNamespace(staging=None)
    job: Any = SimpleNamespace(
        input=SimpleNamespace(pattern=[input]), output=SimpleNamespace(path=output), errors=errors, model=model
    )
    with pytest.raises(JobError, match=message):
        refuse_paths_of_this_machine(job, pipeline_options([*GOOGLE, IMAGE]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("trips", "trips-0123abcd"), ("My trips_2", "my-trips-2-0123abcd"), ("7 days", "job-7-days-0123abcd"),
     ("x" * 90, "x" * 50 + "-0123abcd")],
)  # fmt: skip
@pytest.mark.usefixtures("offline")
def test_a_job_is_named_as_google_wants_it(name: str, expected: str) -> None:
    options = pipeline_options([*GOOGLE, IMAGE])
    found = job_name(options, name, "0123abcd4567")
    assert found == expected
    pipeline_options([*GOOGLE, IMAGE, f"--job_name={found}"])  # taken by Beam's own check
