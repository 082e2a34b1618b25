"""A model that reads files while its graph is built and initialised: one of model_dir, and a vocabulary from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import tensorflow as tf

FEATURES = {"x": {"dtype": "float32"}, "word": {"dtype": "string"}}
ROWS = {"x": [0.5, -1.0, 2.0, 0.25], "word": [b"ant", b"bee", b"cow", b"elk"]}


def build_estimator(model_dir, params):
    """Its model_dir, where the job names none, is one of the parameters."""
    config = tf.estimator.RunConfig(model_dir or params["own_model_dir"], tf_random_seed=params.get("seed", 1))
    return tf.estimator.Estimator(model_fn, config=config, params=params)


def model_fn(features, labels, mode, params, config):
    offset = float(Path(config.model_dir, params.get("opens", "offset.txt")).read_text(encoding="utf-8"))
    initializer = tf.lookup.TextFileInitializer(
        params["vocabulary"],
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    number = tf.lookup.StaticHashTable(initializer, -1).lookup(features["word"])
    columns = tf.stack([features["x"], tf.cast(number, tf.float32)], 1)
    score = tf.compat.v1.layers.dense(columns, 1, name=params.get("layer"))[:, 0] + offset
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"score": score})
    loss = tf.compat.v1.losses.mean_squared_error(labels, score)
    metrics = {"mae": tf.compat.v1.metrics.mean_absolute_error(labels, score)}
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.01)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops=metrics)


def input_fn():
    features = {name: tf.constant(values) for name, values in ROWS.items()}
    return tf.data.Dataset.from_tensors((features, tf.constant([1.0, 0.0, 0.0, 1.0]))).repeat()


def train(folder, seed=1):
    """Leave FOLDER/model with the checkpoints of steps 0, 1 and 2, each evaluated, and FOLDER/words.txt."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "offset.txt").write_text("0.125", encoding="utf-8")
    (folder / "words.txt").write_text("ant\nbee\ncow\ndog\n", encoding="utf-8")
    estimator = build_estimator(None, params(folder) | {"seed": seed})
    for steps in (1, 2):
        estimator.train(input_fn, max_steps=steps)
        estimator.evaluate(input_fn, steps=1)


def params(folder):
    return {"own_model_dir": str(folder / "model"), "vocabulary": str(folder / "words.txt")}
