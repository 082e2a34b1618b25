"""Jobs of `staged_model`, launched with staging; what a worker of another machine makes of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow as pa
import pyarrow.parquet as pq
import staged_model
import yaml

from pipeline.artifacts import staging_folder
from pipeline.job import Job
from pipeline.job.file import load_job
from pipeline.launch import Prepared, first_batch, prepare
from pipeline.plan import match_shards
from pipeline.scoring import close_scorers, open_scorer


def write_job(folder: Path, params: dict[str, Any] | None = None, **model: Any) -> Job:
    """A job over one shard; `folder` is what `staged_model.train` left."""
    pq.write_table(pa.table(staged_model.ROWS), folder / "rows.parquet")
    settings = {
        "name": "staged",
        "code": [staged_model.__file__],
        "input": {"pattern": str(folder / "rows.parquet")},
        "features": staged_model.FEATURES,
        "model": {
            "estimator": "staged_model:build_estimator",
            "model_dir": str(folder / "model"),
            "params": staged_model.params(folder) | (params or {}),
            **model,
        },
        "output": {"path": str(folder / "out")},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return load_job(str(path))


def launch(job: Job, pinned: Any = None) -> Prepared:
    """Prepare a run; what the launcher holds open is closed."""
    try:
        return prepare(job, match_shards(job.input), staging_folder(job), pinned)
    finally:
        close_scorers()


def scores(prepared: Prepared, column: str = "score") -> list[Any]:
    """What a worker that did not launch scores."""
    try:
        scorer = open_scorer(prepared.spec)
        batch = first_batch(prepared.spec, match_shards(prepared.spec.job.input))
        assert batch is not None
        scored = scorer.score(batch)
        assert not scored.rejected
        return scored.rows.column(column).to_pylist()
    finally:
        close_scorers()


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Path -> time of the last change in nanoseconds and digest, of all files; folders with their time."""
    return {
        str(path): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in (folder, *folder.rglob("*"))
    }
