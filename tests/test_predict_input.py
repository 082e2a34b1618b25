"""Arrays to `Estimator.predict`: each row once, in order, at any batch size."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import zoo_data
from zoo import KINDS, Kind

from pipeline import Scorer, predict_input_fn

ROWS = 50


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    return linear_model.make_columns(ROWS)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 4096])
def test_each_row_once_and_in_order(batch_size: int, columns: dict[str, np.ndarray], linear_model_dir: str) -> None:
    estimator = linear_model.build_estimator(linear_model_dir)
    with Scorer(estimator) as scorer:
        expected = scorer.score(columns)
    predictions = list(estimator.predict(predict_input_fn(columns, batch_size)))
    scores = [row["score"] for row in predictions]
    np.testing.assert_allclose(scores, expected["score"].to_numpy(), rtol=1e-5, atol=1e-5)
    assert [row["positive"] for row in predictions] == expected["positive"].to_pylist()
    assert len(set(scores)) == ROWS


def test_batches_are_cut_as_asked(columns: dict[str, np.ndarray]) -> None:
    batches = list(predict_input_fn(columns, 20)().as_numpy_iterator())
    assert [len(batch["count_0"]) for batch in batches] == [20, 20, 10]
    for name, values in columns.items():
        together = np.concatenate([batch[name] for batch in batches])
        assert together.tolist() == values.tolist()


def test_one_array_is_a_bare_tensor(model_dir_of: Callable[[Kind], str]) -> None:
    kind = KINDS["bare_tensor"]
    rows = zoo_data.make_rows(kind)
    name = kind.module.model_section()["features"]
    array = np.array([row[name] for row in rows], kind.spec[name]["dtype"])
    model_dir = model_dir_of(kind)
    batches = kind.estimator(model_dir).predict(predict_input_fn(array, 50), yield_single_examples=False)
    predictions = list(batches)
    for key, expected in kind.predict(model_dir, [rows], 50).items():
        np.testing.assert_array_equal(np.concatenate([batch[key] for batch in predictions]), expected)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (["a", "é", ""], tf.string),
        (np.array([b"a\0", "é", b""], object), tf.string),
        ([1, 2, 2**53 + 1], tf.int64),
        (np.array([[1, 2]] * 3, np.int8), tf.int8),
        ([True, False, True], tf.bool),
        (np.array([0.5, -0.0, 1], np.float16), tf.float16),
    ],
    ids=["str", "objects", "int", "rows of two", "bool", "float16"],
)
def test_dtypes_stay_as_they_are(values: Any, dtype: tf.DType) -> None:
    dataset = predict_input_fn({"x": values}, 2)()
    assert dataset.element_spec["x"].dtype == dtype
    assert dataset.element_spec["x"].shape.as_list() == [None, *np.shape(values)[1:]]
    found = np.concatenate([batch["x"] for batch in dataset.as_numpy_iterator()]).tolist()
    expected = np.asarray(values).tolist()
    assert found == [value.encode() if isinstance(value, str) else value for value in expected]


def test_columns_of_a_data_frame_are_features() -> None:
    frame = pd.DataFrame({"x": [0.5, 1.5], "word": ["a", "b"]})
    (batch,) = predict_input_fn(frame, 2)().as_numpy_iterator()
    assert {name: values.tolist() for name, values in batch.items()} == {"x": [0.5, 1.5], "word": [b"a", b"b"]}


def test_no_rows() -> None:
    assert list(predict_input_fn({"x": np.zeros((0, 2), np.float32)})()) == []


@pytest.mark.parametrize(
    ("features", "batch_size", "message"),
    [
        ({"x": [1, 2], "y": [1]}, 1, "features have different numbers of rows: {'x': 2, 'y': 1}"),
        ({"x": [1], "y": 5}, 1, "feature 'y': expected an array of rows, got one value"),
        (5, 1, "feature 'features': expected an array of rows, got one value"),
        ({"x": [1]}, 0, "batch_size: expected at least 1, got 0"),
    ],
    ids=["lengths", "one value", "one bare value", "batch size"],
)
def test_refusals(features: Any, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        predict_input_fn(features, batch_size)
