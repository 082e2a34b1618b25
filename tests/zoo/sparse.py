"""Bags of words with weights, looked up as SparseTensors; some bags are empty."""

import tensorflow as tf

RAW_SPEC = {
    "words": {"dtype": "string", "kind": "varlen"},
    "amounts": {"dtype": "float32", "kind": "varlen"},
    "codes": {"dtype": "int64", "kind": "varlen"},
}
DOMAINS = {"words": ["ant", "bee", "cow", "dog", "żubr", "eel"]}


def model_section():
    return {"estimator": "zoo.sparse:build_estimator"}


def label(row):
    return float(len([word for word in row["words"] or [] if word in ("cow", "żubr")]) + sum(row["amounts"] or []))


def _hashed(values, buckets):
    ids = tf.strings.to_hash_bucket_fast(values.values, buckets)
    return tf.SparseTensor(values.indices, ids, values.dense_shape)


def model_fn(features, labels, mode):
    words, codes = features["words"], features["codes"]
    text = tf.SparseTensor(codes.indices, tf.strings.as_string(codes.values), codes.dense_shape)
    tables = [tf.compat.v1.get_variable(name, [50, 4]) for name in ("words", "codes")]
    vectors = [
        tf.nn.safe_embedding_lookup_sparse(tables[0], _hashed(words, 50), combiner="mean"),
        tf.nn.safe_embedding_lookup_sparse(tables[1], _hashed(text, 50), combiner="sqrtn"),
        tf.reshape(tf.sparse.reduce_sum(features["amounts"], 1, keepdims=True), [-1, 1]),
    ]
    value = tf.compat.v1.layers.dense(tf.concat(vectors, 1), 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"value": value, "words": vectors[0]})
    loss = tf.compat.v1.losses.mean_squared_error(labels, value)
    optimizer = tf.compat.v1.train.AdagradOptimizer(0.2)
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(config):
    return tf.estimator.Estimator(model_fn, config=config)
