"""RaggedTensors of numbers, ids and words; some rows are empty."""

import tensorflow as tf

RAW_SPEC = {
    "readings": {"dtype": "float32", "kind": "ragged"},
    "ids": {"dtype": "int64", "kind": "ragged"},
    "words": {"dtype": "string", "kind": "ragged"},
    "bias": {"dtype": "float32"},
}
DOMAINS = {"ids": (0, 12), "words": ["un", "deux", "trois", "été"]}


def model_section():
    return {"estimator": "zoo.ragged:build_estimator"}


def label(row):
    return float(row["bias"] + sum(row["readings"] or []) + len(row["ids"] or []) - 2 * ("été" in (row["words"] or [])))


def _mean(ragged):
    mean = tf.reduce_mean(ragged, axis=1)
    return tf.where(tf.math.is_nan(mean), tf.zeros_like(mean), mean)  # a row without values


def model_fn(features, labels, mode):
    ids = tf.compat.v1.get_variable("ids", [12, 3])
    words = tf.compat.v1.get_variable("words", [20, 3])
    hashed = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, features["words"], 20)
    readings = _mean(features["readings"])
    count = tf.cast(features["ids"].row_lengths(), tf.float32)
    vectors = [
        features["bias"][:, None],
        readings[:, None],
        count[:, None],
        _mean(tf.nn.embedding_lookup(ids, features["ids"])),
        _mean(tf.nn.embedding_lookup(words, hashed)),
    ]
    value = tf.compat.v1.layers.dense(tf.concat(vectors, 1), 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "mean_reading": readings})
    loss = tf.compat.v1.losses.mean_squared_error(labels[:, None], value)
    optimizer = tf.compat.v1.train.AdamOptimizer(0.05)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)
