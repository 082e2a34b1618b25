"""A trainer that switches TensorFlow 2 behaviour off, for the whole process, when it is imported."""

import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

RAW_SPEC = {"x": {"dtype": "float32", "shape": [4]}, "word": {"dtype": "string"}}
DOMAINS = {"word": ["a", "b", "c"]}


def model_section():
    return {"estimator": "zoo.v2_behavior_off:build_estimator"}


def label(row):
    return int(row["x"][0] + (row["word"] == "b") > 0.5)


def model_fn(features, labels, mode):
    word = tf.one_hot(tf.string_to_hash_bucket_fast(features["word"], 8), 8)
    logits = tf.layers.dense(tf.concat([features["x"], word], 1), 2)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {"probabilities": tf.nn.softmax(logits), "classes": tf.argmax(logits, 1)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = tf.train.AdamOptimizer(0.05).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, config=config.replace(model_dir=model_dir))
