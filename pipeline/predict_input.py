"""An `input_fn` for people who stay with `Estimator.predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


def predict_input_fn(features: Mapping[str, Any] | Any, batch_size: int = 1) -> Callable[[], Any]:
    """An `input_fn` that feeds arrays to `Estimator.predict`, in their order, each row once.

    Args:
      features: name -> array (rows, *shape), a DataFrame, or one array for a model that takes a bare tensor.
      batch_size: rows of a batch; larger is faster.

    Returns:
      A function that makes a `tf.data.Dataset`. The arrays are not copied into the graph.

    Raises:
      ValueError: arrays of different lengths, or an array without a batch dimension; names the feature.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    bare = not hasattr(features, "keys")  # which a DataFrame has
    named = {"features": features} if bare else dict(features)
    arrays = {name: np.asarray(values) for name, values in named.items()}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise ValueError(f"feature {name!r}: expected an array of rows, got one value")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"features have different numbers of rows: {lengths}")
    rows = next(iter(lengths.values()), 0)

    def batches() -> Iterator[Any]:
        for start in range(0, rows, batch_size):
            batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
            yield batch["features"] if bare else batch

    def input_fn() -> Any:
        import tensorflow as tf

        specs = {name: tf.TensorSpec((None, *array.shape[1:]), _dtype(array)) for name, array in arrays.items()}
        return tf.data.Dataset.from_generator(batches, output_signature=specs["features"] if bare else specs)

    return input_fn


def _dtype(array: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
