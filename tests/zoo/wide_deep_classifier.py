"""Wide and deep over three classes given as numbers; two optimizers."""

import tensorflow as tf

RAW_SPEC = {
    "age": {"dtype": "float32"},
    "job": {"dtype": "string"},
    "tags": {"dtype": "string", "kind": "varlen"},
    "visits": {"dtype": "int64"},
}
DOMAINS = {
    "age": (17.0, 90.0),
    "job": ["clerk", "driver", "nurse", "teacher"],
    "tags": ["a", "b", "c", "d"],
    "visits": (0, 30),
}


def model_section():
    return {"estimator": "zoo.wide_deep_classifier:build_estimator"}


def label(row):
    return min(2, int(row["age"] > 45) + int(row["job"] == "nurse") + int("a" in (row["tags"] or [])))


def build_estimator(model_dir, config):
    column = tf.feature_column
    age = column.numeric_column("age", normalizer_fn=lambda x: (x - 50.0) / 20.0)
    buckets = column.bucketized_column(column.numeric_column("age"), [30.0, 45.0, 60.0])
    job = column.categorical_column_with_hash_bucket("job", 30)
    tags = column.categorical_column_with_vocabulary_list("tags", DOMAINS["tags"], num_oov_buckets=1)
    return tf.estimator.DNNLinearCombinedClassifier(
        model_dir,
        linear_feature_columns=[buckets, job, tags],
        dnn_feature_columns=[
            age,
            column.embedding_column(job, 4),
            column.indicator_column(tags),
            column.numeric_column("visits"),
        ],
        dnn_hidden_units=[16, 8],
        n_classes=3,
        config=config,
    )
