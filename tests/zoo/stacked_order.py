"""Columns stacked in the order of the dict: another order is another model."""

import tensorflow as tf

RAW_SPEC = {name: {"dtype": "float32", "shape": [1]} for name in ("beta", "alpha", "delta", "gamma")}


def model_section():
    return {"estimator": "zoo.stacked_order:build_estimator", "features": ["gamma", "alpha", "delta", "beta"]}


def label(row):
    return float(4 * row["gamma"][0] - 3 * row["alpha"][0] + 2 * row["delta"][0] - row["beta"][0])


def model_fn(features, labels, mode):
    stacked = tf.concat(list(features.values()), 1)
    value = tf.compat.v1.layers.dense(stacked, 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "stacked": stacked})
    loss = tf.compat.v1.losses.mean_squared_error(labels, value)
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.05)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(config):
    return tf.estimator.Estimator(model_fn, config=config)
