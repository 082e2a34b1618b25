"""Features are one tensor, not a dict; shards hold a feature that the model never sees."""

import tensorflow as tf

RAW_SPEC = {"x": {"dtype": "float32", "shape": [6]}, "unused": {"dtype": "float32"}}


def model_section():
    return {"estimator": "zoo.bare_tensor:build_estimator", "features": "x"}


def label(row):
    return float(row["x"][0] - 2 * row["x"][5])


def model_fn(features, labels, mode):
    value = tf.compat.v1.layers.dense(features, 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value})
    loss = tf.compat.v1.losses.mean_squared_error(labels[:, None], value)
    optimizer = tf.compat.v1.train.MomentumOptimizer(0.02, 0.9)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)
