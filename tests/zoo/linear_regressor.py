"""The v1 canned class, an optimizer by name, a vector feature, a default; the config is the builder's own."""

import tensorflow.compat.v1 as tf

RAW_SPEC = {
    "position": {"dtype": "float32", "shape": [3]},
    "speed": {"dtype": "float32", "default": 0.5},
    "hour": {"dtype": "int64"},
}
DOMAINS = {"hour": (0, 24)}


def model_section():
    return {"estimator": "zoo.linear_regressor:build_estimator"}


def label(row):
    x, y, z = row["position"]
    return float(2 * x - y + 0.5 * z + (row["speed"] or 0.5) + (row["hour"] > 12))


def build_estimator(model_dir):
    hour = tf.feature_column.bucketized_column(tf.feature_column.numeric_column("hour"), [6, 12, 18])
    columns = [tf.feature_column.numeric_column("position", [3]), tf.feature_column.numeric_column("speed"), hour]
    config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=2)
    return tf.estimator.LinearRegressor(columns, optimizer="Adagrad", config=config)
