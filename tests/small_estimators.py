"""Small Estimators that are really trained, and the check of their checkpoints; for tests of variables."""

from __future__ import annotations

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import numpy as np
import pytest
import tensorflow as tf

from pipeline.checkpoint import read_bundle
from pipeline.errors import ModelError
from pipeline.object_graph import read_object_graph
from pipeline.variables import check_variables

tf1 = tf.compat.v1
tf1.logging.set_verbosity(tf1.logging.ERROR)
train = tf1.train
legacy = tf.keras.optimizers.legacy
keras = tf.keras.optimizers

PREDICT = tf.estimator.ModeKeys.PREDICT
TRAIN = tf.estimator.ModeKeys.TRAIN


def input_fn():
    generator = np.random.default_rng(0)
    features = {"x": generator.normal(size=(8, 6)).astype("float32"), "word": np.array(list("abcabcab"))}
    return tf.data.Dataset.from_tensors((features, np.arange(8) % 2)).repeat()


def dense(features, mode):
    hidden = tf1.layers.dense(features["x"], 5, tf.nn.relu, name="hidden")
    return tf1.layers.dense(hidden, 1, name="out")


def make_model_fn(network=dense, minimize=None, scaffold=None):
    """A model_fn of `network(features, mode)` with the logits; `minimize(loss)` gives the train op."""

    def model_fn(features, labels, mode):
        logits = network(features, mode)
        predictions = {"score": tf.sigmoid(logits)}
        if mode == PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions, scaffold=scaffold() if scaffold else None)
        loss = tf1.losses.sigmoid_cross_entropy(tf.cast(labels[:, None], tf.float32), logits)
        train_op = (minimize or by(lambda: train.GradientDescentOptimizer(0.1)))(loss)
        with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
            return tf.estimator.EstimatorSpec(mode, predictions, loss, tf.group(train_op))

    return model_fn


def by(optimizer):
    return lambda loss: optimizer().minimize(loss, train.get_global_step())


def by_legacy_keras(optimizer):
    def minimize(loss):
        updates = optimizer().get_updates(loss, tf1.trainable_variables())
        return tf.group(*updates, tf1.assign_add(train.get_global_step(), 1))

    return minimize


def by_keras(optimizer):
    def minimize(loss):
        variables = tf1.trainable_variables()
        update = optimizer().apply_gradients(zip(tf.gradients(loss, variables), variables, strict=True))
        return tf.group(update, tf1.assign_add(train.get_global_step(), 1))

    return minimize


def trained(estimator, steps=1):
    estimator.train(input_fn, steps=steps)
    return tf.train.latest_checkpoint(estimator.model_dir)


def check(estimator, checkpoint, allow_unused=(), predictions=None):
    """Build the PREDICT graph in the order of `Estimator.predict`, check it, and restore."""
    with tf.Graph().as_default() as graph:
        train.create_global_step(graph)
        features = {"x": tf1.placeholder(tf.float32, (None, 6)), "word": tf1.placeholder(tf.string, (None,))}
        spec = estimator.model_fn(features, None, PREDICT, estimator.config)
        scaffold = spec.scaffold or train.Scaffold()
        scaffold.finalize()
        tensors = [spec.predictions[key] for key in predictions or spec.predictions]
        bundle = read_bundle(checkpoint)
        objects = read_object_graph(checkpoint, bundle)
        report = check_variables(graph, scaffold.saver, tensors, bundle, allow_unused, objects)
        with tf1.Session() as session:
            scaffold.saver.restore(session, checkpoint)
        return report


def refusal(*args, **kwargs):
    with pytest.raises(ModelError) as raised:
        check(*args, **kwargs)
    return str(raised.value)


def custom(network=dense, minimize=None, scaffold=None, model_dir=None):
    return tf.estimator.Estimator(make_model_fn(network, minimize, scaffold), model_dir)


def two_parts():
    return tf1.fixed_size_partitioner(2)


OPTIMIZERS = {
    "adam": by(lambda: train.AdamOptimizer()),
    "adagrad": by(lambda: train.AdagradOptimizer(0.1)),
    "ftrl": by(lambda: train.FtrlOptimizer(0.1)),
    "momentum": by(lambda: train.MomentumOptimizer(0.1, 0.9)),
    "rmsprop": by(lambda: train.RMSPropOptimizer(0.1, centered=True)),
    "adam with a name of its own": by(lambda: train.AdamOptimizer(name="mine")),
    "loss scale": by(lambda: tf1.mixed_precision.enable_mixed_precision_graph_rewrite(train.AdamOptimizer())),
    "legacy adam": by_legacy_keras(lambda: legacy.Adam(amsgrad=True)),
    "legacy ftrl": by_legacy_keras(lambda: legacy.Ftrl()),
    "legacy sgd": by_legacy_keras(lambda: legacy.SGD(momentum=0.9)),
    "legacy rmsprop": by_legacy_keras(lambda: legacy.RMSprop(momentum=0.9, centered=True)),
    "legacy nadam": by_legacy_keras(lambda: legacy.Nadam()),
    "keras adam": by_keras(lambda: keras.Adam(amsgrad=True)),
    "keras adafactor": by_keras(lambda: keras.Adafactor()),
}
