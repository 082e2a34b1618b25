"""Every head, and what stands around it in training alone: the command's rows are those of `Estimator.predict`.

At the same batch boundaries the difference is 0; at any other it stays within the tolerance of the design.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import heads_model
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from heads_model import FEATURES, HEADS
from test_exported_zoo import placeholder
from zoo import parsing_spec

from pipeline.commands import main

SHARDS = [heads_model.make_features(20, seed) for seed in (2, 3)]
TOLERANCE = 1e-5
OTHER_BOUNDARIES = ("multi_head", "combined_multi_label")

Trained = Callable[[str], Path]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The `model_dir` of an Estimator of `HEADS`; what it was warm started from is gone."""
    root = tmp_path_factory.mktemp("heads")

    def model_dir(head: str) -> Path:
        path = root / head / "model"
        if not path.exists():
            heads_model.train(heads_model.build_estimator(str(path), {"head": head}), HEADS[head][1])
            shutil.rmtree(path.parent / "before", ignore_errors=True)
        return path

    return model_dir


@pytest.fixture
def score(tmp_path: Path, trained: Trained) -> Callable[..., pa.Table]:
    for number, features in enumerate(SHARDS):
        table = pa.table({name: values.tolist() if name == "x" else values for name, values in features.items()})
        pq.write_table(table, tmp_path / f"rows-{number}.parquet")

    def run(head: str, predictions: Any = None, export: str | None = None) -> pa.Table:
        job = {
            "name": head,
            "code": [heads_model.__file__],
            "input": {"pattern": str(tmp_path / "rows-*.parquet")},
            "features": FEATURES,
            "model": {
                "estimator": "heads_model:build_estimator",
                "model_dir": str(trained(head)),
                "params": {"head": head},
            },
            "batch": {"rows": 7},
            "output": {"path": str(tmp_path / "out")} | ({"predictions": predictions} if predictions else {}),
        }
        if export is not None:
            job["model"] = {"saved_model": export}
        path = tmp_path / "job.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")
        assert main(["score", "--config", str(path), "--quiet"]) == 0
        return pa.concat_tables(pq.read_table(part) for part in sorted((tmp_path / "out").glob("part-*.parquet")))

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def columns_of(predictions: Mapping[Any, np.ndarray]) -> dict[str, np.ndarray]:
    """Predictions by the columns they are written to, without those that are the same in every row."""
    named = {key if isinstance(key, tuple) else (key,): values for key, values in predictions.items()}
    return {"_".join(key): values for key, values in named.items() if key[-1] not in ("all_classes", "all_class_ids")}


def values_of(table: pa.Table, like: np.ndarray, name: str) -> np.ndarray:
    values = table[name].to_pylist()
    if like.dtype == object:
        return np.vectorize(str.encode, otypes=[object])(np.array(values, object))
    return np.array(values, like.dtype)


@pytest.mark.parametrize("head", HEADS)
def test_rows_equal_predict(head: str, trained: Trained, score: Callable[..., pa.Table]) -> None:
    model_dir = trained(head)
    before = contents(model_dir)
    table = score(head)
    estimator = heads_model.build_estimator(str(model_dir), {"head": head})
    same = columns_of(heads_model.predict(estimator, SHARDS, 7))
    other = columns_of(heads_model.predict(estimator, SHARDS, 20)) if head in OTHER_BOUNDARIES else same
    assert set(table.column_names) == {*same, "_shard", "_row"}
    for name, expected in same.items():
        got = values_of(table, expected, name)
        assert got.shape == expected.shape
        assert (got == expected).all(), name
        if expected.dtype.kind == "f":
            assert np.std(expected) > 0 or head == "baseline", name
            assert np.abs(got - other[name]).max() <= TOLERANCE * max(1.0, np.abs(other[name]).max()), name
    assert contents(model_dir) == before


@pytest.mark.parametrize("head", HEADS)
def test_an_export_scores_as_its_checkpoint(
    head: str, trained: Trained, score: Callable[..., pa.Table], tmp_path: Path
) -> None:
    estimator = heads_model.build_estimator(str(trained(head)), {"head": head})

    def receiver() -> Any:
        features = {name: placeholder(feature) for name, feature in parsing_spec(FEATURES).items()}
        return tf.estimator.export.ServingInputReceiver(dict(features), features)

    export = estimator.export_saved_model(str(tmp_path / "export"), receiver).decode()
    table = score(head, export=export)
    table = table.rename_columns([name.replace("/", "_") for name in table.column_names])  # keys of an export are text
    expected = columns_of(heads_model.predict(estimator, SHARDS, 7))
    shared = set(expected) & set(table.column_names)
    assert shared
    for name in shared:
        got = values_of(table, expected[name], name)
        if expected[name].dtype.kind == "f":
            assert np.abs(got - expected[name]).max() <= TOLERANCE * max(1.0, np.abs(expected[name]).max()), name
        else:
            assert (got == expected[name]).all(), name


def test_predictions_of_heads_by_name(trained: Trained, score: Callable[..., pa.Table]) -> None:
    table = score("multi_head", {"p": "buys/probabilities[1]", "tier": "tier/class_ids", "what": "tier/all_classes"})
    estimator = heads_model.build_estimator(str(trained("multi_head")), {"head": "multi_head"})
    expected = heads_model.predict(estimator, SHARDS, 7)
    assert table.column_names == ["p", "tier", "what", "_shard", "_row"]
    assert table["p"].to_pylist() == expected["buys", "probabilities"][:, 1].tolist()
    assert table["tier"].to_pylist() == expected["tier", "class_ids"].tolist()
    assert table["what"].to_pylist() == [["0", "1", "2"]] * 40
