"""A trainer whose model takes whatever a transform makes: numbers, ids, bags of ids, ragged lists and text.

Its variables have the names of those that the tests put into a transform: `dense/kernel` and `company`.
"""

from pathlib import Path

import tensorflow as tf

v1 = tf.compat.v1

IDS = 12
VOCABULARY = Path(__file__).with_name("vocabulary.txt")
RAW_SPEC = {
    "miles": {"dtype": "float32"},
    "fare": {"dtype": "float32", "default": 2.5},
    "pair": {"dtype": "float32", "shape": [2]},
    "company": {"dtype": "string", "default": "none"},
    "words": {"dtype": "string", "kind": "varlen"},
    "readings": {"dtype": "float32", "kind": "ragged"},
}


def parsing_spec():
    """What `features: zoo.transformed:parsing_spec` gives: `RAW_SPEC` and more, in the words of its trainer."""
    return {
        "miles": tf.io.FixedLenFeature([], tf.float32),
        "fare": tf.io.FixedLenFeature([], tf.float32, default_value=2.5),
        "pair": tf.io.FixedLenFeature([2], tf.float32, default_value=[0.5, -0.5]),
        "company": tf.io.FixedLenFeature([], tf.string, default_value="none"),
        "words": tf.io.VarLenFeature(tf.string),
        "readings": tf.io.RaggedFeature(tf.float32),
        "codes": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
    }


def vocabulary_table(path):
    index = tf.lookup.TextFileIndex
    initializer = tf.lookup.TextFileInitializer(str(path), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
    return tf.lookup.StaticHashTable(initializer, IDS - 1)


def preprocess(features):
    """Arithmetic that a graph optimizer would round otherwise, a vocabulary, and every kind of output."""
    table = vocabulary_table(VOCABULARY)
    words = features["words"]
    squares = tf.square(features["pair"]) + 0.1
    if tf.reduce_all(features["fare"] < -1e6):  # AutoGraph makes a condition of it
        squares = tf.zeros_like(squares)
    return {
        "ratio": (features["miles"] - 3.3) / 7.1,
        "fare": features["fare"] / tf.sqrt(squares[:, 0]),
        "pair": features["pair"] / tf.sqrt(tf.reduce_sum(squares, axis=1, keepdims=True)) * 1.7,
        "company": table.lookup(features["company"]),
        "bag": tf.SparseTensor(words.indices, table.lookup(words.values), words.dense_shape),
        "readings": features["readings"] / 3.0,
        "initial": tf.strings.substr(features["company"], 0, 1, unit="UTF8_CHAR"),
    }


def preprocess_codes(features):
    """`preprocess`, for the features of `parsing_spec`."""
    splits = {name: features[name].row_splits.dtype for name in ("readings", "codes")}
    if splits != {"readings": tf.int32, "codes": tf.int64}:
        raise TypeError(f"the row splits are {splits}")
    codes = features["codes"] % IDS
    return {**preprocess(features), "codes": codes, "most": tf.cast(codes.row_lengths(), tf.float32)}


def parse_amount(features):
    """Fails on text that is no number, and on an amount below zero."""
    amount = tf.strings.to_number(features["amount"][:, 0])
    tf.debugging.assert_non_negative(amount)
    return {"amount": amount / 3.0, "miles": features["miles"]}


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)


def build_with_session_config(model_dir, config):
    """Without the graph options of a RunConfig's own session, the graph optimizer goes over a graph twice."""
    session_config = v1.ConfigProto(allow_soft_placement=True)
    return tf.estimator.Estimator(model_fn, model_dir, config.replace(session_config=session_config))


def model_fn(features, labels, mode):
    """Predicts numbers, and gives back what the transform made of the row; `scale` is for `pair` to be divided by."""
    features = dict(features)
    scale = features.pop("scale", None)
    if scale is not None:  # an optimizer that saw the square root behind `scale` would multiply instead
        features["pair"] = features["pair"] / scale
    vectors = [_vector(name, feature) for name, feature in features.items()]
    stacked = tf.concat([vector for vector in vectors if vector is not None], axis=1)
    logits = v1.layers.dense(stacked, 3, name="dense")
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"logits": logits, "class": tf.argmax(logits, axis=1)}
        for name, feature in features.items():
            predictions[f"given_{name}"] = feature if isinstance(feature, tf.Tensor) else _vector(name, feature)
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = v1.losses.mean_squared_error(labels, logits)
    train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_stacker(config):
    return tf.estimator.Estimator(stacking_model_fn, config=config)


def stacking_model_fn(features, labels, mode):
    """Multiplies with fixed weights what it is given in the order in which it is given: a dict, or one tensor."""
    columns = list(features.values()) if isinstance(features, dict) else [features]
    stacked = tf.stack([tf.cast(column, tf.float32) for column in columns], axis=1)
    weights = v1.get_variable("weights", [len(columns), 2])
    value = stacked @ weights
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "stacked": stacked})
    loss = v1.losses.mean_squared_error(labels[:, :2], value)
    train_op = v1.train.GradientDescentOptimizer(0.01).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_classifier(model_dir, config):
    """A canned classifier of what the taxi transform makes; vocabulary ids are embedded."""
    column = tf.feature_column
    columns = [
        column.numeric_column("miles"),
        column.indicator_column(column.categorical_column_with_identity("fare", 4)),
        column.embedding_column(column.categorical_column_with_identity("company", 6), 3),
        column.embedding_column(column.categorical_column_with_identity("bag", 6), 2),
    ]
    return tf.estimator.DNNClassifier([8], columns, model_dir, optimizer="Adam", config=config)


def _vector(name, feature):
    """A feature as (rows, n) numbers, or None for text."""
    with v1.variable_scope(v1.get_variable_scope(), reuse=v1.AUTO_REUSE):
        if isinstance(feature, tf.SparseTensor):
            return tf.nn.safe_embedding_lookup_sparse(v1.get_variable(name, [IDS, 3]), feature)
        if isinstance(feature, tf.RaggedTensor):
            if feature.dtype.is_integer:
                feature = tf.nn.embedding_lookup(v1.get_variable(name, [IDS, 3]), feature)
            total = tf.reduce_sum(feature, axis=1)
            return total if total.shape.rank == 2 else total[:, None]
        if feature.dtype == tf.string:
            return None
        if feature.dtype.is_integer:
            return tf.nn.embedding_lookup(v1.get_variable(name, [IDS, 3]), feature)
    return feature if feature.shape.rank == 2 else feature[:, None]
