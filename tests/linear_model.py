"""A tiny tabular model as a user has it: 12 numbers, 3 counts and 3 words in, one score and one class out.

It is the `code:` of the jobs whose tests look at something else than scores. With LINEAR_MODEL_CALLS set each call of
`build_estimator` and of `model_fn` is a line in that file.
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

FLOATS = [f"number_{index:02d}" for index in range(12)]
INTS = [f"count_{index}" for index in range(3)]
WORDS = [f"word_{index}" for index in range(3)]
FEATURES = {
    **{name: {"dtype": "float32"} for name in FLOATS},
    **{name: {"dtype": "int64"} for name in INTS},
    **{name: {"dtype": "string"} for name in WORDS},
}
MODEL = {"estimator": "linear_model:build_estimator"}


def build_estimator(model_dir):
    _called("build_estimator")
    config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=1)
    return tf.estimator.Estimator(model_fn, config=config)


def model_fn(features, labels, mode):
    _called("model_fn")
    columns = [features[name] for name in FLOATS]
    columns += [tf.cast(features[name], tf.float32) / 1000 for name in INTS]
    columns += [tf.cast(tf.strings.to_hash_bucket_fast(features[name], 100), tf.float32) / 100 for name in WORDS]
    score = tf.compat.v1.layers.dense(tf.stack(columns, axis=1), 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"score": score, "positive": tf.cast(score > 0, tf.int64)})
    loss = tf.compat.v1.losses.mean_squared_error(labels, score)
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.01)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def make_columns(count, seed=0):
    """Columns of distinct rows: name -> array (count,)."""
    random = np.random.default_rng(seed)
    columns = {name: random.normal(size=count).astype(np.float32) for name in FLOATS}
    columns |= {name: random.integers(0, 1000, count) for name in INTS}
    words = np.array([f"word {index}".encode() for index in range(1000)], object)
    return columns | {name: words[random.integers(0, len(words), count)] for name in WORDS}


def to_examples(columns):
    """The rows of columns as serialized tf.Examples."""
    return [_example(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def train(model_dir):
    """Train for a moment and leave a checkpoint in `model_dir`."""
    columns = make_columns(64, seed=1)
    labels = columns[FLOATS[0]] - columns[FLOATS[1]]
    build_estimator(model_dir).train(lambda: tf.data.Dataset.from_tensors((columns, labels)).repeat(), steps=20)


def _example(row):
    example = tf.train.Example()
    for name, value in row.items():
        feature = example.features.feature[name]
        if name in FLOATS:
            feature.float_list.value.append(value)
        elif name in INTS:
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value)
    return example.SerializeToString()


def _called(function):
    path = os.environ.get("LINEAR_MODEL_CALLS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {function}\n")
