"""Every kind of raw feature at once, with predictions that give away what reached the graph, to the bit."""

import tensorflow as tf

RAW_SPEC = {
    "image": {"dtype": "float32", "shape": [28, 28]},
    "number": {"dtype": "int64"},
    "level": {"dtype": "float32", "default": 0.25},
    "signed": {"dtype": "float32"},
    "text": {"dtype": "string", "default": "absent"},
    "pair": {"dtype": "int64", "shape": [2]},
    "words": {"dtype": "string", "kind": "varlen"},
    "codes": {"dtype": "int64", "kind": "varlen"},
    "readings": {"dtype": "float32", "kind": "ragged"},
}
DOMAINS = {
    "words": ["ant", "bee", "żubr", ""],
    "text": ["plain", "two words", "naïve", "a,b", 'a"b', "line\nbreak", "nan", "007"],
}


def model_section():
    return {"estimator": "zoo.every_trap:build_estimator"}


def label(row):
    return float(row["signed"] + (0.25 if row["level"] is None else row["level"]) + len(row["words"] or []))


def _hashes(values):
    return tf.strings.to_hash_bucket_fast(values, 1 << 40)


def _row_sums(sparse, values):
    return tf.ensure_shape(tf.sparse.reduce_sum(tf.SparseTensor(sparse.indices, values, sparse.dense_shape), 1), [None])


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    words, codes = features["words"], features["codes"]
    count = _row_sums(words, tf.ones_like(words.indices[:, 0], tf.float32))
    readings = tf.reduce_sum(features["readings"], axis=1)
    inputs = [features["signed"], features["level"], count, readings, tf.cast(features["pair"][:, 0] % 5, tf.float32)]
    image = v1.layers.dense(v1.layers.flatten(features["image"]), 3)
    value = v1.layers.dense(tf.concat([tf.stack(inputs, 1), image], 1), 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {
            "value": value,
            "number": features["number"],
            "signed_bits": tf.bitcast(features["signed"], tf.int32),
            "level_bits": tf.bitcast(features["level"], tf.int32),
            "text_hash": _hashes(features["text"]),
            "pair": features["pair"],
            "words_hash": _row_sums(words, _hashes(words.values)),
            "codes_sum": _row_sums(codes, codes.values),
            "readings_count": features["readings"].row_lengths(),
            "corner": features["image"][:, 0, 27],
        }
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = v1.losses.mean_squared_error(labels, value)
    train_op = v1.train.AdamOptimizer(0.05).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)
