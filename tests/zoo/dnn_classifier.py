"""Two classes from an embedding of words, an indicator and a number; the builder's config has a session config."""

import tensorflow as tf

RAW_SPEC = {
    "words": {"dtype": "string", "kind": "varlen"},
    "color": {"dtype": "string"},
    "user": {"dtype": "int64"},
    "size": {"dtype": "float32"},
}
DOMAINS = {"words": ["good", "bad", "ugly", "fine", "poor", "łódź"], "color": ["red", "green", "blue"]}


def model_section():
    return {"estimator": "zoo.dnn_classifier:build_estimator", "params": {"hidden_units": [16, 8]}}


def label(row):
    votes = sum({"good": 1.0, "fine": 0.5, "bad": -1.0, "poor": -0.5}.get(word, 0.0) for word in row["words"] or [])
    return int(votes + row["size"] + (row["color"] == "red") > 0.3)


def build_estimator(model_dir, params):
    column = tf.feature_column
    columns = [
        column.embedding_column(column.categorical_column_with_hash_bucket("words", 40), 6),
        column.indicator_column(
            column.categorical_column_with_vocabulary_list("color", DOMAINS["color"], num_oov_buckets=2)
        ),
        column.embedding_column(column.categorical_column_with_hash_bucket("user", 20, tf.int64), 2),
        column.numeric_column("size"),
    ]
    session_config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=3, session_config=session_config)
    return tf.estimator.DNNClassifier(params["hidden_units"], columns, optimizer="Adam", dropout=0.1, config=config)
