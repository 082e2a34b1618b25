"""Jobs of `code_model`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import code_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.flags import parse_flags
from pipeline.job import Job
from pipeline.job.file import load_job
from pipeline.launch import Prepared, first_batch, prepare
from pipeline.plan import match_shards


@pytest.fixture(autouse=True)
def flags_as_before() -> Iterator[None]:
    """Other tests find absl's flags as if no job had set them."""
    yield
    parse_flags(None)


def write_job(folder: Path, shards: int = 1, model: Mapping[str, Any] | None = None, **top: Any) -> str:
    """A job file over shards of four rows. folder: what `code_model.train` left. model, top: other settings."""
    for shard in range(shards):
        pq.write_table(pa.table(code_model.ROWS), folder / f"rows-{shard}.parquet")
    settings = {
        "name": "code",
        "code": [code_model.__file__],
        "input": {"pattern": str(folder / "rows-*.parquet")},
        "features": code_model.FEATURES,
        "model": {
            "estimator": "code_model:build",
            "model_dir": str(folder / "model"),
            "params": {"which": [0, 1]},
            "params_as": "attributes",
            "args": {"offsets": "{assets.offsets}"},
            "argv": ["--vocabulary={assets.words}"],
            "assets": {"words": "words.txt", "offsets": "offsets.json"},
            **(model or {}),
        },
        "output": {"path": str(folder / "out"), "row_ids": False},
        **top,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return str(path)


def prepared(config: str, staging: str | None = None, pinned: Any = None) -> Prepared:
    """A job, proved; its scorer stays open."""
    job: Job = load_job(config)
    return prepare(job, match_shards(job.input), staging, pinned)


def scored(found: Prepared) -> list[float]:
    """What the open scorer of a job gives for its four rows."""
    batch = first_batch(found.spec, match_shards(found.spec.job.input))
    assert batch is not None
    return found.scorer.score(batch).rows.column("score").to_pylist()


def written(folder: Path) -> list[float]:
    """The scores of the first part of an output."""
    part = sorted((folder / "out").glob("part-*.parquet"))[0]
    return pq.read_table(part).column("score").to_pylist()
