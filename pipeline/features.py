"""The raw feature spec: which features a record has, of which dtype and shape. Knows nothing of TensorFlow until asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.errors import JobError

if TYPE_CHECKING:
    import tensorflow as tf

DTYPES = (
    "float32", "int64", "string", "bool", "float16", "float64",
    "int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
EXAMPLE_DTYPES = ("float32", "int64", "string")
"""What a tf.Example can hold, and so what a TFRecord shard can be read as."""


@dataclass(frozen=True)
class Feature:
    """One raw feature.

    kind: `fixed` has `shape` values in every row (and may have a default), `varlen` any number of them and reaches the
        graph as a SparseTensor, `ragged` any number and reaches it as a RaggedTensor.
    shape: of one row, without the batch dimension; () for a scalar. Only for `fixed`.
    default: the value of a row that has none: a scalar, or as many values as the shape holds, flat. Only for `fixed`.
    row_splits: dtype of the RaggedTensor's row splits; int32 is the default of `tf.io.RaggedFeature`. Only for `ragged`.
    """

    name: str
    dtype: str = "float32"
    kind: Literal["fixed", "varlen", "ragged"] = "fixed"
    shape: tuple[int, ...] = ()
    default: Any = None
    row_splits: Literal["int32", "int64"] = "int32"

    @property
    def size(self) -> int:
        """Number of values in a row of a fixed feature."""
        return math.prod(self.shape)

    @property
    def value_type(self) -> pa.DataType:
        """Arrow type of one value; strings are bytes, as they are in TensorFlow."""
        return pa.binary() if self.dtype == "string" else pa.from_numpy_dtype(np.dtype(self.dtype))

    @property
    def arrow_type(self) -> pa.DataType:
        """Arrow type of the column that carries this feature to the graph: flat, fixed-size list, or list."""
        if self.kind != "fixed":
            return pa.list_(self.value_type)
        return pa.list_(self.value_type, self.size) if self.shape else self.value_type

    @property
    def filler(self) -> Any:
        """The value of a missing row: the default, or for an optional feature without one zero or the empty string."""
        return self.default if self.default is not None else (b"" if self.dtype == "string" else 0)


FeatureSpec = Mapping[str, Feature]


def from_tensorflow(spec: Mapping[str, Any], place: str) -> dict[str, Feature]:
    """Turn a `tf.io` parsing spec into features, in the spec's order.

    Args:
      spec: name -> `FixedLenFeature`, `VarLenFeature` or `RaggedFeature` without partitions.
      place: where the spec came from, for errors.

    Raises:
      JobError: for another class of feature, or a shape that is not fully known.
    """
    import tensorflow as tf  # heavy: only jobs that get this far pay for it

    features = {}
    for name, feature in spec.items():
        if isinstance(feature, tf.io.FixedLenFeature):
            shape = tf.TensorShape(feature.shape).as_list()
            if None in shape:
                raise JobError(f"{place}: feature {name!r} has the shape {shape}; every dimension has to be known")
            default = None if feature.default_value is None else _flat(feature.default_value)
            features[name] = Feature(name, tf.as_dtype(feature.dtype).name, "fixed", tuple(shape), default)
        elif isinstance(feature, tf.io.VarLenFeature):
            features[name] = Feature(name, tf.as_dtype(feature.dtype).name, "varlen")
        elif isinstance(feature, tf.io.RaggedFeature) and not feature.partitions:
            if feature.value_key not in (None, name):
                raise JobError(
                    f"{place}: feature {name!r} reads the key {feature.value_key!r}; write input.rename instead"
                )
            splits = tf.as_dtype(feature.row_splits_dtype).name
            features[name] = Feature(name, tf.as_dtype(feature.dtype).name, "ragged", row_splits=splits)
        else:
            raise JobError(
                f"{place}: feature {name!r} is a {type(feature).__name__}; "
                "FixedLenFeature, VarLenFeature and RaggedFeature without partitions can be read"
            )
    return features


def to_tensorflow(features: FeatureSpec) -> dict[str, Any]:
    """The `tf.io` parsing spec of features, for `tf.io.parse_example`."""
    import tensorflow as tf

    spec: dict[str, Any] = {}
    for name, feature in features.items():
        dtype = tf.as_dtype(feature.dtype)
        if feature.kind == "varlen":
            spec[name] = tf.io.VarLenFeature(dtype)
        elif feature.kind == "ragged":
            spec[name] = tf.io.RaggedFeature(dtype, row_splits_dtype=tf.as_dtype(feature.row_splits))
        else:
            spec[name] = tf.io.FixedLenFeature(feature.shape, dtype, _shaped(feature))
    return spec


def _flat(value: Any) -> Any:
    array = np.asarray(value, dtype=object if isinstance(value, (str, bytes)) else None)
    return array.item() if array.size == 1 else tuple(array.reshape(-1).tolist())


def _shaped(feature: Feature) -> tf.Tensor | np.ndarray | None:
    if feature.default is None:
        return None
    dtype = object if feature.dtype == "string" else feature.dtype
    return np.broadcast_to(np.asarray(feature.default, dtype=dtype).reshape(-1), (feature.size,)).reshape(feature.shape)
