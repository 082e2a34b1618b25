"""A trainer as teams have them: flags, params with attributes, variables of the environment, files opened by path, a set-up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import tensorflow as tf

FEATURES = {"x": {"dtype": "float32"}, "word": {"dtype": "string"}}
ROWS = {"x": [0.5, -1.0, 2.0, 0.25], "word": ["ant", "bee", "cow", "elk"]}
SHIFT = float(os.environ.get("MODEL_SHIFT", "0"))

flags = tf.compat.v1.app.flags
flags.DEFINE_string("vocabulary", None, "The words, one a line.")
flags.DEFINE_integer("factor", 1, "What offsets are multiplied by.", lower_bound=1)
flags.DEFINE_multi_string("tag", [], "Tags.")

set_up_times = 0


def set_up():
    global set_up_times
    set_up_times += 1


def build(model_dir, params, offsets, places=()):
    """offsets: path of a JSON file with numbers, of which params.which are added."""
    log = os.environ.get("MODEL_LOG")
    if log:
        facts = {"shift": SHIFT, "set_up": set_up_times, "factor": flags.FLAGS.factor, "tags": flags.FLAGS.tag}
        words = [Path(place).read_text(encoding="utf-8") for place in (flags.FLAGS.vocabulary, *places)]
        Path(log, f"{os.getpid()}.json").write_text(json.dumps(facts | {"words": words}), encoding="utf-8")
    numbers = json.loads(Path(offsets).read_text(encoding="utf-8"))
    offset = sum(numbers[index] for index in params.which) * flags.FLAGS.factor
    return tf.estimator.Estimator(model_fn, model_dir, params={"vocabulary": flags.FLAGS.vocabulary, "offset": offset})


def model_fn(features, labels, mode, params):
    word = tf.feature_column.categorical_column_with_vocabulary_file("word", params["vocabulary"], vocabulary_size=4)
    columns = [tf.feature_column.numeric_column("x"), word]
    score = tf.compat.v1.feature_column.linear_model(features, columns)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"score": score + params["offset"] + SHIFT})
    loss = tf.compat.v1.losses.mean_squared_error(labels, score)
    train_op = tf.compat.v1.train.GradientDescentOptimizer(0.1).minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn():
    features = {name: tf.constant(values) for name, values in ROWS.items()}
    return tf.data.Dataset.from_tensors((features, tf.constant([1.0, 0.0, -1.0, 2.0]))).repeat()


def train(folder):
    """Leave FOLDER/model, FOLDER/words.txt and FOLDER/offsets.json."""
    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("ant\nbee\ncow\ndog\n", encoding="utf-8")
    (folder / "offsets.json").write_text("[1, 10, 100]", encoding="utf-8")
    params = {"vocabulary": str(folder / "words.txt"), "offset": 0}
    tf.estimator.Estimator(model_fn, str(folder / "model"), params=params).train(input_fn, steps=3)
