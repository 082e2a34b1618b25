"""The model handler in a pipeline of somebody's own, with Beam's RunInference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import apache_beam as beam
import linear_model
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.inference.base import RunInference
from apache_beam.testing.util import assert_that

from pipeline import EstimatorModelHandler, predict_input_fn

TESTS = Path(__file__).parent
SIZES = [7, 1, 30]


@pytest.fixture
def job(linear_model_dir: str, tmp_path: Path) -> str:
    job = {
        "name": "linear",
        "code": [str(TESTS / "linear_model.py")],
        "input": {"pattern": str(tmp_path / "none-*"), "format": "tfrecord"},
        "features": linear_model.FEATURES,
        "model": {**linear_model.MODEL, "model_dir": linear_model_dir},
        "output": {"path": str(tmp_path / "out"), "passthrough": ["word_0"]},
    }
    path = tmp_path / "job.yaml"
    path.write_text(json.dumps(job), encoding="utf-8")
    return str(path)


@pytest.fixture
def batches() -> list[dict[str, np.ndarray]]:
    return [linear_model.make_columns(size, seed=size) for size in SIZES]


@pytest.fixture
def expected(batches: list[dict[str, np.ndarray]], linear_model_dir: str) -> list[dict[str, list[Any]]]:
    """The predictions of `Estimator.predict` for each batch, with the column that is passed through."""
    estimator = linear_model.build_estimator(linear_model_dir)
    tables = []
    for batch in batches:
        (predictions,) = estimator.predict(predict_input_fn(batch, len(batch["count_0"])), yield_single_examples=False)
        columns = {name: values.tolist() for name, values in predictions.items()}
        tables.append({"word_0": [word.decode() for word in batch["word_0"]], **columns})
    return tables


def are(expected: list[dict[str, list[Any]]]) -> Callable[[Any], None]:
    def check(tables: Any) -> None:
        assert all(isinstance(table, pa.Table) for table in tables)
        found = sorted((table.to_pydict() for table in tables), key=repr)
        assert found == sorted(expected, key=repr)

    return check


def counted(result: Any, name: str) -> int:
    (metric,) = result.metrics().query(MetricsFilter().with_namespace("estimator").with_name(name))["counters"]
    return metric.committed


@pytest.mark.parametrize(
    "element",
    [pa.RecordBatch.from_pydict, pa.table, pd.DataFrame, dict],
    ids=["RecordBatch", "Table", "DataFrame", "dict"],
)
@pytest.mark.parametrize("batching", [False, True], ids=["no batching", "batching"])
def test_predictions_in_a_pipeline(
    batching: bool,
    element: Callable[[Any], Any],
    job: str,
    batches: list[dict[str, np.ndarray]],
    expected: list[dict[str, list[Any]]],
) -> None:
    handler = EstimatorModelHandler(job)
    with beam.Pipeline("FnApiRunner") as p:
        tables = (
            p
            | beam.Create([element(batch) for batch in batches], reshuffle=False)
            | RunInference(handler if batching else handler.with_no_batching())
        )
        assert_that(tables, are(expected))


@pytest.mark.parametrize("element", [pa.RecordBatch.from_pydict, pa.table], ids=["RecordBatch", "Table"])
def test_metrics_count_rows(element: Callable[[Any], Any], job: str, batches: list[dict[str, np.ndarray]]) -> None:
    elements = [element(batch) for batch in batches]
    p = beam.Pipeline("FnApiRunner")
    p | beam.Create(elements) | RunInference(EstimatorModelHandler(job).with_no_batching())
    result = p.run()
    assert counted(result, "num_inferences") == sum(SIZES)
    metrics = {metric.key.metric.name: metric.committed for metric in result.metrics().query()["distributions"]}
    assert (metrics["inference_request_batch_size"].min, metrics["inference_request_batch_size"].max) == (1, 30)
    assert metrics["inference_request_batch_byte_size"].sum == sum(element.nbytes for element in elements)


def test_settings_of_the_job_can_be_overridden(job: str, batches: list[dict[str, np.ndarray]]) -> None:
    handler = EstimatorModelHandler(job, overrides=["output.predictions=[positive]"])
    (table,) = handler.run_inference([batches[0]], handler.load_model())
    assert table.column_names == ["word_0", "positive"]


def test_a_bad_row_fails_with_its_number_and_feature(job: str, batches: list[dict[str, np.ndarray]]) -> None:
    batches[0]["count_1"] = batches[0]["count_1"] + np.array([0, 0, 0.5, 0, 0, 0, 0])
    p = beam.Pipeline("FnApiRunner")
    p | beam.Create(batches[:1]) | RunInference(EstimatorModelHandler(job).with_no_batching())
    with pytest.raises(RuntimeError, match="row 2: feature 'count_1': expected int64, found a number with a fraction"):
        p.run()


def test_inference_args_are_refused(job: str) -> None:
    with pytest.raises(ValueError, match=r"inference_args: none are known, got \['temperature'\]"):
        EstimatorModelHandler(job).validate_inference_args({"temperature": 1})
