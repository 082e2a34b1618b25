"""Model and transform on object stores, which TensorFlow cannot open: it reads copies on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import record_model
import yaml
from object_stores import Line
from record_job import ROWS
from record_job import write_job as write_recorded_job
from staged_job import launch, scores

from pipeline import Scorer, files
from pipeline.commands import main
from pipeline.errors import ModelError
from pipeline.job.file import load_job
from pipeline.manifest import read_manifest

pytestmark = pytest.mark.any_tensorflow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the machine, of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"estimator-score-{os.geteuid()}"


@pytest.fixture
def config(recorded: Path, bucket: str) -> Path:
    """A job with everything in the bucket but its code."""
    for name in ("model", "transform"):
        for path in (recorded / name).rglob("*"):
            if path.is_file():
                files.copy(str(path), f"{bucket}/{path.relative_to(recorded)}")
    files.copy(str(recorded / "rows.tfrecord"), f"{bucket}/rows.tfrecord")
    path = recorded / "bucket.yaml"
    path.write_text(
        write_recorded_job(recorded).read_text(encoding="utf-8").replace(str(recorded), bucket), encoding="utf-8"
    )
    return path


def expected(recorded: Path) -> list[list[float]]:
    """The scores of the same job on this machine."""
    return scores(launch(load_job(str(write_recorded_job(recorded)))), "probabilities")


def objects(bucket: str) -> dict[str, Any]:
    return {info.path: info for folder in ("model", "transform") for info in files.match(f"{bucket}/{folder}/**")}


def test_a_run_reads_its_copies(config: Path, recorded: Path, bucket: str, line: Line, cache: Path) -> None:
    before = objects(bucket)
    data = "model.ckpt-20.data-00000-of-00001"
    read: list[str] = []

    def listen(method: str, path: str) -> None:
        if method == "GET" and data in path and "projection" not in path:
            read.append(path)

    line.fault = listen
    job = load_job(str(config))
    prepared = launch(job)

    assert len(read) == 1
    assert objects(bucket) == before
    assert prepared.record == {"state": "verified", "max_difference": 0.0}
    assert prepared.model["checkpoint"] == f"{bucket}/model/model.ckpt-20"
    assert list(prepared.model["assets"]) == [f"{bucket}/transform/assets/words.txt"]
    assert prepared.spec.copies.model is not None
    assert prepared.spec.copies.model.folder.startswith(f"{bucket}/out/_temporary/staging/")
    files.delete_folder(f"{bucket}/model")
    files.delete_folder(f"{bucket}/transform")
    assert scores(prepared, "probabilities") == expected(recorded)
    shutil.rmtree(cache)  # as on another machine
    assert scores(prepared, "probabilities") == expected(recorded)


def test_commands_without_an_output(
    config: Path, recorded: Path, bucket: str, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    before = objects(bucket)
    assert main(["check", "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert f"checkpoint  {bucket}/model/model.ckpt-20, step 20" in printed
    assert f"transform   {bucket}/transform" in printed
    assert str(cache) not in printed
    assert main(["explain", "--config", str(config), "--row", "rows.tfrecord:3"]) == 0
    assert objects(bucket) == before
    assert not files.match(f"{bucket}/out/**")

    files.delete_folder(f"{bucket}/model/record")
    assert main(["record", "--config", str(config)]) == 0
    assert f"checkpoint  {bucket}/model/model.ckpt-20" in capsys.readouterr().out
    assert main(["check", "--config", str(config)]) == 0
    assert "verified, largest difference 0" in capsys.readouterr().out


def test_scorers(config: Path, recorded: Path, bucket: str) -> None:
    with Scorer.from_config(str(config)) as scorer:
        from_config = scorer.score(ROWS)
    estimator = record_model.build_estimator(f"{bucket}/model")
    with Scorer(estimator, transform=f"{bucket}/transform") as scorer:
        table: pa.Table = scorer.score(ROWS)
    assert table.equals(from_config)
    assert table["probabilities"].to_pylist() == expected(recorded)


@pytest.mark.parametrize("store", ["s3"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bucket: files.delete_folder(f"{bucket}/model"), "does not exist: correct model.model_dir"),
        (
            lambda bucket: files.delete_folder(f"{bucket}/transform"),
            "/transform does not exist, or holds no saved_model.pb: correct transform.path",
        ),
    ],
    ids=["no model", "no transform"],
)
def test_what_is_not_there(change: Callable[[str], None], message: str, config: Path, bucket: str) -> None:
    change(bucket)
    with pytest.raises(ModelError) as raised:
        launch(load_job(str(config)))
    assert message in str(raised.value)
    assert bucket in str(raised.value)


WORKER_KILLED = '''
"""The model of the job. While a run is on, the trainer deletes its files, and the worker is killed at the second shard."""
import glob, os, signal
import tensorflow as tf
import record_model
from pipeline import files

def build_estimator(model_dir):
    return tf.estimator.Estimator(model_fn, config=tf.estimator.RunConfig(model_dir, tf_random_seed=1))

def model_fn(features, labels, mode):
    spec = record_model.model_fn(features, labels, mode)
    return spec._replace(prediction_hooks=[Killer()])

class Killer(tf.compat.v1.train.SessionRunHook):
    def after_run(self, context, values):
        bucket = os.environ["KILLED_BUCKET"]
        if not bucket or not files.exists(bucket + "/out/_temporary/plan.json"):
            return
        if files.match(bucket + "/model/model.ckpt*"):
            for folder in ("model", "transform"):
                files.delete_folder(bucket + "/" + folder)
        elif any("result" in info.path for info in files.match(bucket + "/out/_temporary/**")):
            os.kill(os.getpid(), signal.SIGKILL)
'''


def test_a_checkpoint_that_is_deleted_after_launch_and_a_worker_that_is_killed(
    config: Path, recorded: Path, bucket: str
) -> None:
    right = expected(recorded)
    files.move(f"{bucket}/rows.tfrecord", f"{bucket}/rows-0.tfrecord")
    for number in range(1, 4):
        files.copy(f"{bucket}/rows-0.tfrecord", f"{bucket}/rows-{number}.tfrecord")
    job = yaml.safe_load(config.read_text(encoding="utf-8"))
    (recorded / "killed_model.py").write_text(WORKER_KILLED, encoding="utf-8")
    job["code"].append(str(recorded / "killed_model.py"))
    job["model"]["estimator"] = "killed_model:build_estimator"
    job["input"]["pattern"] = f"{bucket}/rows-*.tfrecord"
    config.write_text(yaml.safe_dump(job), encoding="utf-8")
    command = [sys.executable, "-m", "pipeline", "score", "--quiet", "--config", str(config)]

    def run(killed_in: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KILLED_BUCKET": killed_in}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    killed = run(bucket)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not objects(bucket)
    done = run("")

    assert done.returncode == 0, done.stderr
    manifest = read_manifest(f"{bucket}/out")
    assert manifest is not None
    assert 0 < manifest["resumed_parts"] < 4
    assert manifest["model"]["checkpoint"] == f"{bucket}/model/model.ckpt-20"
    assert manifest["record"]["state"] == "verified"
    for file in manifest["files"]:
        with files.open_read(f"{bucket}/out/{file['path']}") as opened:
            assert pq.read_table(opened)["probabilities"].to_pylist() == right
    assert not files.match(f"{bucket}/out/_temporary/**")
