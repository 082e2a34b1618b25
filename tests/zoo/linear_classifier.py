"""Three classes with names, from bucketized, hashed, crossed and vocabulary columns; the default optimizer (Ftrl)."""

import tensorflow as tf

MODES = ["bike", "bus", "tram"]
DOMAINS = {"age": (17, 90), "state": ["ca", "ny", "tx", "wa", "or"], "plan": ["free", "pro", "team"]}
RAW_SPEC = {
    "age": {"dtype": "int64"},
    "state": {"dtype": "string", "default": "none"},
    "plan": {"dtype": "string"},
    "income": {"dtype": "float32"},
}


def model_section():
    return {"estimator": "zoo.linear_classifier:build_estimator"}


def label(row):
    if row["plan"] == "team":
        return "tram"
    return MODES[(row["age"] > 50) + (row["income"] > 0.5 and row["state"] in ("ca", "wa"))]


def build_estimator(model_dir, config):
    column = tf.feature_column
    age = column.bucketized_column(column.numeric_column("age"), [25, 40, 55, 70])
    income = column.bucketized_column(column.numeric_column("income"), [-1.0, 0.0, 0.5, 1.0])
    state = column.categorical_column_with_hash_bucket("state", 50)
    plan = column.categorical_column_with_vocabulary_list("plan", DOMAINS["plan"])
    crossed = column.crossed_column([age, "state"], 200)
    return tf.estimator.LinearClassifier(
        [age, income, state, plan, crossed], model_dir, n_classes=3, label_vocabulary=MODES, config=config
    )
