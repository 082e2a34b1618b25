"""Every kind of Estimator, every input format: the command's rows are those of `Estimator.predict`, in order.

At the same batch boundaries the difference is 0; at any other it stays within the tolerance of the design.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zoo_data
from staged_job import snapshot
from zoo import KINDS, Kind, Row

from pipeline.commands import main

TESTS = Path(__file__).parent
TOLERANCE = 1e-5
SHARDS_AND_BATCH = [(1, 4096), (2, 7), (7, 1)]
EVERY_SHARDS_AND_BATCH = [(shards, batch) for shards in (1, 2, 7) for batch in (1, 7, 4096)]
EVERY_BOUNDARY = ("tf1_images", "wide_deep_classifier")
OTHER_BOUNDARIES = (1, 50)
CONSTANT = ("all_classes", "all_class_ids")
"""Predictions of canned classifiers that are the same in every row, and are left out."""

IN_PROCESS = [kind for kind in KINDS.values() if not kind.own_process]
CASES = [
    pytest.param(kind, shards, batch, id=f"{kind.name}-{shards}-shards-batch-{batch}")
    for kind in IN_PROCESS
    for shards, batch in (EVERY_SHARDS_AND_BATCH if kind.name in EVERY_BOUNDARY else SHARDS_AND_BATCH)
]


class Trained:
    """The kinds, trained, with what `Estimator.predict` gave for each cut."""

    def __init__(self, model_dir_of: Callable[[Kind], str]):
        self.model_dir = model_dir_of
        self._references: dict[tuple[str, int, int], dict[str, np.ndarray]] = {}

    def reference(self, kind: Kind, shards: int, batch: int) -> dict[str, np.ndarray]:
        batch = min(batch, zoo_data.ROWS)
        key = (kind.name, 1 if batch == 1 else shards, batch)
        if key not in self._references:
            rows = zoo_data.split(zoo_data.make_rows(kind), key[1])
            predictions = kind.predict(self.model_dir(kind), rows, batch)
            self._references[key] = {name: values for name, values in predictions.items() if name not in CONSTANT}
        return self._references[key]


@pytest.fixture(scope="session")
def trained(model_dir_of: Callable[[Kind], str]) -> Trained:
    return Trained(model_dir_of)


@pytest.mark.parametrize("kind", IN_PROCESS, ids=lambda kind: kind.name)
def test_rows_are_distinct_and_predictions_vary(kind: Kind, trained: Trained) -> None:
    records = {zoo_data.to_example(row, kind.spec) for row in zoo_data.make_rows(kind)}
    assert len(records) == zoo_data.ROWS
    for name, values in trained.reference(kind, *OTHER_BOUNDARIES).items():
        if values.dtype == object:
            assert len(set(values.reshape(-1))) > 1, name
        else:
            assert np.std(values.astype(np.float64), axis=0).min() > 1e-2, name


@pytest.mark.parametrize(("kind", "shards", "batch"), CASES)
def test_command_equals_predict(kind: Kind, shards: int, batch: int, trained: Trained, tmp_path: Path) -> None:
    rows = zoo_data.split(zoo_data.make_rows(kind), shards)
    paths = zoo_data.write_shards(tmp_path, rows, kind.spec)
    before = snapshot(Path(trained.model_dir(kind)))
    table = score(write_job(tmp_path, kind.spec, kind.module.model_section(), trained.model_dir(kind), batch=batch))

    assert snapshot(Path(trained.model_dir(kind))) == before
    assert misplaced(table, rows, paths) == []
    predictions = predictions_of(table)
    assert differences(predictions, trained.reference(kind, shards, batch)) == []
    assert differences(predictions, trained.reference(kind, *OTHER_BOUNDARIES), kind, TOLERANCE) == []


def test_check_fails_when_two_rows_are_swapped(trained: Trained, tmp_path: Path) -> None:
    kind = KINDS["tf1_images"]
    rows = zoo_data.split(zoo_data.make_rows(kind), 2)
    paths = zoo_data.write_shards(tmp_path, rows, kind.spec)
    table = score(write_job(tmp_path, kind.spec, kind.module.model_section(), trained.model_dir(kind), batch=7))
    order = np.arange(zoo_data.ROWS)
    order[[40, 41]] = order[[41, 40]]

    swapped = table.take(pa.array(order))
    assert misplaced(swapped, rows, paths) == ["id", "note", "_row"]
    predictions = predictions_of(swapped)
    assert "probabilities: 2 rows differ" in differences(predictions, trained.reference(kind, 2, 7))
    assert "probabilities: 2 rows differ" in differences(predictions, trained.reference(kind, 1, 50), kind, TOLERANCE)


def test_prediction_hooks_run_with_every_batch(trained: Trained, tmp_path: Path) -> None:
    kind = KINDS["hooks"]
    zoo_data.write_shards(tmp_path, zoo_data.split(zoo_data.make_rows(kind), 2), kind.spec)
    model_dir = trained.model_dir(kind)
    before = len(kind.module.RUNS)
    score(write_job(tmp_path, kind.spec, kind.module.model_section(), model_dir, batch=7))
    batches = 2 * 15  # 102 and 101 rows
    assert len(kind.module.RUNS) - before >= batches


def test_module_that_switches_v2_behavior_off(tmp_path: Path) -> None:
    run_python("-m", "zoo", "v2_behavior_off", str(tmp_path), "2", "7")
    sections = json.loads((tmp_path / "kind.json").read_text(encoding="utf-8"))
    job = write_job(tmp_path, sections["features"], sections["model"], str(tmp_path / "model"), batch=7)
    run_python("-m", "pipeline", "score", "--config", str(job), "--quiet")

    with np.load(tmp_path / "reference.npz") as reference:
        assert differences(predictions_of(read_output(tmp_path)), dict(reference)) == []


FORMATS: dict[str, Any] = {
    "tfrecord": ("tfrecord", zoo_data.write_tfrecord, {}),
    "tfrecord-gzip": ("tfrecord.gz", zoo_data.write_tfrecord, {"compression": "GZIP"}),
    "tfrecord-zlib": ("tfrecord", zoo_data.write_tfrecord, {"compression": "ZLIB"}),
    "parquet": ("parquet", zoo_data.write_parquet, {}),
    "csv": ("csv", zoo_data.write_csv, {}),
    "csv-without-header": ("csv", zoo_data.write_csv, {"header": False}),
    "jsonl": ("jsonl", zoo_data.write_jsonl, {}),
    "avro": ("avro", zoo_data.write_avro, {}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same(name: str, trained: Trained, tmp_path: Path) -> None:
    kind = KINDS["every_trap"]
    extension, write, options = FORMATS[name]
    rows = zoo_data.make_rows(kind)
    path = tmp_path / f"rows.{extension}"
    write(path, rows, kind.spec, **options)
    settings: dict[str, Any] = {"pattern": str(path), "format": name.partition("-")[0]}
    if name == "csv-without-header":
        settings["csv"] = {"header": False, "columns": [*kind.spec, *zoo_data.PASSTHROUGH]}
    table = score(
        write_job(tmp_path, kind.spec, kind.module.model_section(), trained.model_dir(kind), settings, batch=50)
    )

    if settings["format"] == "csv":  # no types in the file, and none given
        table = table.set_column(0, "id", pa.array([int(text) for text in table["id"].to_pylist()], pa.int64()))
    assert misplaced(table, [rows], [path]) == []
    assert differences(predictions_of(table), trained.reference(kind, 1, 50)) == []


def test_rows_hold_what_readers_get_wrong() -> None:
    rows = zoo_data.make_rows(KINDS["every_trap"])
    numbers = [row["number"] for row in rows]
    assert {2**53 + 1, -(2**63)} <= set(numbers)
    assert any(row["signed"] == 0 and np.signbit(row["signed"]) for row in rows)
    assert {row["text"] for row in rows} >= {"", "żółć ☃", None}
    assert any(row["level"] is None for row in rows)
    assert any(row["words"] == [] for row in rows)
    assert any(row["words"] is None for row in rows)
    assert np.shape(rows[0]["image"]) == (28, 28)


def write_job(
    folder: Path,
    features: Mapping[str, Any],
    model: Mapping[str, Any],
    model_dir: str,
    source: Mapping[str, Any] | None = None,
    *,
    batch: int,
) -> Path:
    """Write a job file that scores the shards of `folder` into `folder/out`."""
    source = source or {"pattern": str(folder / "rows-*.tfrecord"), "format": "tfrecord"}
    passthrough: Any = list(zoo_data.PASSTHROUGH)
    if source["format"] in ("tfrecord", "jsonl"):
        passthrough = {name: {"from": name, **field} for name, field in zoo_data.PASSTHROUGH.items()}
    job = {
        "name": "zoo",
        "code": [str(TESTS / "zoo")],
        "input": dict(source),
        "features": dict(features),
        "model": {**model, "model_dir": model_dir},
        "batch": {"rows": batch},
        "output": {"path": str(folder / "out"), "passthrough": passthrough},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def score(job: Path) -> pa.Table:
    assert main(["score", "--config", str(job), "--quiet"]) == 0
    return read_output(job.parent)


def read_output(folder: Path) -> pa.Table:
    """The rows of all parts, in the order of the parts."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((folder / "out").glob("part-*.parquet")))


def run_python(*arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def misplaced(table: pa.Table, shards: Sequence[Sequence[Row]], paths: Sequence[Path]) -> list[str]:
    """Columns that do not hold, for every row of the shards in their order, what the row or its place has."""
    expected: dict[str, list[Any]] = {
        name: [row[name] for rows in shards for row in rows] for name in zoo_data.PASSTHROUGH
    }
    expected["_shard"] = [str(path) for path, rows in zip(paths, shards, strict=True) for _ in rows]
    expected["_row"] = [number for rows in shards for number in range(len(rows))]
    assert table.column_names[:2] == list(zoo_data.PASSTHROUGH)
    assert table.column_names[-2:] == ["_shard", "_row"]
    return [name for name, values in expected.items() if table[name].to_pylist() != values]


def predictions_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns between the pass-through columns and the row's place, shaped and typed as in Arrow."""
    return {name: _to_numpy(table[name]) for name in table.column_names[2:-2]}


def differences(
    scored: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    kind: Kind | None = None,
    tolerance: float = 0.0,
) -> list[str]:
    """What differs, in words. With a tolerance, classes may differ where the two best scores lie that close."""
    if list(reference) == [""]:
        reference = dict.fromkeys(scored, reference[""])
    if set(scored) != set(reference):
        return [f"keys {sorted(scored)} in place of {sorted(reference)}"]
    undecided = np.zeros(zoo_data.ROWS, bool)
    if kind and kind.scores and tolerance:
        best = np.sort(reference[kind.scores], axis=-1)
        undecided = best[:, -1] - best[:, -2] <= tolerance
    found = []
    for name, wanted in reference.items():
        got = scored[name]
        if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
            found.append(f"{name}: {got.dtype} {got.shape} in place of {wanted.dtype} {wanted.shape}")
            continue
        if wanted.dtype.kind == "f" and tolerance:
            differ = ~(np.abs(got - wanted) <= tolerance * max(1.0, np.abs(wanted).max()))
            exempt = np.zeros_like(undecided)
        else:
            differ, exempt = got != wanted, undecided
        count = int((differ.reshape(len(got), -1).any(axis=1) & ~exempt).sum())
        if count:
            found.append(f"{name}: {count} rows differ")
    return found


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    arrow, shape = column.type, [len(column)]
    while pa.types.is_fixed_size_list(arrow):
        shape.append(arrow.list_size)
        arrow = arrow.value_type
    values = column.to_pylist()
    if pa.types.is_string(arrow):
        strings = np.array(values, dtype=object).reshape(shape)
        return np.vectorize(lambda text: text.encode(), otypes=[object])(strings)
    return np.array(values, dtype=arrow.to_pandas_dtype()).reshape(shape)
