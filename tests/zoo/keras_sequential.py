"""A Keras Sequential model by model_to_estimator, its layers without names: the prediction is called dense_1."""

import tensorflow as tf

RAW_SPEC = {"numbers": {"dtype": "float32", "shape": [4]}}


def model_section():
    return {"estimator": "zoo.keras_sequential:build_estimator", "features": "numbers"}


def label(row):
    return float(row["numbers"][0] - row["numbers"][1])


def build_estimator(model_dir):
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(1)])
    model.compile(tf.keras.optimizers.legacy.SGD(0.05, momentum=0.9), "mse")
    return tf.keras.estimator.model_to_estimator(model, model_dir=model_dir)
