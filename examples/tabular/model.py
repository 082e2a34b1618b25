"""The model: TensorFlow's canned wide-and-deep classifier on what `preprocessing_fn` gives."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def build_estimator(model_dir: str, params: dict[str, Any], config: Any = None) -> Any:
    """A DNNLinearCombinedClassifier of two classes; the trainer and the job file call it alike.

    Args:
      model_dir: where its checkpoints are.
      params: `hidden_units`, `embedding`.
      config: a `tf.estimator.RunConfig`.
    """
    columns = tf.feature_column
    buckets = {"fare_bucket": 10, "hour": 24, "company": 16, "payment": 16, "pickup_area": 100}
    ids = {name: columns.categorical_column_with_identity(name, size) for name, size in buckets.items()}
    wide = [*ids.values(), columns.crossed_column(["payment", "fare_bucket"], hash_bucket_size=1000)]
    deep = [columns.numeric_column(name) for name in ("fare", "miles")]
    deep += [columns.embedding_column(column, params["embedding"]) for column in ids.values()]
    return tf.estimator.DNNLinearCombinedClassifier(
        model_dir=model_dir,
        linear_feature_columns=wide,
        dnn_feature_columns=deep,
        dnn_hidden_units=params["hidden_units"],
        config=config,
    )
