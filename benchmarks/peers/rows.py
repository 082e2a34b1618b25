"""Rows as Python objects, as a pipeline of rows has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Row = dict[str, Any]
"""Feature -> a Python number or bytes, or an array of its values."""
_LISTS = {tf.float32: "float_list", tf.int64: "int64_list", tf.string: "bytes_list"}


class RowParser:
    """Makes a row of a serialized tf.Example; what the spec tells is looked up once."""

    def __init__(self, spec: Mapping[str, Any]):
        self._features = [
            (name, _LISTS[each.dtype], each.dtype.as_numpy_dtype, _shape(each)) for name, each in spec.items()
        ]

    def __call__(self, record: bytes) -> tuple[int | str, Row]:
        """Id and features."""
        features = tf.train.Example.FromString(record).features.feature
        row: Row = {}
        for name, of_type, dtype, shape in self._features:
            values = getattr(features[name], of_type).value
            row[name] = np.array(values, dtype).reshape(shape) if shape else values[0]
        return _key(features["id"]), row


def key_of(record: bytes) -> int | str:
    """The id of a serialized tf.Example."""
    return _key(tf.train.Example.FromString(record).features.feature["id"])


def keyed_row(row: Mapping[str, Any], dtypes: Mapping[str, Any]) -> tuple[int | str, Row]:
    """Id and features of a row of Parquet; those of `dtypes` are lists, which become arrays."""
    features: Row = {name: np.array(each, dtypes[name]) if name in dtypes else each for name, each in row.items()}
    return features.pop("id"), features


def list_dtypes(spec: Mapping[str, Any]) -> dict[str, Any]:
    """NumPy dtypes of the features that are not scalars."""
    return {name: each.dtype.as_numpy_dtype for name, each in spec.items() if _shape(each)}


def stack(rows: Sequence[Row], spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the exported signature takes for a batch of rows, see `benchmarks.export`."""
    tensors = {}
    for name, feature in spec.items():
        values, dtype = [row[name] for row in rows], feature.dtype.as_numpy_dtype
        if isinstance(feature, tf.io.FixedLenFeature):
            tensors[name] = tf.constant(np.array(values, dtype).reshape(-1, *feature.shape))
            continue
        splits = np.concatenate([[0], np.cumsum([len(each) for each in values])])
        tensors[f"{name}_values"] = tf.constant(np.concatenate([np.asarray(each, dtype) for each in values]))
        tensors[f"{name}_splits"] = tf.constant(splits, splits_dtype(feature))
    return tensors


def splits_dtype(feature: Any) -> tf.DType:
    return feature.row_splits_dtype if isinstance(feature, tf.io.RaggedFeature) else tf.int64


def _shape(feature: Any) -> Sequence[int]:
    """Of one row; empty for a scalar."""
    return tuple(feature.shape) if isinstance(feature, tf.io.FixedLenFeature) else (-1,)


def _key(feature: Any) -> int | str:
    return feature.int64_list.value[0] if feature.int64_list.value else feature.bytes_list.value[0].decode()
