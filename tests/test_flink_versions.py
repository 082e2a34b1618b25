"""Launcher and workers of different versions, on a real Flink cluster: refused in one message, and soon.

The pool has another minor version of Python in an environment of its own, kept beside Flink in the cache folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from flink_cluster import ROOT, FlinkCluster, Unavailable, cache, fetch
from linear_job import job_settings, write_job, write_shards
from portable_runners import score

pytestmark = [pytest.mark.flink, pytest.mark.any_tensorflow, pytest.mark.timeout(600)]

OTHERS = [minor for minor in ("3.12", "3.10", "3.13") if minor != "{}.{}".format(*sys.version_info[:2])]
NEEDED = (
    "apache-beam", "pyarrow", "numpy", "pydantic", "PyYAML", "rich", "google-crc32c", "fastavro", "zlib-ng", "requests",
)  # fmt: skip
"""Of the project's, what a worker imports before it compares versions: TensorFlow is not among it."""


def other_python() -> Path:
    """An environment of another minor version of Python, with all that a worker imports first."""
    find = f". scripts/environment.sh; find_python {' '.join(OTHERS)}; echo $python; python_version $python"
    found = subprocess.run(["bash", "-c", find], cwd=ROOT, capture_output=True, text=True, env=_without_choice())
    if found.returncode:
        pytest.skip(f"Python {', '.join(OTHERS)} is not here: {found.stderr.strip()}")
    python, minor = found.stdout.split()
    folder = cache() / f"worker-python{minor}"
    installed = folder / ".installed"
    if not installed.exists():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        constraints = ROOT / "constraints" / f"py{minor.replace('.', '')}-tf2.21.txt"
        install = [folder / "bin" / "python", "-m", "pip", "install", "-q", "-c", constraints, *NEEDED]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{', '.join(NEEDED)} for Python {minor} cannot be had: {done.stderr.strip()[-300:]}")
        subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", folder], check=False)
        installed.touch()
    return folder / "bin" / "python"


def _without_choice() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHON"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    try:
        fetch()
    except Unavailable as error:
        pytest.skip(str(error))
    with FlinkCluster(tmp_path_factory.mktemp("flink"), python=str(other_python())) as cluster:
        yield cluster


@pytest.mark.parametrize("more", [(), ("--flink_submit_uber_jar",)], ids=["job server", "uber jar"])
def test_workers_with_another_python_are_refused(
    more: tuple[str, ...], cluster: FlinkCluster, linear_model_dir: str, tmp_path: Path
) -> None:
    write_shards(tmp_path, 3, 5)
    config = write_job(tmp_path, job_settings(tmp_path, linear_model_dir, f"other-python-{len(more)}"))
    said = score(tmp_path, config, {}, *cluster.options("--parallelism=2", *more), code=2)
    (job,) = [
        job for job in cluster.get("jobs/overview")["jobs"] if job["name"].startswith(f"other-python-{len(more)}")
    ]
    assert job["duration"] < 60_000
    assert job["state"] in ("CANCELED", "CANCELLING", "FAILED", "FAILING")
    assert "error: the workers have other versions than this launcher: Python 3." in said.splitlines()[-1]
    assert not (tmp_path / "out" / "_SUCCESS").exists()
