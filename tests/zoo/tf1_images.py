"""The common shape of a TensorFlow 1 Estimator: images in, probabilities and classes out."""

import numpy as np
import tensorflow.compat.v1 as tf

RAW_SPEC = {"input_tensor": {"dtype": "float32", "shape": [28, 28]}}


def model_section():
    return {"estimator": "zoo.tf1_images:build_estimator"}


def label(row):
    image = np.array(row["input_tensor"])
    return int(np.argmax(np.random.RandomState(5).normal(size=(10, 784)) @ image.reshape(-1)))


def model_fn(features, labels, mode, params):
    images = tf.reshape(features["input_tensor"], [-1, 28 * 28])
    hidden = tf.layers.dense(images, 32, activation=tf.nn.relu)
    logits = tf.layers.dense(hidden, params["n_classes"])
    classes = tf.argmax(logits, axis=1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"probabilities": tf.nn.softmax(logits), "classes": classes}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        metrics = {"accuracy": tf.metrics.accuracy(labels, classes)}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    train_op = tf.train.AdamOptimizer(0.005).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir):
    config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=1)
    return tf.estimator.Estimator(model_fn, config=config, params={"n_classes": 10})
