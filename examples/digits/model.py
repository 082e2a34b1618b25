"""The model: a `model_fn` in the shape that TF1 tutorials have it, and the Estimator around it."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf


def model_fn(features: dict[str, tf.Tensor], labels: tf.Tensor | None, mode: str, params: dict[str, Any]) -> Any:
    """Tell digits apart by one hidden layer.

    Args:
      features: `input_tensor`, float32 (rows, 8, 8), 0 for paper to 1 for ink.
      labels: int64 (rows,), 0 to 9; None in PREDICT.
      mode: PREDICT, TRAIN or EVAL.
      params: `n_classes`, `hidden_units`, `dropout`, `learning_rate`.

    Returns:
      An EstimatorSpec. Predictions: `probabilities`, float32 (rows, n_classes), and `classes`, int64 (rows,).
    """
    training = mode == tf.estimator.ModeKeys.TRAIN
    pixels = tf.layers.flatten(features["input_tensor"])
    hidden = tf.layers.dense(pixels, params["hidden_units"], activation=tf.nn.relu)
    hidden = tf.layers.dropout(hidden, params["dropout"], training=training)
    logits = tf.layers.dense(hidden, params["n_classes"])
    classes = tf.argmax(logits, axis=1)

    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"probabilities": tf.nn.softmax(logits), "classes": classes}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)

    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        metrics = {"accuracy": tf.metrics.accuracy(labels=labels, predictions=classes)}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)

    optimizer = tf.train.AdamOptimizer(params["learning_rate"])
    train_op = optimizer.minimize(loss, global_step=tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir: str, params: dict[str, Any], config: Any = None) -> Any:
    """The Estimator; the trainer and the job file call it alike. `config`: a `tf.estimator.RunConfig`."""
    return tf.estimator.Estimator(model_fn, model_dir=model_dir, params=params, config=config)
