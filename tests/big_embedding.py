"""A model that is one large embedding, as a program: `train KIND MEBIBYTES FOLDER`, or `load ...`, which tells what memory it took.

Kinds: a custom model_fn with a resource or a ref variable, whole or in parts; a canned Estimator, current or of version 1.
"""

from __future__ import annotations

import json
import sys

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import numpy as np
import pyarrow as pa
import tensorflow as tf

from pipeline import memory
from pipeline.checkpoint import resolve
from pipeline.features import Feature
from pipeline.graph_input import ColumnInput
from pipeline.model import build_model
from pipeline.rows import feature_column

tf1 = tf.compat.v1
WIDTH = 64
PARTS = 5
KINDS = {"resource": (True, 1), "ref": (False, 1), "parts": (True, PARTS), "ref-parts": (False, PARTS)}
"""Whether the variable is a resource, and how many parts it has; of a custom model_fn."""


def rows_of(mebibytes: int) -> int:
    return mebibytes * 2**20 // (4 * WIDTH)


def make_estimator(kind: str, mebibytes: int, folder: str) -> tf.estimator.Estimator:
    rows = rows_of(mebibytes)
    config = tf.estimator.RunConfig(model_dir=folder, tf_random_seed=1)
    if kind.startswith("canned"):
        ids = tf.feature_column.categorical_column_with_identity("id", rows)
        embedding = tf.feature_column.embedding_column(ids, WIDTH, initializer=tf1.ones_initializer())
        if kind == "canned-v1":
            return tf1.estimator.DNNClassifier([4], [embedding], optimizer="SGD", config=config)
        return tf.estimator.DNNClassifier(
            [4], [embedding], optimizer=tf.keras.optimizers.legacy.SGD(0.1), config=config
        )
    is_resource, parts = KINDS[kind]

    def model_fn(features, labels, mode):
        partitioner = tf1.fixed_size_partitioner(parts) if parts > 1 else None
        with tf1.variable_scope("model", use_resource=is_resource, partitioner=partitioner):
            table = tf1.get_variable("embedding", [rows, WIDTH], initializer=tf1.ones_initializer())
        score = tf.reduce_sum(tf1.nn.embedding_lookup(table, features["id"], partition_strategy="div"), 1)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"score": score})
        loss = tf.reduce_mean(score)
        train_op = tf1.train.GradientDescentOptimizer(0.1).minimize(loss, tf1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return tf.estimator.Estimator(model_fn, config=config)


def train(estimator: tf.estimator.Estimator) -> None:
    features = {"id": np.array([0, 1])}
    estimator.train(lambda: tf.data.Dataset.from_tensors((features, np.array([0, 1]))).repeat(), steps=1)


def load(estimator: tf.estimator.Estimator, rows: int) -> dict[str, int]:
    """Bytes before, at most, and of the variables."""
    with tf.Graph().as_default(), tf1.Session() as session:
        session.run(tf.constant(1) + 1)  # TensorFlow's own threads and pools are no part of the model
    usage = memory.usage()
    model = build_model(estimator, resolve(estimator.model_dir), ColumnInput({"id": Feature("id", "int64")}))
    few = pa.record_batch({feature_column("id"): pa.array([0, rows - 1], pa.int64())})
    predictions = model.run(few, [model.predictions[0].key]).predictions
    assert all(np.isfinite(values).all() for values in predictions.values())
    return {"base": usage.private + usage.shared, "peak": memory.peak(), "variables": model.variable_bytes}


if __name__ == "__main__":
    command, kind, mebibytes, folder = sys.argv[1:]
    made = make_estimator(kind, int(mebibytes), folder)
    if command == "train":
        train(made)
    else:
        print(json.dumps(load(made, rows_of(int(mebibytes)))))
