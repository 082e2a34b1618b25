"""Runs on Spark's local mode by Beam's job server: the output is that of a local run, and code reaches workers that it starts."""

from __future__ import annotations

from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from portable_runners import BootedWorkers, ScoredDigits, published, score, spark_job_server
from told_trainer import told, write_told_job

pytestmark = [pytest.mark.runners, pytest.mark.any_tensorflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def spark() -> list[str]:
    return ["--runner=SparkRunner", "--spark_master_url=local[2]", f"--spark_job_server_jar={spark_job_server()}"]


def test_the_digits_are_scored_as_on_this_machine(spark: list[str], digits: ScoredDigits, tmp_path: Path) -> None:
    score(tmp_path, digits.config, digits.settings(tmp_path / "out"), *spark, "--environment_type=LOOPBACK")
    assert published(tmp_path / "out") == published(digits.output)


def test_workers_that_spark_starts_get_the_project_and_the_code(
    spark: list[str], tmp_path: Path, linear_model_dir: str
) -> None:
    config, workers = write_told_job(tmp_path, linear_model_dir), BootedWorkers(tmp_path)
    score(tmp_path, config, {"output.path": tmp_path / "local"})
    one_for_all_stages = "--environment_cache_millis=60000"
    score(tmp_path, config, {}, *spark, *workers.by_process(), one_for_all_stages)
    assert published(tmp_path / "out") == published(tmp_path / "local")
    workers.check(told(tmp_path))
