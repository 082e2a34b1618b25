"""The preprocessing of a trip. Its analyzers look at all training trips once; the graph that comes out of it trains and scores."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, tf.Tensor]:
    """What the model gets, a value a trip.

    Returns:
      fare, miles: float32, z-scores; a missing value becomes the mean, 0.
      fare_bucket: int64, 0 to 9, by deciles.
      hour: int64, as it is.
      company, payment, pickup_area: int64, ids by frequency; one id more for what training did not see, or is missing.
    """
    return {
        "fare": tft.scale_to_z_score(tf.math.log1p(inputs["fare"])),
        "miles": _filled(tft.scale_to_z_score(inputs["miles"]), 0.0),
        "fare_bucket": tft.bucketize(inputs["fare"], num_buckets=10),
        "hour": inputs["hour"],
        "company": tft.compute_and_apply_vocabulary(_filled(inputs["company"], ""), num_oov_buckets=1, top_k=15),
        "payment": tft.compute_and_apply_vocabulary(inputs["payment"], num_oov_buckets=1, top_k=15),
        "pickup_area": tft.compute_and_apply_vocabulary(
            _filled(inputs["pickup_area"], -1), num_oov_buckets=1, top_k=99
        ),
    }


def _filled(values: tf.SparseTensor, default: Any) -> tf.Tensor:
    """One value a row, of a feature that has one or none."""
    column = tf.SparseTensor(values.indices, values.values, [values.dense_shape[0], 1])
    return tf.squeeze(tf.sparse.to_dense(column, default), axis=1)
