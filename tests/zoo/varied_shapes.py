"""Predictions of ranks 1 to 3 and of several dtypes; trained by a Keras optimizer."""

import tensorflow as tf

RAW_SPEC = {"x": {"dtype": "float32", "shape": [4]}}


def model_section():
    return {"estimator": "zoo.varied_shapes:build_estimator"}


def label(row):
    return int(row["x"][0] + row["x"][1] > row["x"][2])


def model_fn(features, labels, mode):
    v1 = tf.compat.v1
    hidden = v1.layers.dense(features["x"], 6)
    logits = v1.layers.dense(hidden, 2)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {
            "scalar": hidden[:, 0],
            "column": hidden[:, :1],
            "pair": tf.nn.softmax(logits),
            "grid": tf.reshape(hidden, [-1, 2, 3]),
            "float64": tf.cast(hidden, tf.float64) / 3,
            "class_id": tf.cast(tf.argmax(logits, 1), tf.int32),
            "rank": tf.cast(tf.argsort(logits, 1), tf.int64),
            "is_one": logits[:, 1] > logits[:, 0],
            "signs": hidden > 0,
        }
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.keras.optimizers.legacy.Adam(0.05)
    optimizer.iterations = v1.train.get_or_create_global_step()
    train_op = optimizer.get_updates(loss, v1.trainable_variables())[0]
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir, config):
    return tf.estimator.Estimator(model_fn, model_dir, config)
