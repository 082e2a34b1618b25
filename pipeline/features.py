"""The raw feature spec: which features a record has, of which dtype and shape. Knows nothing of TensorFlow until asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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


Kind = Literal["fixed", "varlen", "ragged", "sequence", "sparse"]


@dataclass(frozen=True)
class Feature:
    """One raw feature.

    kind: `fixed` has `shape` values in every row (and may have a default), `varlen` any number of them and reaches the
        graph as a SparseTensor, `ragged` any number and reaches it as a RaggedTensor; `sequence` has any number of steps
        of `shape` and reaches it dense, padded to the longest row of the batch; `sparse` is read from fields of indices
        and one of values, and reaches it as a SparseTensor of `shape`.
    shape: of one row, without the batch dimension; () for a scalar. Of one step of a `sequence`.
    default: the value of a row that has none: a scalar, or as many values as the shape holds, flat. Of a `sequence` what
        it is padded with, a scalar. Only for these two.
    row_splits: dtype of the RaggedTensor's row splits; int32 is the default of `tf.io.RaggedFeature`. Only for `ragged`.
    index_keys, already_sorted: as in `tf.io.SparseFeature`. Only for `sparse`.
    value_key: name of the field with the values; None: that of the feature. For `sparse` and `ragged`.
    partitions: of `tf.io.RaggedFeature`: the name of the class and its key or length. Only for `ragged`.
    feature_list: whether it stands in the feature lists of a tf.SequenceExample, and not in its context.
    """

    name: str
    dtype: str = "float32"
    kind: Kind = "fixed"
    shape: tuple[int, ...] = ()
    default: Any = None
    row_splits: Literal["int32", "int64"] = "int32"
    index_keys: tuple[str, ...] = ()
    value_key: str | None = None
    already_sorted: bool = False
    partitions: tuple[tuple[str, str | int], ...] = ()
    feature_list: bool = False

    @property
    def is_list(self) -> bool:
        """Whether rows may have any number of values."""
        return self.kind != "fixed"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the fields that it is read from."""
        of_partitions = (key for _, key in self.partitions if isinstance(key, str))
        return (*self.index_keys, self.value_key or self.name, *of_partitions)

    @property
    def is_composite(self) -> bool:
        """Whether it is made of other fields than the one of its name."""
        return self.keys != (self.name,)

    @property
    def parts(self) -> tuple[Feature, ...]:
        """The features that it is decoded as, each from the field of its name; itself unless it is composite."""
        if not self.is_composite:
            return (self,)
        indices = (Feature(key, "int64", "varlen") for key in self.index_keys)
        kind: Kind = "ragged" if self.kind == "ragged" else "varlen"
        return (*indices, Feature(self.value_key or self.name, self.dtype, kind, row_splits=self.row_splits))

    def renamed(self, source: Callable[[str], str]) -> Feature:
        """The feature with the fields called as `source` has them."""
        if not self.is_composite:
            return replace(self, name=source(self.name))
        return replace(
            self,
            index_keys=tuple(map(source, self.index_keys)),
            value_key=source(self.value_key or self.name),
            partitions=tuple((kind, source(key) if isinstance(key, str) else key) for kind, key in self.partitions),
        )

    @property
    def size(self) -> int:
        """Number of values in a row of a fixed feature, or in a step of a sequence."""
        return math.prod(self.shape)

    @property
    def value_type(self) -> pa.DataType:
        """Arrow type of one value; strings are bytes, as they are in TensorFlow."""
        return pa.binary() if self.dtype == "string" else pa.from_numpy_dtype(np.dtype(self.dtype))

    @property
    def arrow_type(self) -> pa.DataType:
        """Arrow type of the column that carries this feature to the graph: flat, fixed-size list, or list."""
        if self.is_list:
            return pa.list_(self.value_type)
        return pa.list_(self.value_type, self.size) if self.shape else self.value_type

    @property
    def filler(self) -> Any:
        """The value of a missing row: the default, or for an optional feature without one zero or the empty string."""
        return self.default if self.default is not None else (b"" if self.dtype == "string" else 0)


FeatureSpec = Mapping[str, Feature]


def decoded_features(features: FeatureSpec) -> dict[str, Feature]:
    """The features that columns are decoded as, by the field that each is read from."""
    return {
        part.name if feature.is_composite else name: part
        for name, feature in features.items()
        for part in feature.parts
    }


def from_tensorflow(
    spec: Mapping[str, Any] | tuple[Mapping[str, Any], Mapping[str, Any]], place: str, record: str = "example"
) -> dict[str, Feature]:
    """Turn a `tf.io` parsing spec into features, in the spec's order.

    Args:
      spec: name -> a feature of `tf.io`; for tf.SequenceExamples a pair of such: context and feature lists.
      place: where the spec came from, for errors.
      record: `input.record` of the job.

    Raises:
      JobError: for what `tf.io` cannot parse either, or a shape that is not fully known.
    """
    if isinstance(spec, tuple):
        if record != "sequence_example" or len(spec) != 2:
            raise JobError(
                f"{place}: a pair of specs is for tf.SequenceExamples, which input.record: sequence_example says"
            )
        context, lists = spec
        for name in lists:
            if name in context:
                raise JobError(
                    f"{place}: {name!r} is a feature of the context and a feature list; call one differently"
                )
        features = {name: _from_tensorflow(name, feature, place) for name, feature in context.items()}
        return features | {
            name: replace(_from_tensorflow(name, feature, place, True), feature_list=True)
            for name, feature in lists.items()
        }
    return {name: _from_tensorflow(name, feature, place) for name, feature in spec.items()}


def _from_tensorflow(name: str, feature: Any, place: str, in_lists: bool = False) -> Feature:
    import tensorflow as tf  # heavy: only jobs that get this far pay for it

    if isinstance(feature, (tf.io.FixedLenFeature, tf.io.FixedLenSequenceFeature)):
        shape = tf.TensorShape(feature.shape).as_list()
        if None in shape:
            raise JobError(f"{place}: feature {name!r} has the shape {shape}; every dimension has to be known")
        default = None if feature.default_value is None else _flat(feature.default_value)
        kind: Kind = "fixed" if isinstance(feature, tf.io.FixedLenFeature) else "sequence"
        if kind == "sequence" and not feature.allow_missing and not in_lists:
            raise JobError(f"{place}: feature {name!r} has allow_missing=False; of a batch only True can be parsed")
        return Feature(name, tf.as_dtype(feature.dtype).name, kind, tuple(shape), default)
    if isinstance(feature, tf.io.VarLenFeature):
        return Feature(name, tf.as_dtype(feature.dtype).name, "varlen")
    if isinstance(feature, tf.io.SparseFeature):
        keys, sizes = (_tuple(value) for value in (feature.index_key, feature.size))
        return Feature(
            name, tf.as_dtype(feature.dtype).name, "sparse", tuple(map(int, sizes)), index_keys=tuple(keys),
            value_key=feature.value_key, already_sorted=bool(feature.already_sorted),
        )  # fmt: skip
    if isinstance(feature, tf.io.RaggedFeature):
        return Feature(
            name, tf.as_dtype(feature.dtype).name, "ragged", row_splits=tf.as_dtype(feature.row_splits_dtype).name,
            value_key=None if feature.value_key in (None, name) else feature.value_key,
            partitions=tuple((type(partition).__name__, partition[0]) for partition in feature.partitions),
        )  # fmt: skip
    raise JobError(f"{place}: feature {name!r} is a {type(feature).__name__}; a feature of tf.io is wanted")


def to_tensorflow(features: FeatureSpec) -> dict[str, Any]:
    """The `tf.io` parsing spec of features, for `tf.io.parse_example`."""
    return {name: _to_tensorflow(feature) for name, feature in features.items()}


def _to_tensorflow(feature: Feature) -> Any:
    import tensorflow as tf

    dtype = tf.as_dtype(feature.dtype)
    if feature.kind == "varlen":
        return tf.io.VarLenFeature(dtype)
    if feature.kind == "ragged":
        partitions = [getattr(tf.io.RaggedFeature, kind)(key) for kind, key in feature.partitions]
        splits = tf.as_dtype(feature.row_splits)
        return tf.io.RaggedFeature(dtype, feature.value_key, partitions, row_splits_dtype=splits)
    if feature.kind == "sequence":
        return tf.io.FixedLenSequenceFeature(feature.shape, dtype, allow_missing=True, default_value=feature.default)
    if feature.kind == "sparse":
        keys, sizes = list(feature.index_keys), list(feature.shape)
        one = len(keys) == 1
        return tf.io.SparseFeature(
            keys[0] if one else keys,
            feature.value_key,
            dtype,
            sizes[0] if one else sizes,
            feature.already_sorted,
        )
    return tf.io.FixedLenFeature(feature.shape, dtype, _shaped(feature))


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _flat(value: Any) -> Any:
    array = np.asarray(value, dtype=object if isinstance(value, (str, bytes)) else None)
    return array.item() if array.size == 1 else tuple(array.reshape(-1).tolist())


def _shaped(feature: Feature) -> tf.Tensor | np.ndarray | None:
    if feature.default is None:
        return None
    dtype = object if feature.dtype == "string" else feature.dtype
    return np.broadcast_to(np.asarray(feature.default, dtype=dtype).reshape(-1), (feature.size,)).reshape(feature.shape)
