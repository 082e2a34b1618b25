"""Runs on Prism, Beam's own portable runner: the output is that of a local run, and code reaches workers that it asks for."""

from __future__ import annotations

from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from portable_runners import BootedWorkers, ScoredDigits, program, published, score
from told_trainer import told, write_told_job

pytestmark = [pytest.mark.runners, pytest.mark.any_tensorflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def prism() -> list[str]:
    return ["--runner=PrismRunner", f"--prism_location={program('prism')}"]


def test_the_digits_are_scored_as_on_this_machine(prism: list[str], digits: ScoredDigits, tmp_path: Path) -> None:
    score(tmp_path, digits.config, digits.settings(tmp_path / "out"), *prism, "--environment_type=LOOPBACK")
    assert published(tmp_path / "out") == published(digits.output)


def test_workers_of_a_pool_get_the_project_and_the_code(
    prism: list[str], tmp_path: Path, linear_model_dir: str
) -> None:
    config, workers = write_told_job(tmp_path, linear_model_dir), BootedWorkers(tmp_path)
    score(tmp_path, config, {"output.path": tmp_path / "local"})
    with workers.by_pool() as pool:
        score(tmp_path, config, {}, *prism, *pool)
    assert published(tmp_path / "out") == published(tmp_path / "local")
    workers.check(told(tmp_path))
