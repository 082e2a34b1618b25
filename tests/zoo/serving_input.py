"""A model that is exported with serving_input_receiver_fns: one that parses, one that is fed tensors by name."""

import os

import tensorflow as tf

RAW_SPEC = {
    "amount": {"dtype": "float32"},
    "count": {"dtype": "int64", "default": 3},
    "word": {"dtype": "string", "default": "none"},
    "pair": {"dtype": "float32", "shape": [2]},
    "tags": {"dtype": "string", "kind": "varlen"},
}
SPEC_BY_NAME = {name: RAW_SPEC[name] for name in ("amount", "count", "word", "pair")}


def parsing_spec():
    return {
        "amount": tf.io.FixedLenFeature([], tf.float32),
        "count": tf.io.FixedLenFeature([], tf.int64, 3),
        "word": tf.io.FixedLenFeature([], tf.string, "none"),
        "pair": tf.io.FixedLenFeature([2], tf.float32),
        "tags": tf.io.VarLenFeature(tf.string),
    }


def preprocess(features):
    """What training's input_fn does to the parsed features."""
    tags = features.get("tags")
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["red", "green", "blue"], [0.5, -1.0, 2.0]), 0.0
    )
    colour = tf.zeros_like(features["amount"])
    if tags is not None:
        known = tf.SparseTensor(tags.indices, table.lookup(tags.values), tags.dense_shape)
        colour = tf.ensure_shape(tf.sparse.reduce_sum(known, 1), [None])
    return {
        "x": features["amount"] * 2.0,
        "count": features["count"],
        "word": tf.strings.length(features["word"]),
        "pair": features["pair"],
        "colour": colour,
    }


def stacked(features):
    columns = [features["x"], tf.cast(features["count"], tf.float32), tf.cast(features["word"], tf.float32)]
    return tf.concat([tf.stack([*columns, features["colour"]], 1), features["pair"]], 1)


def model_section():
    return {"estimator": "zoo.serving_input:build_estimator"}


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    inputs = stacked(features) if isinstance(features, dict) else features
    value = v1.layers.dense(inputs, 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"value": value, "inputs": inputs})
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.AdamOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)


def parsing():
    """The parsing variant."""
    records = tf.compat.v1.placeholder(tf.string, [None], "input_example_tensor")
    features = preprocess(tf.io.parse_example(records, parsing_spec()))
    return tf.estimator.export.ServingInputReceiver(features, {"examples": records})


def mapping():
    """The parsing variant of those who parse one by one."""
    records = tf.compat.v1.placeholder(tf.string, [None])
    spec = {name: feature for name, feature in parsing_spec().items() if name != "tags"}
    kinds = {name: feature.dtype for name, feature in spec.items()}
    parsed = tf.map_fn(lambda record: tf.io.parse_single_example(record, spec), records, kinds)
    return tf.estimator.export.ServingInputReceiver(preprocess(parsed), records)


def by_name():
    """The building variant, with a SparseTensor among its tensors."""
    v1 = tf.compat.v1
    raw = {
        "amount": v1.placeholder(tf.float32, [None], "amount"),
        "count": v1.placeholder(tf.int64, [None], "count"),
        "word": v1.placeholder(tf.string, [None], "word"),
        "pair": v1.placeholder(tf.float32, [None, 2], "pair"),
        "tags": v1.sparse_placeholder(tf.string, [None, None], "tags"),
    }
    return tf.estimator.export.ServingInputReceiver(preprocess(raw), raw)


def bare():
    """A bare tensor for the model."""
    receiver = parsing()
    return tf.estimator.export.TensorServingInputReceiver(stacked(receiver.features), receiver.receiver_tensors)


def asserting():
    """Preprocessing that refuses rows."""
    receiver = parsing()
    check = tf.debugging.Assert(tf.reduce_all(receiver.features["word"] < 50), ["a word is too long"])
    with tf.control_dependencies([check]):
        features = receiver.features | {"x": tf.identity(receiver.features["x"])}
    return tf.estimator.export.ServingInputReceiver(features, receiver.receiver_tensors)


def with_vocabulary():
    """A table of a file."""
    path = os.path.join(os.path.dirname(__file__), "vocabulary.txt")
    receiver = parsing()
    initializer = tf.lookup.TextFileInitializer(
        path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    table = tf.lookup.StaticHashTable(initializer, -1)
    found = table.lookup(tf.strings.as_string(receiver.features["count"]))
    return tf.estimator.export.ServingInputReceiver(receiver.features | {"count": found}, receiver.receiver_tensors)


def failing():
    raise ValueError("no such thing")


def fixed_batch():
    records = tf.compat.v1.placeholder(tf.string, [16])
    return tf.estimator.export.ServingInputReceiver(preprocess(tf.io.parse_example(records, parsing_spec())), records)


def no_batch():
    amount = tf.compat.v1.placeholder(tf.float32, [])
    return tf.estimator.export.ServingInputReceiver({"x": amount[None]}, {"amount": amount})


def unknown_length():
    values = tf.compat.v1.placeholder(tf.float32, [None, None])
    return tf.estimator.export.ServingInputReceiver({"x": values}, {"values": values})


def features_alone():
    return parsing().features


def needs_arguments(spec, batch_size=None):
    return parsing()
