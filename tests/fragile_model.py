"""Code as a user would have it: a small model with ways to go wrong on a row, which `params` turn on, and transforms.

The score of a row is linear in what `dense` makes of it, so that a test computes it from the checkpoint alone.
"""

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf

EMBEDDED = 10


def dense(features):
    """Float32 (rows, 4): x, the number modulo 7, the sum of the pixels, the number of words."""
    words = tf.sparse.to_dense(features["words"], "")
    columns = [
        features["x"],
        tf.cast(tf.floormod(features["n"], 7), tf.float32),
        tf.reduce_sum(features["pixels"], [1, 2]),
        tf.reduce_sum(tf.cast(tf.not_equal(words, ""), tf.float32), 1),
    ]
    return tf.stack(columns, 1)


def model_fn(features, labels, mode, params):
    if params.get("interrupted"):
        raise KeyboardInterrupt
    if params.get("labels"):
        tf.losses.mean_squared_error(labels, features["x"])
    if params.get("contrib"):
        tf.contrib.layers.fully_connected(features["pixels"], 1)
    if params.get("bare_name"):
        tensorflow.layers.dense(features["pixels"], 1)
    weights = tf.get_variable("weights", [4, 1], initializer=tf.random_normal_initializer(seed=1))
    if params.get("pixels_alone"):
        table = tf.get_variable("table", [EMBEDDED])
        score = tf.reduce_sum(features["pixels"], [1, 2]) * weights[0, 0] + table[0]
        return tf.estimator.EstimatorSpec(mode, {"score": score})
    score = tf.squeeze(dense(features) @ weights, 1)
    if not params.get("without_table"):
        rows = params.get("table_rows", EMBEDDED)
        table = tf.get_variable("table", [rows], initializer=tf.random_normal_initializer(seed=2))
        score += tf.gather(table, features["n"] if params.get("raw_ids") else tf.floormod(features["n"], EMBEDDED))
    if params.get("bias"):
        score += tf.get_variable("bias", [1], initializer=tf.ones_initializer())
    if params.get("centered"):
        score -= tf.reduce_mean(score)
    if params.get("noise"):
        score += tf.random.normal(tf.shape(score))
    if mode == tf.estimator.ModeKeys.PREDICT:
        more = {name: MORE_PREDICTIONS[name](features, score) for name in params.get("more", ())}
        hooks = [StumblingHook()] if params.get("stumbling") else None
        return tf.estimator.EstimatorSpec(mode, {"score": score, **more}, prediction_hooks=hooks)
    loss = tf.losses.mean_squared_error(labels, score)
    train_op = tf.train.GradientDescentOptimizer(0.01).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


MORE_PREDICTIONS = {
    "root": lambda features, score: tf.sqrt(features["x"]),
    "pair": lambda features, score: tf.stack([score, 1.0 / features["x"]], 1),
    "word": lambda features, score: tf.sparse.to_dense(features["words"], "")[:, 0],
    "average": lambda features, score: tf.reduce_mean(score),
}


class StumblingHook(tf.train.SessionRunHook):
    """Fails on a record that holds "stumble", and shows all of it, as code does that was never meant for others."""

    def before_run(self, run_context):
        return tf.train.SessionRunArgs("records:0")

    def after_run(self, run_context, run_values):
        for record in run_values.results:
            if b"stumble" in record:
                raise RuntimeError(f"cannot cope with {record!r}")


def number_in_text(features):
    """`x` out of text, as a trainer does that reads everything as text."""
    return {**features, "x": tf.strings.to_number(features["amount"])}


def number_inside(features):
    """`x` out of a tf.Example inside the tf.Example."""
    inner = tf.io.parse_example(features["inner"], {"x": tf.io.FixedLenFeature([], tf.float32)})
    return {**features, "x": inner["x"]}


def raw_pixels(features):
    """`pixels` out of raw bytes of float32."""
    pixels = tf.ensure_shape(tf.io.decode_raw(features["raw"], tf.float32), [None, 4])
    return {**features, "pixels": tf.reshape(pixels, [-1, 2, 2])}


def pixels_alone(features):
    """The same, as most people write it: twice as many bytes are two rows."""
    return {"pixels": tf.reshape(tf.io.decode_raw(features["raw"], tf.float32), [-1, 2, 2])}


def py_number(features):
    """`x` by way of Python, where a bad text raises a ValueError that holds it."""
    parsed = tf.py_func(
        lambda texts: np.array([float(text) for text in texts], np.float32), [features["amount"]], tf.float32
    )
    return {**features, "x": tf.ensure_shape(parsed, [None])}
