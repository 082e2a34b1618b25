"""The user's builder and model_fn are called once a process, however many shards there are; the launcher counts as one."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import pytest
import tensorflow as tf

from pipeline.commands import main

TESTS = Path(__file__).parent
SHARDS = 20
ROWS = 5
FUNCTIONS = {"build_estimator": 1, "model_fn": 1}


@pytest.fixture
def calls(linear_model_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job over 20 shards, and the file that its model writes a line to whenever it is called."""
    for shard in range(SHARDS):
        with tf.io.TFRecordWriter(str(tmp_path / f"rows-{shard:05d}.tfrecord")) as writer:
            for record in linear_model.to_examples(linear_model.make_columns(ROWS, seed=shard)):
                writer.write(record)
    job = {
        "name": "built-once",
        "code": [str(TESTS / "linear_model.py")],
        "input": {"pattern": str(tmp_path / "*.tfrecord")},
        "features": linear_model.FEATURES,
        "model": {**linear_model.MODEL, "model_dir": linear_model_dir},
        "output": {"path": str(tmp_path / "out")},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
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
