"""The predictions are one tensor, not a dict."""

import tensorflow as tf

RAW_SPEC = {"x": {"dtype": "float32", "shape": [3]}}


def model_section():
    return {"model_fn": "zoo.single_tensor:model_fn"}


def label(row):
    return [float(row["x"][0]), float(sum(row["x"]))]


def model_fn(features, labels, mode):
    value = tf.compat.v1.layers.dense(features["x"], 2)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=value)
    loss = tf.compat.v1.losses.mean_squared_error(labels, value)
    optimizer = tf.compat.v1.train.RMSPropOptimizer(0.02)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
