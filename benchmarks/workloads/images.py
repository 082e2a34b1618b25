"""Images of 28 x 28 pixels and a network of one hidden layer, in a `model_fn` as TF1 tutorials have it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

ROW_GROUP = 8_192
ID = pa.int64()
PREDICTIONS = {"probabilities": pa.list_(pa.float32(), 10), "classes": pa.int64()}
SIGNATURE = "serving_default"
"""Of a SavedModel that is exported."""
_SHAPE = (28, 28)
_PIXELS = 784
_CLASSES = 10


def make_rows(count: int, seed: int) -> pa.Table:
    """Columns `id` (int64) and `input_tensor` (784 of float32): four pixels of five are 0, the others k / 255."""
    random = np.random.default_rng(seed)
    ink = np.maximum(random.integers(-1020, 256, (count, _PIXELS), np.int16), 0)
    pixels = pa.array((ink / np.float32(255)).reshape(-1))
    images = pa.FixedSizeListArray.from_arrays(pixels, _PIXELS)
    return pa.table({"id": random.permutation(count) + 1_000_000, "input_tensor": images})


def labels(rows: pa.Table) -> np.ndarray:
    """int64 (rows,): the one of ten fixed directions that an image lies farthest in."""
    pixels = rows["input_tensor"].combine_chunks().flatten().to_numpy().reshape(-1, _PIXELS)
    return (pixels @ np.random.default_rng(7).normal(size=(_PIXELS, _CLASSES))).argmax(axis=1)


def raw_spec() -> dict[str, Any]:
    import tensorflow as tf

    return {"input_tensor": tf.io.FixedLenFeature(_SHAPE, tf.float32)}


def model_fn(features: dict[str, Any], labels: Any, mode: str) -> Any:
    """Dense 784-128-10, softmax. Predictions: `probabilities`, float32 (rows, 10), and `classes`, int64 (rows,)."""
    import tensorflow.compat.v1 as tf

    pixels = tf.layers.flatten(features["input_tensor"])
    hidden = tf.layers.dense(pixels, 128, activation=tf.nn.relu)
    logits = tf.layers.dense(hidden, _CLASSES)
    predictions = {"probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, axis=1)}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = tf.train.AdamOptimizer().minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir: str, config: Any = None) -> Any:
    import tensorflow as tf

    return tf.estimator.Estimator(model_fn, model_dir, config)
