"""No builder: the job file names the model_fn, and holds its params."""

import tensorflow as tf

RAW_SPEC = {"x": {"dtype": "float32", "shape": [4]}, "scale": {"dtype": "float32"}}
DOMAINS = {"scale": (0.5, 2.0)}


def model_section():
    return {"model_fn": "zoo.bare_model_fn:model_fn", "params": {"hidden": 8, "rate": 0.05}}


def label(row):
    return float(sum(row["x"]) * row["scale"])


def model_fn(features, labels, mode, params):
    hidden = tf.compat.v1.layers.dense(features["x"], params["hidden"], activation=tf.nn.tanh)
    value = tf.compat.v1.layers.dense(hidden, 1)[:, 0] * features["scale"]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "hidden": hidden})
    loss = tf.compat.v1.losses.mean_squared_error(labels, value)
    optimizer = tf.compat.v1.train.AdamOptimizer(params["rate"])
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
