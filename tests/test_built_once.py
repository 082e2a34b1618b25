"""The user's builder and model_fn are called once a process, however many shards there are; the launcher counts as one."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from linear_job import job_settings, write_job, write_shards

from pipeline.commands import main

TESTS = Path(__file__).parent
SHARDS = 20
ROWS = 5
FUNCTIONS = {"build_estimator": 1, "model_fn": 1}


@pytest.fixture
def calls(linear_model_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job over 20 shards, and the file that its model writes a line to whenever it is called."""
    write_shards(tmp_path, SHARDS, ROWS)
    write_job(tmp_path, job_settings(tmp_path, linear_model_dir, "built-once"))
    monkeypatch.setenv("LINEAR_MODEL_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def calls_by_process(calls: Path, *options: str) -> dict[int, Counter[str]]:
    """Run the job; gives how often each function was called, for every process that called any."""
    assert main(["score", "--config", str(calls.parent / "job.yaml"), "--quiet", *options]) == 0
    manifest = json.loads((calls.parent / "out" / "_manifest.json").read_text(encoding="utf-8"))
    assert manifest["rows"] == {"read": SHARDS * ROWS, "scored": SHARDS * ROWS, "rejected": 0}
    processes: dict[int, Counter[str]] = {}
    for line in calls.read_text(encoding="utf-8").splitlines():
        process, function = line.split()
        processes.setdefault(int(process), Counter())[function] += 1
    return processes


@pytest.mark.parametrize(
    "options",
    [(), ("--direct_running_mode=multi_threading", "--direct_num_workers=4")],
    ids=["one thread", "four threads"],
)
def test_in_one_process(options: tuple[str, ...], calls: Path) -> None:
    assert calls_by_process(calls, *options) == {os.getpid(): FUNCTIONS}


@pytest.mark.parametrize(
    "options",
    [("--workers", "3"), ("--direct_running_mode=multi_processing", "--direct_num_workers=3")],
    ids=["ours", "beam's"],
)
@pytest.mark.usefixtures("threads_as_before")
def test_in_processes(options: tuple[str, ...], calls: Path) -> None:
    called = calls_by_process(calls, *options)
    assert called.pop(os.getpid()) == FUNCTIONS
    assert list(called.values()) == [FUNCTIONS, FUNCTIONS]
