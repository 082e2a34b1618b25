"""Jobs for Dataflow: what is submitted, how a job that ends is told, what is refused.

The service is `dataflow_stub.py`, for Google cannot be had here: what is sent is what Google would get, and the states and
messages that come back are made up after its documentation. Where the stub runs a job, the pipeline, the user's code and the
wheel are those that were staged.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from dataflow_stub import AFTER, IMAGE, TRACE, DataflowStub, dataflow, read_pipeline, staged_files, staged_pipeline_path
from linear_job import job_settings, write_job, write_shards
from test_portable import published

from pipeline import dataflow as service
from pipeline.commands import main
from pipeline.failure import Failure, read_failed, write_verdict
from pipeline.lease import is_locked
from pipeline.versions import installed_versions

GOLDEN = Path(__file__).with_name("data") / "dataflow_job.json"
SHARDS, ROWS = 3, 7
SECRET = "a secret of the launcher"

needs_own_image = pytest.mark.skipif(
    installed_versions()["tensorflow"].startswith("2.15."),
    reason="TensorFlow 2.15 is refused without an image of its own",
)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[DataflowStub]:
    with dataflow(tmp_path) as stub:
        yield stub


@pytest.fixture
def job(tmp_path: Path, linear_model_dir: str) -> Path:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards", SHARDS, ROWS)
    settings = job_settings(tmp_path / "shards", linear_model_dir, "Linear_model")
    return write_job(tmp_path, settings | {"output": {"path": str(tmp_path / "out")}})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_ASK_EVERY", 0.0)
    monkeypatch.setattr(service, "_LAST_WORDS", 0.0)


# A submission


@needs_own_image
@pytest.mark.any_tensorflow
def test_a_run_as_the_service_would_run_it(job: Path, stub: DataflowStub, quick: None) -> None:
    """From the staged files alone: pipeline, wheel of this project, and the user's code."""
    local = str(job.parent / "local")
    assert main(["score", "--config", str(job), "--set", f"output.path={local}"]) == 0
    stub.runs = True
    assert main(["score", "--config", str(job), *stub.options]) == 0
    assert published(job.parent / "out") == published(Path(local))
    names = {name for name, _ in staged_files(staged_pipeline_path(stub.jobs[0]))}
    assert {re.sub(r"\d.*-py3|-\w{16}\.", "...", name) for name in names} == {
        "code...zip", "estimator_score-...-none-any.whl", "extra_packages.txt", "submission_environment_dependencies.txt",
    }  # fmt: skip


def test_the_job_that_is_submitted(
    job: Path, stub: DataflowStub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.setenv(variable, SECRET)
    more = ["--max_num_workers=8", "--machine_type=n2-standard-4", "--set", "runner.processes_per_machine=1"]
    started = time.monotonic()
    assert main(["score", "--config", str(job), *stub.options, IMAGE, *more, "--no_wait"]) == 0
    (sent,) = stub.jobs

    said = capsys.readouterr().out
    assert f"submitted   job {sent['name']} ({sent['id']}) to DataflowRunner" in said
    assert f"https://console.cloud.google.com/dataflow/jobs/a-region/{sent['id']}?project=a-project" in said
    assert f"estimator-score wait {job.parent / 'out'}" in said
    assert [request.partition(" ")[0] for request in stub.requests] == ["POST"], "it did not wait"
    assert time.monotonic() - started < 60

    assert re.fullmatch(r"linear-model-[0-9a-f]{8}", sent["name"])
    now = job.parent / GOLDEN.name
    now.write_text(json.dumps(masked_job(sent, stub), indent=1, sort_keys=True) + "\n")
    assert now.read_text() == GOLDEN.read_text(), f"{now} is what was sent; copy it where that is wanted"

    path = staged_pipeline_path(sent)
    staged = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert SECRET not in json.dumps(sent)
    assert SECRET.encode() not in staged
    components = read_pipeline(path).components
    roots = [name for id in read_pipeline(path).root_transform_ids for name in [components.transforms[id].unique_name]]
    parents = roots if len(roots) > 1 else [components.transforms[id].unique_name for id in _inner(components, roots)]
    assert parents == ["Plan", "Read", "Batch", "Predict", "Write", "Publish"]


def _inner(components: Any, names: list[str]) -> list[str]:
    return [id for each in components.transforms.values() if each.unique_name in names for id in each.subtransforms]


def masked_job(job: dict[str, Any], stub: DataflowStub) -> Any:
    """What was sent, without what differs from run to run, or between versions of Python."""
    text = json.dumps({key: value for key, value in job.items() if key not in ("id", "currentState", "createTime")})
    here = sys.version_info
    for pattern, name in (
        (re.escape(job["name"]), "NAME-RUN"),
        (re.escape(str(stub.folder)), "FOLDER"),
        (rf"localhost:{stub.server_port}", "localhost:PORT"),
        (rf"(python|Python ){here.major}\.{here.minor}\b", r"\g<1>3.N"),
        (r"code-[0-9a-f]{16}", "code-DIGEST"),
        (r'(?<=")/[^"]*/code-DIGEST', "TEMPORARY/code-DIGEST"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
    ):
        text = re.sub(pattern, name, text)
    masked = json.loads(text)
    masked["clientRequestId"] = "REQUEST"
    options = masked["environment"]["sdkPipelineOptions"]
    del options["display_data"]  # the same options once more
    known = PipelineOptions([]).get_all_options()
    options["options"] = {
        name: value for name, value in options["options"].items() if name not in known or value != known[name]
    }
    del options["options"]["beam_plugins"]  # filesystems, among them those of other tests
    for image in masked["environment"]["workerPools"][0]["sdkHarnessContainerImages"]:
        del image["capabilities"]  # of Beam's worker
    return masked


@pytest.mark.any_tensorflow
def test_staging_on_google_cloud_storage(job: Path, stub: DataflowStub, request: pytest.FixtureRequest) -> None:
    from object_stores import new_bucket

    from pipeline import files

    with new_bucket("gs", request) as (bucket, _):
        at = [f"--temp_location={bucket}/temp" if "temp_location" in option else option for option in stub.options]
        assert main(["score", "--config", str(job), *at, IMAGE, "--no_wait"]) == 0
        (sent,) = stub.jobs
        url = sent["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        assert url.startswith(f"{bucket}/temp/{sent['name']}.")
        found = {files.base_name(info.path) for info in files.match(f"{bucket}/temp/**")}
    assert {re.sub(r"-\w{16}\.", "...", name) for name in found} == {
        "pipeline.pb", "code...zip", "submission_environment_dependencies.txt",
    }  # fmt: skip
    (package, _) = sent["environment"]["workerPools"][0]["packages"]
    assert package["location"].startswith(f"storage.googleapis.com/{bucket.removeprefix('gs://')}/temp/{sent['name']}.")


@pytest.mark.any_tensorflow
def test_a_submission_that_is_refused(job: Path, stub: DataflowStub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.refuses = 403
    assert main(["score", "--config", str(job), *stub.options, IMAGE, "--no_wait"]) == 1
    assert capsys.readouterr().err.startswith("error: Dataflow refused: ")
    assert not is_locked(str(job.parent / "out"))
    failed = read_failed(str(job.parent / "out"))
    assert failed is not None
    assert "the account may not do that" in failed.error


@pytest.mark.any_tensorflow
def test_a_second_job_of_one_name(job: Path, stub: DataflowStub, capsys: pytest.CaptureFixture[str]) -> None:
    stub.take({"name": "nightly", "clientRequestId": "of another launcher"})
    assert main(["score", "--config", str(job), *stub.options, IMAGE, "--job_name=nightly"]) == 7
    said = capsys.readouterr().err
    assert "error: command line: --job_name nightly: Dataflow runs a job of that name already; wait until" in said
    assert not is_locked(str(job.parent / "out"))


@pytest.mark.any_tensorflow
def test_the_launcher_follows_the_job_to_its_failure(
    job: Path, stub: DataflowStub, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.state = "JOB_STATE_PENDING"

    def fail() -> None:
        while not stub.jobs:
            time.sleep(0.05)
        stub.end(stub.jobs[0], "FAILED", TRACE, AFTER)

    threading.Thread(target=fail, daemon=True).start()
    assert main(["score", "--config", str(job), *stub.options, IMAGE]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(
        "error: the job failed on Dataflow: ValueError in model_fn (trainer/model.py:9) ("
    )
    assert "4711" not in said


@pytest.mark.any_tensorflow
def test_a_verdict_is_the_end_of_the_job(
    job: Path, stub: DataflowStub, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(job.parent / "out")

    def fail() -> None:
        while not stub.jobs:
            time.sleep(0.05)
        run_id = json.loads((job.parent / "out" / "_temporary" / "plan.json").read_text())["run_id"]
        write_verdict(output, Failure(run_id, 4, "too many bad rows", "publish"))

    threading.Thread(target=fail, daemon=True).start()
    assert main(["score", "--config", str(job), *stub.options, IMAGE]) == 4
    assert capsys.readouterr().err.splitlines()[-1] == "error: too many bad rows"
    assert stub.jobs[0]["currentState"] == "JOB_STATE_CANCELLED"


@pytest.mark.any_tensorflow
def test_ctrl_c_cancels_the_job(job: Path, stub: DataflowStub, quick: None) -> None:
    def interrupt() -> None:
        while not any("GET" in request for request in stub.requests):
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert main(["score", "--config", str(job), *stub.options, IMAGE]) == 130
    assert stub.jobs[0]["currentState"] == "JOB_STATE_CANCELLED"
    assert not is_locked(str(job.parent / "out"))
