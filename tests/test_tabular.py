"""The tabular example: fit, train, record, score; the scored trips have the metrics of the trainer's evaluation."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from sklearn.metrics import roc_auc_score

import transforms
from examples.tabular import data, evaluate, train
from examples.tabular.model import build_estimator
from pipeline.commands import main

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
needs_extra = pytest.mark.skipif(
    tf.__version__.startswith("2.15.") or importlib.util.find_spec("tensorflow_transform") is None,
    reason="needs the extra fit",
)


def run(command: str, config: str, settings: dict[str, Any]) -> int:
    options = [option for key, value in settings.items() for option in ("--set", f"{key}={value}")]
    return main([command, "--config", str(CONFIGS / config), *options])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example makes, of fewer trips and steps."""
    folder = tmp_path_factory.mktemp("tabular")
    data.write_trips(folder, train=4000, held_out=8 * 128)
    settings = {"input.pattern": folder / "train" / "*.tfrecord", "transform.path": folder / "transform"}
    assert run("fit", "tabular_fit.yaml", settings) == 0
    train.train(folder, steps=150)
    return folder


def score(work: Path, **changes: Any) -> int:
    settings = {
        "input.pattern": work / "held_out" / "*.tfrecord",
        "transform.path": work / "transform",
        "model.model_dir": work / "model",
        "output.path": work / "predictions",
    }
    return run("score", "tabular.yaml", {**settings, **changes})


@needs_extra
def test_scored_trips_have_the_metrics_of_the_trained_model(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(work) == 0
    assert "verified" in capsys.readouterr().out

    evaluated = json.loads((work / "evaluation.json").read_text())
    scored = evaluate.scored_metrics(work / "predictions")
    assert scored["trips"] == evaluated["trips"] == 1024
    assert scored["accuracy"] == pytest.approx(evaluated["accuracy"], abs=1e-6)
    assert scored["auc"] == pytest.approx(evaluated["auc"], abs=1e-6)

    table = pq.read_table(sorted((work / "predictions").glob("part-*.parquet")))
    trips = data.make_trips(8 * 128, seed=2)
    assert table["trip_id"].to_pylist() == trips["trip_id"]
    assert table["tipped"].to_pylist() == trips["tipped"]
    exact = roc_auc_score(trips["tipped"], table["score"].to_numpy())
    assert exact == pytest.approx(scored["auc"], abs=0.005)  # of all thresholds instead of 200
    assert exact > 0.8
    monkeypatch.setattr(sys, "argv", ["evaluate", "--work", str(work)])
    assert evaluate.main() == 0


@needs_extra
def test_scores_are_those_of_the_trainer_to_the_last_bit(work: Path, tmp_path: Path) -> None:
    assert score(work, **{"output.path": tmp_path / "predictions", "batch.rows": 128}) == 0

    transform = transforms.load(str(work / "transform"))
    estimator = build_estimator(str(work / "model"), train.PARAMS)
    predictions = list(estimator.predict(lambda: train.input_fn(work / "held_out", transform, 128)))
    table = pq.read_table(sorted((tmp_path / "predictions").glob("part-*.parquet")))
    assert table["score"].to_pylist() == [float(row["logistic"][0]) for row in predictions]
    assert table["predicted"].to_pylist() == [int(row["class_ids"][0]) for row in predictions]


@needs_extra
def test_compare_finds_the_scores_of_the_trainer(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(work, **{"output.path": tmp_path / "predictions"}) == 0
    capsys.readouterr()

    against = str(work / "trainer_scores.parquet")
    code = main(["compare", str(tmp_path / "predictions"), against, "--on", "trip_id"])

    assert code == 0
    assert "within tolerance: 0 of 1,024 rows differ" in capsys.readouterr().out


@needs_extra
def test_other_scores_are_told(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(work / "evaluation.json", tmp_path)
    trips = data.make_trips(8 * 128, seed=2)
    columns = {"trip_id": trips["trip_id"], "tipped": trips["tipped"], "score": np.full(1024, 0.5, np.float32)}
    (tmp_path / "predictions").mkdir()
    table = pa.table({**columns, "predicted": [0] * 1024})
    pq.write_table(table, tmp_path / "predictions" / "part-00000-of-00001.parquet")
    monkeypatch.setattr(sys, "argv", ["evaluate", "--work", str(tmp_path)])

    assert evaluate.main() == 1

    assert "The scores are not those of the trained model." in capsys.readouterr().err


def test_trips_are_made_alike_and_have_missing_values() -> None:
    trips = data.make_trips(5000, seed=7)

    assert trips == data.make_trips(5000, seed=7)
    assert len(set(trips["trip_id"])) == 5000
    for name, column in trips.items():
        missing = sum(value is None for value in column) / 5000
        assert missing == pytest.approx(data.MISSING.get(name, 0), abs=0.02), name
    assert 0.3 < np.mean(trips["tipped"]) < 0.7
    assert set(trips["company"]) - {None} == set(data.COMPANIES)


def test_shards_hold_the_trips_in_their_order(tmp_path: Path) -> None:
    trips = data.make_trips(50, seed=3)
    data.write_shards(trips, tmp_path, shards=3)

    records = [record.numpy() for record in tf.data.TFRecordDataset(sorted(map(str, tmp_path.iterdir())))]
    spec = {"trip_id": tf.io.FixedLenFeature([], tf.int64), "tipped": tf.io.FixedLenFeature([], tf.int64)}
    parsed = tf.io.parse_example(records, {**data.raw_spec(), **spec})

    assert len(list(tmp_path.iterdir())) == 3
    for name, column in trips.items():
        present = [value.encode() if isinstance(value, str) else value for value in column if value is not None]
        tensor = parsed[name]
        values = tensor.values if isinstance(tensor, tf.SparseTensor) else tensor
        expected = np.array(present, np.float32).tolist() if name in ("miles", "fare") else present
        assert values.numpy().tolist() == expected, name
        if isinstance(tensor, tf.SparseTensor):
            rows = [row for row, value in enumerate(column) if value is not None]
            assert tensor.indices.numpy()[:, 0].tolist() == rows, name


def test_job_files_are_those_of_the_trainer() -> None:
    job, fit_job = (yaml.safe_load((CONFIGS / name).read_text()) for name in ("tabular.yaml", "tabular_fit.yaml"))

    assert job["model"]["params"] == train.PARAMS
    assert job["batch"]["rows"] == train.BATCH_ROWS
    assert job["transform"]["path"] == fit_job["transform"]["path"]
    assert fit_job["features"] == "tabular.data:raw_spec"


@pytest.mark.parametrize(("name", "command"), [("tabular.yaml", "score"), ("tabular_fit.yaml", "fit")])
def test_job_file_opens_with_the_commands_that_run_it(name: str, command: str) -> None:
    opening = re.match(r"(#.*\n)+", (CONFIGS / name).read_text())

    assert opening
    assert f"python -m pipeline {command} --config configs/{name}" in opening[0]
    script = (ROOT / "examples" / "tabular" / "run.sh").read_text()
    assert f"estimator-score {command} --config configs/{name}" in script
