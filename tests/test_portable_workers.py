"""Workers beside the embedded job service: what is staged reaches those that Beam's boot program starts, others are told."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from portable_runners import ROOT, BootedWorkers, ScoredDigits, pool, published, score
from told_trainer import told, write_told_job

from pipeline.shipment import STAGED_ONLY_BY_BOOT

pytestmark = [pytest.mark.runners, pytest.mark.any_tensorflow, pytest.mark.timeout(600)]

EMBEDDED = ("--runner=PortableRunner", "--job_endpoint=embed")
PROJECT = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "pipeline", "transforms")


def test_the_digits_with_the_project_built_and_staged(digits: ScoredDigits, tmp_path: Path) -> None:
    project = tmp_path / "project"  # Beam builds beside setup.py
    project.mkdir()
    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, project / name)
    options = ("--environment_type=LOOPBACK", f"--setup_file={project / 'setup.py'}")
    score(tmp_path, digits.config, digits.settings(tmp_path / "out"), *EMBEDDED, *options)
    assert published(tmp_path / "out") == published(digits.output)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, linear_model_dir: str) -> Path:
    folder = tmp_path_factory.mktemp("told")
    score(folder, write_told_job(folder, linear_model_dir), {"output.path": folder / "local"})
    return folder


def test_workers_of_a_pool_that_boots_get_the_project_and_the_code(local: Path) -> None:
    workers = BootedWorkers(local)
    with workers.by_pool() as pool:
        said = score(local, local / "job.yaml", {}, *EMBEDDED, *pool)
    assert STAGED_ONLY_BY_BOOT in said
    assert published(local / "out") == published(local / "local")
    workers.check(told(local))


def test_a_pool_without_the_code_says_which_file_it_lacks(tmp_path: Path, linear_model_dir: str) -> None:
    """Its workers have a disk of their own, as it were: the file is gone when they start."""
    config, lost = write_told_job(tmp_path, linear_model_dir), tmp_path / "told_trainer" / "model.py"
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nrm -f {lost}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pool(tmp_path, path=str(python.parent)) as options:
        said = score(tmp_path, config, {}, *EMBEDDED, *options, code=2)
    assert STAGED_ONLY_BY_BOOT in said
    assert said.splitlines()[-1].startswith(f"error: code: {lost} is not on the worker ")
    assert not (tmp_path / "out" / "_SUCCESS").exists()
