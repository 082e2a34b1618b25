"""A job that scores shards with `linear_model`, for tests of something else than its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import linear_model

TESTS = Path(__file__).resolve().parent


def write_shards(folder: Path, shards: int, rows: int) -> None:
    """TFRecord shards of so many rows each, all of them distinct."""
    import tensorflow as tf

    for shard in range(shards):
        with tf.io.TFRecordWriter(str(folder / f"rows-{shard:05d}.tfrecord")) as writer:
            for record in linear_model.to_examples(linear_model.make_columns(rows, seed=shard)):
                writer.write(record)


def job_settings(
    folder: Path,
    model_dir: str,
    name: str = "linear",
    model: Mapping[str, Any] = linear_model.MODEL,
    code: Sequence[str] = (),
) -> dict[str, Any]:
    """The job over the shards in a folder, with its output in `out` there.

    model: settings beside model_dir. code: names of further modules of the tests.
    """
    return {
        "name": name,
        "code": [str(TESTS / module) for module in ("linear_model.py", *code)],
        "input": {"pattern": str(folder / "*.tfrecord")},
        "features": linear_model.FEATURES,
        "model": {**model, "model_dir": model_dir},
        "output": {"path": str(folder / "out")},
    }


def write_job(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The job file in a folder."""
    path = folder / "job.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path
