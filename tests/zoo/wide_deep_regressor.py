"""Wide and deep, the v1 class with v1 optimizers."""

import tensorflow.compat.v1 as tf

RAW_SPEC = {
    "distance": {"dtype": "float32"},
    "zone": {"dtype": "string", "default": "outer"},
    "stops": {"dtype": "int64", "kind": "varlen"},
}
DOMAINS = {"zone": ["centre", "inner", "outer"], "stops": (0, 8)}


def model_section():
    return {"estimator": "zoo.wide_deep_regressor:build_estimator", "params": {"rate": 0.05}}


def label(row):
    return float(10 * row["distance"] + 5 * (row["zone"] == "centre") + 2 * len(row["stops"] or []))


def build_estimator(model_dir, params, config):
    column = tf.feature_column
    zone = column.categorical_column_with_vocabulary_list("zone", DOMAINS["zone"], num_oov_buckets=1)
    stops = column.categorical_column_with_identity("stops", 8)
    return tf.estimator.DNNLinearCombinedRegressor(
        model_dir,
        linear_feature_columns=[zone, column.bucketized_column(column.numeric_column("distance"), [-1.0, 0.0, 1.0])],
        linear_optimizer=tf.train.FtrlOptimizer(params["rate"]),
        dnn_feature_columns=[column.numeric_column("distance"), column.embedding_column(stops, 4, combiner="sum")],
        dnn_optimizer=tf.train.AdagradOptimizer(params["rate"]),
        dnn_hidden_units=[16],
        config=config,
    )
