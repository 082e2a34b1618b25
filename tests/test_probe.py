"""A model that looks at its neighbours in the batch, or at chance, is refused; honest ones are not."""

import pipeline.tf_estimator  # noqa: F401  first of all

import numpy as np
import probe_model
import pyarrow as pa
import pytest

import tensorflow.compat.v1 as tf  # isort: skip

from pipeline.checkpoint import resolve
from pipeline.features import Feature
from pipeline.graph_input import ColumnInput, RecordInput
from pipeline.model import build_model
from pipeline.probe import check_row_wise, differing, optional_that_matter
from pipeline.rows import RECORD, ROW, Columns, feature_column

FEATURES = {"x": Feature("x", "float32", "fixed", (4,)), "words": Feature("words", "int64", "varlen")}


def probe(kind, model_dir):
    estimator = probe_model.train(kind, model_dir)
    columns = probe_model.make_rows(9)
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(range(9), pa.int64()),
            pa.array(columns["x"], pa.list_(pa.float32(), 4)),
            pa.array(columns["words"], pa.list_(pa.int64())),
        ],
        [ROW, feature_column("x"), feature_column("words")],
    )
    checkpoint = resolve(str(model_dir))
    model = build_model(estimator, checkpoint, ColumnInput(FEATURES), allow_unused=["*moving_*"])
    check_row_wise(model, rows, [prediction.key for prediction in model.predictions])


@pytest.mark.parametrize("kind", ["plain", "honest dropout", "honest batch norm", "large outputs"])
def test_an_honest_model_is_not_refused(kind, tmp_path):
    probe(kind, tmp_path)


OPTIONAL = {
    "x": Feature("x", "float32", "fixed", (4,)),
    "tips": Feature("tips", "float32"),
    "name": Feature("name", "string"),
    "words": Feature("words", "int64", "varlen"),
}


def optional_model_fn(features, labels, mode, params):
    value = tf.reduce_sum(features["x"], 1) * tf.get_variable("weight", (), initializer=tf.ones_initializer())
    if "tips" in params["uses"]:
        value += features["tips"]
    if "name" in params["uses"]:
        value += tf.cast(tf.strings.length(features["name"]), tf.float32)
    if "words" in params["uses"]:
        value += tf.cast(tf.reshape(tf.sparse.reduce_sum(features["words"], 1), (-1,)), tf.float32)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value})
    loss = tf.reduce_mean(value)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.assign_add(tf.train.get_global_step(), 1))


def optional_input_fn():
    dense = {"x": tf.zeros((2, 4)), "tips": tf.zeros(2), "name": tf.constant(["", ""])}
    words = tf.sparse.from_dense(tf.zeros((2, 1), tf.int64))
    return tf.data.Dataset.from_tensors(({**dense, "words": words}, tf.zeros(2)))


def optional_rows(serialized):
    if not serialized:
        arrays = [
            pa.array(range(3), pa.int64()),
            pa.array([[1.0, 2.0, 3.0, 4.0]] * 3, pa.list_(pa.float32(), 4)),
            pa.array([0.0] * 3, pa.float32()),
            pa.array([b""] * 3),
            pa.array([[]] * 3, pa.list_(pa.int64())),
        ]
        return pa.RecordBatch.from_arrays(arrays, [ROW, *(feature_column(name) for name in OPTIONAL)])
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend([1.0, 2.0, 3.0, 4.0])
    records = pa.array([example.SerializeToString()] * 3, pa.binary())
    return pa.RecordBatch.from_arrays([pa.array(range(3), pa.int64()), records], [ROW, RECORD])


@pytest.mark.parametrize("serialized", [False, True], ids=["columns", "records"])
@pytest.mark.parametrize("uses", [[], ["tips"], ["name"], ["words"], ["name", "tips", "words"]], ids=str)
def test_optional_features_that_predictions_depend_on(uses, serialized, tmp_path):
    estimator = tf.estimator.Estimator(optional_model_fn, str(tmp_path), params={"uses": uses})
    estimator.train(optional_input_fn, steps=1)
    columns = Columns(OPTIONAL, frozenset({"tips", "name", "words"}))
    graph_input = RecordInput(columns) if serialized else ColumnInput(OPTIONAL)
    model = build_model(estimator, resolve(str(tmp_path)), graph_input)
    assert optional_that_matter(model, optional_rows(serialized), ["value"], columns) == uses


def test_the_tolerance_grows_with_the_largest_score():
    small, large = np.array([[0.0], [1.0]]), np.array([[0.0], [1e4]])
    assert not differing({"p": small + 9e-6}, {"p": small}, "p").any()
    assert differing({"p": small + 1.2e-5}, {"p": small}, "p").all()
    assert not differing({"p": large + 0.09}, {"p": large}, "p").any()
    assert differing({"p": large + 0.11}, {"p": large}, "p").all()


def test_not_a_number_equals_itself_alone():
    a = np.array([np.nan, np.nan, np.inf, np.inf, 1.0])
    b = np.array([np.nan, 1.0, np.inf, -np.inf, np.inf])
    assert differing({"p": a}, {"p": b}, "p").tolist() == [False, True, False, True, True]


def test_classes_may_differ_only_where_the_two_best_scores_are_as_good_as_equal():
    scores = np.array([[0.5, 0.5 + 1e-6], [0.1, 0.9]])
    first = {"scores": scores, "classes": np.array([0, 0])}
    second = {"scores": scores, "classes": np.array([1, 1])}
    assert differing(first, second, "classes").tolist() == [False, True]
