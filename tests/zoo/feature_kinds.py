"""Features of every class of `tf.io`: sequences, sparse features, ragged ones with partitions and with a key of their own."""

import tensorflow as tf

RAW_SPEC = {
    "bias": {"dtype": "float32"},
    "steps": {"dtype": "float32", "kind": "sequence", "default": -1.0},
    "points": {"dtype": "float32", "kind": "sequence", "shape": [2]},
    "words": {"dtype": "string", "kind": "sequence"},
    "weights": {"dtype": "float32", "kind": "sparse", "index_key": "index", "value_key": "value", "size": 12},
    "grid": {
        "dtype": "float32", "kind": "sparse", "index_key": ["row", "column"], "value_key": "cell", "size": [4, 5],
    },
}  # fmt: skip


def raw_spec():
    """The same as `tf.io` has it."""
    io = tf.io
    return {
        "bias": io.FixedLenFeature([], tf.float32),
        "steps": io.FixedLenSequenceFeature([], tf.float32, allow_missing=True, default_value=-1.0),
        "points": io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
        "words": io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
        "weights": io.SparseFeature("index", "value", tf.float32, 12),
        "grid": io.SparseFeature(["row", "column"], "cell", tf.float32, [4, 5]),
    }


def ragged_spec():
    """With what only records can be read as."""
    return raw_spec() | {
        "matrix": tf.io.RaggedFeature(
            tf.float32, "flat", [tf.io.RaggedFeature.RowLengths("lengths")], row_splits_dtype=tf.int64
        ),
        "renamed": tf.io.RaggedFeature(tf.float32, "extra"),
    }


def model_section():
    return {"estimator": "zoo.feature_kinds:build_estimator"}


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    weight = v1.get_variable("weight", [12, 3])
    cells = v1.get_variable("cells", [20, 2])
    masked = tf.where(features["steps"] >= 0, features["steps"], tf.zeros_like(features["steps"]))
    grid = tf.reshape(tf.sparse.to_dense(features["grid"]), [-1, 20])
    columns = [
        features["bias"][:, None],
        tf.reduce_sum(masked, 1, keepdims=True),
        tf.reduce_sum(features["points"], 1),
        tf.cast(tf.reduce_sum(tf.strings.length(features["words"]), 1, keepdims=True), tf.float32),
        tf.sparse.sparse_dense_matmul(features["weights"], weight),
        grid @ cells,
    ]
    if "matrix" in features:
        lengths = tf.cast(features["matrix"].row_lengths(), tf.float32)
        columns += [tf.reduce_sum(tf.reduce_sum(features["matrix"], 2) ** 2, 1)[:, None], lengths[:, None]]
    inputs = tf.concat(columns, 1)
    value = v1.layers.dense(inputs, 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"value": value, "inputs": inputs})
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.GradientDescentOptimizer(0.001).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def unmasked(features, labels, mode):
    """What sums up the padding too."""
    return model_fn({**features, "steps": features["steps"] + 1.5}, labels, mode)


def build_unmasked(model_dir, config):
    return tf.estimator.Estimator(unmasked, model_dir, config)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)
