"""A model on tf.SequenceExamples, and ways to read records that nobody but its own code knows."""

import tensorflow as tf

RAW_SPEC = {
    "bias": {"dtype": "float32"},
    "user": {"dtype": "string", "default": "nobody"},
    "tags": {"dtype": "string", "kind": "varlen"},
    "values": {"dtype": "float32", "kind": "sequence"},
    "points": {"dtype": "float32", "kind": "sequence", "shape": [2]},
    "words": {"dtype": "string", "kind": "varlen", "feature_list": True},
    "codes": {"dtype": "int64", "kind": "ragged", "feature_list": True},
}


def raw_spec():
    """Context and feature lists, as `tf.io.parse_sequence_example` takes them."""
    io = tf.io
    context = {
        "bias": io.FixedLenFeature([], tf.float32),
        "user": io.FixedLenFeature([], tf.string, "nobody"),
        "tags": io.VarLenFeature(tf.string),
    }
    lists = {
        "values": io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "points": io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
        "words": io.VarLenFeature(tf.string),
        "codes": io.RaggedFeature(tf.int64),
    }
    return context, lists


def model_section():
    return {"estimator": "zoo.record_kinds:build_estimator"}


def inputs_of(features):
    if not isinstance(features, dict):
        return features
    if "numbers" in features:
        return features["numbers"]
    words = features["words"]
    lengths = tf.cast(tf.strings.length(words.values), tf.float32)
    spelt = tf.sparse.reduce_sum(tf.SparseTensor(words.indices, lengths, words.dense_shape), [1, 2])
    codes = tf.reduce_sum(tf.cast(tf.reduce_sum(features["codes"], 2), tf.float32), 1)
    tags = tf.math.unsorted_segment_sum(
        tf.ones_like(features["tags"].indices[:, 0], tf.float32), features["tags"].indices[:, 0],
        tf.size(features["bias"]),
    )  # fmt: skip
    user = tf.cast(tf.strings.length(features["user"]), tf.float32)
    columns = [features["bias"], user, tags, tf.reduce_sum(features["values"], 1), tf.reshape(spelt, [-1]), codes]
    return tf.concat([tf.stack(columns, 1), tf.reduce_sum(features["points"], 1)], 1)


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    inputs = inputs_of(features)
    value = v1.layers.dense(inputs, 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"value": value, "inputs": inputs})
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.GradientDescentOptimizer(0.0001).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)


def decode(features):
    """Eight floats a record, as no tf.Example has them."""
    return {"numbers": tf.ensure_shape(tf.io.decode_raw(features["raw"], tf.float32), [None, 8])}


def sequence_receiver():
    records = tf.compat.v1.placeholder(tf.string, [None])
    context, lists, _ = tf.io.parse_sequence_example(records, *raw_spec())
    return tf.estimator.export.ServingInputReceiver({**context, **lists}, records)


def bytes_receiver():
    records = tf.compat.v1.placeholder(tf.string, [None])
    numbers = decode({"raw": records})["numbers"]
    return tf.estimator.export.TensorServingInputReceiver(numbers, records)
