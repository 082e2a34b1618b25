"""A trainer as it was written for TensorFlow 1.15, untouched since; `make.py` runs it there, the tests on current TensorFlow."""

import tensorflow as tf

ROWS = 40
CITIES = ["Oslo", "Bern", "Rome", "Kyiv"]


def raw_spec():
    return {
        "image": tf.io.FixedLenFeature([6, 6], tf.float32),
        "city": tf.io.FixedLenFeature([], tf.string),
        "age": tf.io.FixedLenFeature([], tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }


def build_wide_deep(model_dir, params):
    """A canned Estimator; `tf.estimator` is version 1 of it on TensorFlow 1.15 and version 2 from 2.0 on."""
    city = tf.feature_column.categorical_column_with_vocabulary_list("city", CITIES)
    age = tf.feature_column.numeric_column("age", normalizer_fn=lambda age: tf.cast(age, tf.float32) / 50.0 - 1.0)
    ages = tf.feature_column.bucketized_column(tf.feature_column.numeric_column("age"), [20, 40, 60])
    return tf.estimator.DNNLinearCombinedClassifier(
        model_dir=model_dir,
        linear_feature_columns=[city, ages, tf.feature_column.crossed_column([ages, "city"], 16)],
        dnn_feature_columns=[age, tf.feature_column.embedding_column(city, 3)],
        dnn_hidden_units=[8, 4],
        n_classes=3,
        config=tf.estimator.RunConfig(tf_random_seed=7, save_summary_steps=None),
    )


def model_fn(features, labels, mode, params):
    """Convolution, batch normalisation, dropout: `tf.layers` of TensorFlow 1, by its compatible name."""
    layers, training = tf.compat.v1.layers, mode == tf.estimator.ModeKeys.TRAIN
    net = layers.conv2d(features["image"][..., tf.newaxis], params["filters"], 3, activation=tf.nn.relu, name="conv")
    net = layers.batch_normalization(net, training=training, momentum=0.8)
    net = layers.dropout(layers.flatten(net), 0.4, training=training)
    logits = layers.dense(net, 3, name="logits")
    predictions = {"probabilities": tf.nn.softmax(logits), "logits": logits, "label": tf.argmax(logits, axis=1)}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.compat.v1.train.AdamOptimizer(0.02)
    with tf.control_dependencies(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_convolution(model_dir, params):
    config = tf.estimator.RunConfig(tf_random_seed=7, save_summary_steps=None)
    return tf.estimator.Estimator(model_fn, model_dir, config, params)


def input_fn(path, epochs=1):
    """Features and labels of the rows of a TFRecord file, in order."""

    def parse(records):
        features = tf.io.parse_example(records, raw_spec())
        return features, features.pop("label")

    return tf.data.TFRecordDataset(path).repeat(epochs).batch(10).map(parse)
