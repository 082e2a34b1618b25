"""A model that looks at its neighbours in the batch or at chance, as `params["kind"]` says; honest ones too."""

import numpy as np
import tensorflow.compat.v1 as tf

FEATURES = {"x": {"dtype": "float32", "shape": [4]}, "words": {"dtype": "int64", "kind": "varlen"}}


def model_fn(features, labels, mode, params):
    kind, x = params["kind"], features["x"]
    training = mode == tf.estimator.ModeKeys.TRAIN
    if kind == "padding to the longest row":
        padded = tf.cast(tf.sparse.to_dense(features["words"]), tf.float32)
        x += tf.reduce_mean(padded, axis=1, keepdims=True)  # the mean counts the padding
    hidden = tf.layers.dense(x, 8, tf.nn.relu)
    if kind == "dropout":
        hidden = tf.layers.dropout(hidden, 0.5, training=True)
    elif kind == "honest dropout":
        hidden = tf.layers.dropout(hidden, 0.5, training=training)
    elif kind == "batch norm in training mode":
        hidden = tf.layers.batch_normalization(hidden, training=True)
    elif kind == "honest batch norm":
        hidden = tf.layers.batch_normalization(hidden, training=training)
    elif kind == "random op":
        hidden += tf.random_normal(tf.shape(hidden))
    logits = tf.layers.dense(hidden, 3)
    axis = 0 if kind == "softmax over the batch" else -1
    predictions = {"probabilities": tf.nn.softmax(logits, axis=axis), "classes": tf.argmax(logits, 1)}
    if kind == "large outputs":
        predictions = {"value": 1e6 * logits[:, 0]}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn():
    random = np.random.default_rng(1)
    x = random.normal(size=(32, 4)).astype(np.float32)
    words = tf.sparse.from_dense(random.integers(1, 5, (32, 3)))
    features = {"x": x, "words": words}
    return tf.data.Dataset.from_tensors((features, random.integers(0, 3, 32))).repeat()


def train(kind, model_dir):
    """The Estimator, trained for a few steps."""
    estimator = tf.estimator.Estimator(model_fn, str(model_dir), params={"kind": kind})
    estimator.train(input_fn, steps=3)
    return estimator


def make_rows(count):
    """Columns of distinct rows."""
    random = np.random.default_rng(2)
    x = random.normal(size=(count, 4)).astype(np.float32).tolist()
    return {"x": x, "words": [list(range(1, 2 + row % 4)) for row in range(count)]}
