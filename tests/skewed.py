"""Rows of a test, written as shards and held against a transform as `check` does, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import yaml
import zoo_data

from pipeline.job.file import load_job
from pipeline.launch import load_features
from pipeline.plan import match_shards
from pipeline.rows import Columns
from pipeline.scoring import ScoringSpec
from pipeline.skew import Skew, find_skew

Row = dict[str, Any]


def skew_of(
    folder: Path, rows: Sequence[Row], spec: Mapping[str, Any], sections: Mapping[str, Any], kind: str = "tfrecord"
) -> Skew:
    """Write rows as two shards and look at them as `check` does; the spec is that of the files."""
    write = zoo_data.write_tfrecord if kind == "tfrecord" else zoo_data.write_parquet
    folder.mkdir(exist_ok=True)
    for index, part in enumerate(zoo_data.split(rows, 2)):
        write(folder / f"part-{index}.{kind}", [{"id": 1, "note": None, **row} for row in part], spec)
    job = {
        "name": "skew",
        "output": {"path": str(folder / "out")},
        "model": {"model_fn": "never:called", "model_dir": str(folder)},
        **sections,
        "input": {"pattern": str(folder / f"part-*.{kind}"), **sections.get("input", {})},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    loaded = load_job(str(folder / "job.yaml"), None, [])
    features, _ = load_features(loaded)
    columns = Columns(features, frozenset(loaded.input.optional))
    checkpoint: Any = None  # of a model, which nothing here asks for
    return find_skew(ScoringSpec("", loaded, kind, columns, checkpoint), match_shards(loaded.input))


def told(skew: Skew) -> dict[str, str]:
    """Feature -> what is told of it."""
    lines = [line.partition(": ") for line in skew.lines[1:]]
    return {name: text for names, _, text in lines for name in names.split(", ")}


def percent(count: float, total: float) -> str:
    """A share with one digit behind the point, if that is not 0."""
    return f"{round(100 * count / total, 1):g}%"
