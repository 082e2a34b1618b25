"""Estimators by their head and by what stands around it, as users build them; the `code:` of jobs of tests/test_heads.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

FEATURES = {
    "x": {"dtype": "float32", "shape": [3]},
    "word": {"dtype": "string"},
    "words": {"dtype": "string", "kind": "varlen"},
}
WORDS = ["red", "green", "blue", "łódź"]
HIDDEN = [4]


def make_features(count, seed=0):
    """Columns of distinct rows: name -> array, or a list of lists for `words`."""
    random = np.random.default_rng(seed)
    return {
        "x": random.normal(size=(count, 3)).astype(np.float32),
        "word": random.choice(WORDS, count).tolist(),
        "words": [random.choice(WORDS, size).tolist() for size in random.integers(1, 4, count)],
    }


def labels_of(features):
    """Labels of every kind: name -> array."""
    x = features["x"]
    several = (x > 0).astype(np.int64)
    return {
        "two": several[:, :1],
        "three": several[:, :2].sum(axis=1, keepdims=True),
        "several": several,
        "number": x[:, :1] * 2,
        "numbers": x[:, :2] + 1,
        "count": np.floor(np.abs(x[:, :1]) * 3),
        "word": np.array(features["word"])[:, None],
    }


def columns():
    column = tf.feature_column
    word = column.categorical_column_with_hash_bucket("word", 10)
    return [column.numeric_column("x", [3]), column.embedding_column(word, 2)]


def wide_columns():
    return [
        tf.feature_column.numeric_column("x", [3]),
        tf.feature_column.categorical_column_with_hash_bucket("word", 10),
    ]


def dnn(head):
    return lambda config: tf.estimator.DNNEstimator(head(), HIDDEN, columns(), config=config)


def linear(head):
    return lambda config: tf.estimator.LinearEstimator(head(), wide_columns(), config=config)


def classifier(config, hidden=HIDDEN, **options):
    return tf.estimator.DNNClassifier(hidden, columns(), config=config, **options)


def many_heads():
    heads = tf.estimator
    return heads.MultiHead(
        [
            heads.BinaryClassHead(name="buys"),
            heads.MultiClassHead(3, name="tier"),
            heads.RegressionHead(2, name="spends"),
        ]
    )


def combined(config):
    return tf.estimator.DNNLinearCombinedEstimator(
        tf.estimator.MultiLabelHead(3, classes_for_class_based_metrics=[1]),
        linear_feature_columns=wide_columns(),
        dnn_feature_columns=columns(),
        dnn_hidden_units=HIDDEN,
        config=config,
    )


def with_metrics(config):
    def mean(labels, predictions):
        metric = tf.keras.metrics.Mean("mean")
        metric.update_state(predictions["logits"])
        return {"mean": metric}

    return tf.estimator.add_metrics(classifier(config), mean)


def with_forwarded_features(config):
    """As `forward_features` of tf.contrib.estimator did it, which people copied when tf.contrib went away."""
    inner = classifier(config)

    def model_fn(features, labels, mode, config):
        key, word = features["x"], features["word"]
        spec = inner.model_fn(features, labels, mode, config)
        if mode == tf.estimator.ModeKeys.PREDICT:
            spec = spec._replace(predictions={**spec.predictions, "x": key, "word": word})
        return spec

    return tf.estimator.Estimator(model_fn, config=config)


def warm_started(config):
    """From a model that was there when it was trained, and is gone since."""
    before = str(Path(config.model_dir).parent / "before")
    if not tf.train.latest_checkpoint(config.model_dir):
        train(classifier(config.replace(model_dir=before)), "two")
    return classifier(config, warm_start_from=tf.estimator.WarmStartSettings(before, vars_to_warm_start="dnn.*"))


def with_training_hooks(config):
    class NeedsTraining(tf.estimator.SessionRunHook):
        def begin(self):
            if not tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.TRAIN_OP):
                raise RuntimeError("there is nothing to train in this graph")

    def model_fn(features, labels, mode):
        v1 = tf.compat.v1
        score = v1.layers.dense(features["x"], 1, name="score")
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, {"score": score})
        loss = v1.losses.mean_squared_error(labels, score)
        train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        v1.add_to_collection(v1.GraphKeys.TRAIN_OP, train_op)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=[NeedsTraining()])

    return tf.estimator.Estimator(model_fn, config=config)


def recurrent(config):
    words = tf.feature_column.sequence_categorical_column_with_hash_bucket("words", 10)
    return tf.estimator.experimental.RNNClassifier(
        [tf.feature_column.embedding_column(words, 2)],
        context_feature_columns=[tf.feature_column.numeric_column("x", [3])],
        units=[4],
        cell_type="lstm",
        config=config,
    )


def dual_coordinate_ascent(config):
    optimizer = tf.estimator.experimental.LinearSDCA(example_id_column="word")
    return tf.estimator.LinearClassifier(wide_columns(), optimizer=optimizer, config=config)


def on_a_tpu(use_tpu):
    def build(config):
        tpu = tf.compat.v1.estimator.tpu

        def model_fn(features, labels, mode, params):
            v1 = tf.compat.v1
            score = v1.layers.dense(features["x"], 1, name="score")
            if mode == tf.estimator.ModeKeys.PREDICT:
                return tpu.TPUEstimatorSpec(mode, predictions={"score": score})
            loss = v1.losses.mean_squared_error(labels, score)
            train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
            return tpu.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

        config = tpu.RunConfig(model_dir=config.model_dir, tf_random_seed=config.tf_random_seed)
        return tpu.TPUEstimator(model_fn, config=config, use_tpu=use_tpu, train_batch_size=8, predict_batch_size=8)

    return build


HEADS = {
    "multi_head": (dnn(many_heads), {"buys": "two", "tier": "three", "spends": "numbers"}),
    "multi_label": (dnn(lambda: tf.estimator.MultiLabelHead(3)), "several"),
    "several_outputs": (
        lambda config: tf.estimator.DNNRegressor(HIDDEN, columns(), label_dimension=2, config=config),
        "numbers",
    ),
    "logistic_regression": (linear(lambda: tf.estimator.LogisticRegressionHead()), "two"),
    "poisson_regression": (linear(lambda: tf.estimator.PoissonRegressionHead()), "count"),
    "word_classes": (lambda config: classifier(config, n_classes=4, label_vocabulary=WORDS), "word"),
    "combined_multi_label": (combined, "several"),
    "baseline": (lambda config: tf.compat.v1.estimator.BaselineClassifier(n_classes=3, config=config), "three"),
    "added_metrics": (with_metrics, "two"),
    "forwarded_features": (with_forwarded_features, "two"),
    "warm_started": (warm_started, "two"),
    "training_hooks": (with_training_hooks, "number"),
    "recurrent": (recurrent, "two"),
    "dual_coordinate_ascent": (dual_coordinate_ascent, "two"),
    "tpu_estimator_without_tpu": (on_a_tpu(False), "number"),
}
"""Name -> the function that builds it, and the label, or head -> label, that it is trained on."""


def build_estimator(model_dir, params):
    config = tf.estimator.RunConfig(model_dir, tf_random_seed=1, save_summary_steps=1000)
    return HEADS[params["head"]][0](config)


def train(estimator, label):
    """Train for a moment. label: name, or head -> name."""

    def input_fn(params=None):
        features = make_features(32, seed=1)
        labels = labels_of(features)
        chosen = {key: labels[name] for key, name in label.items()} if isinstance(label, dict) else labels[label]
        return as_dataset(features, chosen).repeat().batch(8).map(_with_sparse_words)

    estimator.train(input_fn, steps=5)


def predict(estimator, shards, batch):
    """What `Estimator.predict` gives for the rows of shards in batches that cross none: key -> array."""

    def input_fn(params=None):
        dataset = as_dataset(shards[0]).batch(batch)
        for shard in shards[1:]:
            dataset = dataset.concatenate(as_dataset(shard).batch(batch))
        return dataset.map(_with_sparse_words)

    batches = list(estimator.predict(input_fn, yield_single_examples=False))
    return {key: np.concatenate([values[key] for values in batches]) for key in batches[0]}


def as_dataset(features, labels=()):
    columns = {**features, "words": tf.ragged.constant(features["words"])}
    return tf.data.Dataset.from_tensor_slices((columns, labels) if len(labels) else columns)


def _with_sparse_words(features, *labels):
    features = {**features, "words": features["words"].to_sparse()}
    return (features, *labels) if labels else features
