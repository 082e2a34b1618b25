"""Saved transforms that several tests load, their features and what they make of them, and every way of calling one."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  first of all

import numpy as np
import pytest

import tensorflow as tf  # isort: skip

import transforms
from pipeline.features import Feature

v1 = tf.compat.v1
DATA = Path(__file__).parent / "data"
MADE_ON = {"2.21": "taxi_tft", "2.15": "taxi_tft_2_15"}
"""TensorFlow version -> the folder that it made in TensorFlow Transform's current format; the older has `_v1` behind it."""

TAXI: dict[str, Any] = {}
"""The raw rows, and under the name of each folder what tensorflow-transform's own loader made of them."""
for name in MADE_ON.values():
    TAXI |= json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
TAXI_SPEC = {
    "company": Feature("company", "string"),
    "fare": Feature("fare", "float32"),
    "miles": Feature("miles", "float32"),
    "tips": Feature("tips", "float32"),
    "words": Feature("words", "string", "varlen"),
}
TAXI_FOLDERS = [
    pytest.param(f"{name}{suffix}", id=f"{version}-{form}")
    for version, name in MADE_ON.items()
    for suffix, form in (("", "current-format"), ("_v1", "older-format"))
]
every_folder = pytest.mark.parametrize("folder", TAXI_FOLDERS)
both_formats = pytest.mark.parametrize("folder", ["taxi_tft", "taxi_tft_v1"], ids=["current-format", "older-format"])


class Scaler(tf.Module):
    """A transform whose variable and table have the names that a model would use."""

    def __init__(self, vocabulary: str | None = None, factor: float = 2.0):
        super().__init__()
        self.kernel = tf.Variable([[factor]], name="dense/kernel")
        words = tf.constant(["a", "b"])
        initializer = (
            tf.lookup.TextFileInitializer(
                vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            if vocabulary
            else tf.lookup.KeyValueTensorInitializer(words, tf.constant([7, 8], tf.int64))
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(
        input_signature=[
            {
                "x": tf.TensorSpec((None, 1), tf.float32),
                "word": tf.TensorSpec((None,), tf.string),
                "image": tf.TensorSpec((None, 28, 28), tf.float32),
                "bag": tf.SparseTensorSpec((None, None), tf.string),
                "list": tf.RaggedTensorSpec((None, None), tf.int64, ragged_rank=1),
            }
        ]
    )
    def __call__(self, features: dict) -> dict:
        bag = features["bag"]
        return {
            "x": features["x"] @ self.kernel,
            "word": self.table.lookup(features["word"]),
            "mean": tf.reduce_mean(features["image"], axis=[1, 2]),
            "bag": tf.SparseTensor(bag.indices, self.table.lookup(bag.values), bag.dense_shape),
            "list": features["list"] * 10,
        }


def scaler_features() -> dict:
    return {
        "x": tf.constant([[1.0], [-3.0]]),
        "word": tf.constant(["b", "?"]),
        "image": tf.stack([tf.fill((28, 28), 0.5), tf.zeros((28, 28))]),
        "bag": tf.RaggedTensor.from_row_lengths(tf.constant(["a", "b"]), [0, 2]).to_sparse(),
        "list": tf.RaggedTensor.from_row_lengths(tf.constant([1, 2, 3], tf.int64), [2, 1]),
    }


SCALED = {"bag": [[], [7, 8]], "list": [[10, 20], [30]], "mean": [0.5, 0.0], "word": [8, -1], "x": [[2.0], [-6.0]]}


@functools.cache
def taxi(folder: str) -> transforms.Transform:
    return transforms.load(str(DATA / folder))


def taxi_features() -> dict:
    features = {name: tf.constant([row[name] for row in TAXI["rows"]]) for name in TAXI_SPEC if name != "words"}
    words = [row["words"] for row in TAXI["rows"]]
    features["words"] = tf.ragged.constant(words).to_sparse()
    return features


def lists(outputs: dict) -> dict:
    """Values of a batch, eager tensors or what a session gave, as lists a row."""

    def rows(value: object) -> list:
        if isinstance(value, (tf.SparseTensor, v1.SparseTensorValue)):
            dense_rows: list = [[] for _ in range(int(value.dense_shape[0]))]
            for (row, _), item in zip(
                np.asarray(value.indices).tolist(), np.asarray(value.values).tolist(), strict=True
            ):
                dense_rows[row].append(item)
            return dense_rows
        return value.to_list() if hasattr(value, "to_list") else np.asarray(value).tolist()

    return {name: rows(value) for name, value in outputs.items()}


# Ways of calling a transform: each takes it and a function that makes eager or graph features, and gives lists.


def call_eagerly(transform, features):
    return lists(transform(features()))


def call_in_dataset(transform, features):
    (batch,) = tf.data.Dataset.from_tensors(features()).map(transform)
    return lists(batch)


def call_in_function(transform, features):
    return lists(tf.function(transform)(features()))


def call_in_graph(transform, features):
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = transform(features())
        session.run(v1.tables_initializer())
        return lists(session.run(outputs))


def call_in_graph_dataset(transform, features):
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tf.data.Dataset.from_tensors(0).map(lambda _: transform(features()))
        iterator = v1.data.make_initializable_iterator(dataset)
        session.run(v1.tables_initializer())
        session.run(iterator.initializer)
        return lists(session.run(iterator.get_next()))


def call_attached(transform, features):
    def unknown(tensor):  # as in scoring: the graph knows neither the values nor how many rows there are
        return v1.placeholder_with_default(tensor, [None, *tensor.shape[1:]])

    with tf.Graph().as_default() as graph:
        attached = transform.attach(tf.nest.map_structure(unknown, features(), expand_composites=True))
        graph.finalize()
        with v1.Session() as session:
            session.run(attached.initializer)
            return lists(session.run(attached.outputs))


ways = pytest.mark.parametrize(
    "call", [call_eagerly, call_in_dataset, call_in_function, call_in_graph, call_in_graph_dataset, call_attached]
)
