"""Two values at once, with batch normalisation and a normalizer in a column."""

import tensorflow as tf

RAW_SPEC = {"position": {"dtype": "float32", "shape": [2, 2]}, "kind": {"dtype": "int64", "default": 3}}
DOMAINS = {"kind": (0, 4)}


def model_section():
    return {"estimator": "zoo.dnn_regressor:build_estimator"}


def label(row):
    (a, b), (c, d) = row["position"]
    return [float(a * b + c), float(d - (3 if row["kind"] is None else row["kind"]))]


def build_estimator(config):
    column = tf.feature_column
    columns = [
        column.numeric_column("position", [2, 2], normalizer_fn=lambda x: x / 2.0),
        column.embedding_column(column.categorical_column_with_identity("kind", 4), 3),
    ]
    return tf.estimator.DNNRegressor([16, 8], columns, label_dimension=2, batch_norm=True, config=config)
