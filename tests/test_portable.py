"""A run through Beam's job interface, with all that a cluster has but Java: the job service, and workers behind gRPC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow.parquet as pq
import pytest
from linear_job import job_settings, write_job, write_shards

from pipeline.commands import main

TESTS = Path(__file__).resolve().parent
PORTABLE = ("--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK")
SHARDS, ROWS = 3, 7


@pytest.fixture
def job(tmp_path: Path, linear_model_dir: str) -> Path:
    write_shards(tmp_path, SHARDS, ROWS)
    return write_job(tmp_path, job_settings(tmp_path, linear_model_dir, "portable"))


def published(output: Path) -> tuple[list[Any], dict[str, Any]]:
    """The rows of each part, and what the manifest says of them."""
    manifest = json.loads((output / "_manifest.json").read_text())
    assert (output / "_SUCCESS").read_text() == manifest["run_id"]
    assert not (output / "_temporary").exists()
    parts = [pq.read_table(output / file["path"]) for file in manifest["files"]]
    return parts, {name: manifest[name] for name in ("rows", "schema", "shards", "features", "model")}


def test_the_output_is_that_of_a_local_run(job: Path) -> None:
    local = str(job.parent / "local")
    assert main(["score", "--config", str(job), "--set", f"output.path={local}"]) == 0
    assert main(["score", "--config", str(job), *PORTABLE]) == 0
    assert published(job.parent / "out") == published(Path(local))


def test_a_verdict_reaches_the_command(job: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shard = job.parent / "rows-00001.tfrecord"
    data = bytearray(shard.read_bytes())
    data[20] ^= 1  # in the data of the first record, so its checksum does not fit
    shard.write_bytes(bytes(data))
    assert main(["score", "--config", str(job), *PORTABLE]) == 4
    said = capfd.readouterr().err
    assert said.startswith("error: 1 of 21 rows were rejected, more than errors.max_bad_rows: 0 allows")
    assert "Traceback" not in said
    assert not (job.parent / "out" / "_SUCCESS").exists()
