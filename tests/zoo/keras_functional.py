"""A Keras model by model_to_estimator: two inputs, a layer of the user's own, batch normalization."""

import tensorflow as tf

RAW_SPEC = {"numbers": {"dtype": "float32", "shape": [4]}, "other": {"dtype": "float32", "shape": [1]}}


class Gate(tf.keras.layers.Layer):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.weight = self.add_weight(name="weight", shape=(shape[-1], self.units))

    def call(self, inputs):
        return inputs * tf.sigmoid(tf.matmul(inputs, self.weight))

    def get_config(self):
        return super().get_config() | {"units": self.units}


def model_section():
    return {"estimator": "zoo.keras_functional:build_estimator", "params": {"units": 5}}


def label(row):
    return float(row["numbers"][0] + row["other"][0] > 0)


def build_estimator(config, params):
    numbers, other = tf.keras.Input((4,), name="numbers"), tf.keras.Input((1,), name="other")
    hidden = tf.keras.layers.Dense(params["units"], "relu")(tf.keras.layers.Concatenate()([numbers, other]))
    hidden = tf.keras.layers.BatchNormalization()(Gate(params["units"])(hidden))
    scores = tf.keras.layers.Dense(1, name="scores")(tf.keras.layers.Dropout(0.2)(hidden))
    model = tf.keras.Model([numbers, other], scores)
    model.compile(tf.keras.optimizers.legacy.Adam(0.01), "mse", metrics=["mae"])
    return tf.keras.estimator.model_to_estimator(model, custom_objects={"Gate": Gate}, config=config)
