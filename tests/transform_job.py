"""Shards and job files of a case with a transform, and what comes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zoo_data
from transform_cases import TESTS, Case, taxi_case
from zoo import Row

from pipeline.commands import main

DATA = TESTS / "data"
TOLERANCE = 1e-5
TRAINER_BATCH_ROWS = 32
"""Rows of a batch for which the predictions of `data/models` were made."""


def write_shards(folder: Path, case: Case, shards: Sequence[Sequence[Row]], record_format: str) -> list[Path]:
    """Shards under the names that the files have; what the scored rows lack is no column either."""
    spec = {case.sources.get(name, name): entry for name, entry in case.spec.items() if name not in case.absent}
    write = zoo_data.write_tfrecord if record_format == "tfrecord" else zoo_data.write_parquet
    paths = []
    for index, rows in enumerate(shards):
        paths.append(folder / f"rows-{index:05d}-of-{len(shards):05d}.{record_format}")
        write(paths[-1], [{case.sources.get(name, name): row[name] for name in row} for row in rows], spec)
    return paths


def write_job(folder: Path, case: Case, model_dir: str, record_format: str, size: int, **sections: Any) -> Path:
    """Write a job file that scores the shards of `folder` into `folder/out`."""
    passthrough: Any = list(zoo_data.PASSTHROUGH)
    if record_format == "tfrecord":
        passthrough = {name: {"from": name, **entry} for name, entry in zoo_data.PASSTHROUGH.items()}
    pattern = str(folder / f"rows-*.{record_format}")
    model: dict[str, Any] = {"estimator": f"zoo.{case.builder}", "model_dir": model_dir}
    if case.features is not None:
        model["features"] = case.features
    job = {
        "name": "transformed",
        "code": [str(TESTS / "zoo")],
        "batch": {"rows": size},
        "output": {"path": str(folder / "out"), "passthrough": passthrough},
        **case.sections,
        "input": {"pattern": pattern, "format": record_format, **case.sections.get("input", {})},
        **sections,
        "model": {**model, **sections.get("model", {})},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def trained_job(folder: Path, name: str = "taxi_tft", record_format: str = "tfrecord", **sections: Any) -> Path:
    """Copy the model and the transform of that name, which are checked in, to `folder`, and write the job that scores with
    them the shards of `folder`, in the batches that the trainer predicted in."""
    for source, target in ((DATA / "models" / name, "model"), (DATA / name, "transform")):
        shutil.copytree(source, folder / target, copy_function=shutil.copyfile)
    settings = {"transform": {"path": str(folder / "transform")}, **sections}
    return write_job(folder, taxi_case(name), str(folder / "model"), record_format, TRAINER_BATCH_ROWS, **settings)


def score(job: Path) -> pa.Table:
    assert main(["score", "--config", str(job), "--quiet"]) == 0
    return read_output(job.parent)


def read_output(folder: Path) -> pa.Table:
    """The rows of all parts, in the order of the parts."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "out").glob("part-*.parquet")))


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "_manifest.json").read_text(encoding="utf-8"))


def predictions_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns between the pass-through columns and the row's place, as `Estimator.predict` has them."""
    return {name: to_numpy(table[name]) for name in table.column_names[2:-2]}


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    arrow, shape = column.type, [len(column)]
    while pa.types.is_fixed_size_list(arrow):
        shape.append(arrow.list_size)
        arrow = arrow.value_type
    values = column.to_pylist()
    if pa.types.is_string(arrow):
        flat = [text for value in values for text in (value if isinstance(value, list) else [value])]
        return np.array([text.encode() for text in flat], dtype=object).reshape(shape)
    return np.array(values, dtype=arrow.to_pandas_dtype()).reshape(shape)


def differences(
    scored: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], tolerance: float = 0.0
) -> list[str]:
    """What differs, in words; numbers by no more than the tolerance, scaled with the largest of a prediction."""
    if set(scored) != set(reference):
        return [f"keys {sorted(scored)} in place of {sorted(reference)}"]
    found = []
    for name, wanted in reference.items():
        got = scored[name]
        if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
            found.append(f"{name}: {got.dtype} {got.shape} in place of {wanted.dtype} {wanted.shape}")
        elif wanted.dtype.kind == "f":
            differ = ~(np.abs(got - wanted) <= tolerance * max(1.0, np.abs(wanted).max()))
            found += [f"{name}: {differ.sum()} values differ"] if differ.any() else []
        elif (got != wanted).any():
            found.append(f"{name}: {(got != wanted).sum()} values differ")
    return found
