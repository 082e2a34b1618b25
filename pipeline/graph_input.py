"""How rows enter the PREDICT graph: as serialized records that the graph parses, or as columns that are fed.

Both give the same tensors for the same rows. Records take the very op of training, `tf.io.parse_example`; columns were
decoded by `pipeline.decode` and are fed without a copy where Arrow's memory layout is TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.features import Feature, FeatureSpec, to_tensorflow
from pipeline.rows import RECORD, Columns, feature_column, passthrough_column

_KIND_ORDER = {"varlen": 0, "fixed": 1, "ragged": 2}


def parse_order(features: FeatureSpec) -> list[str]:
    """Names in the order in which `tf.io.parse_example` returns them: sparse, dense, ragged, each sorted."""
    return sorted(features, key=lambda name: (_KIND_ORDER[features[name].kind], name))


@dataclass
class RawTensors:
    """What a graph input puts into the graph.

    features: name -> Tensor (rows, *shape), SparseTensor (rows, longest) or RaggedTensor (rows, None), in parse order.
    passthrough: output column -> (values, row_splits) tensors of shapes (all values,) and (rows + 1,); only where the
        graph parses the record.
    present: int64 (features,), rows that had a value, in the order of `features`; only where the graph parses.
    """

    features: dict[str, Any]
    passthrough: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    present: Any = None


class GraphInput(Protocol):
    """A way into the graph; `build` is called once, in the graph, and `feeds` for every batch."""

    placeholders: list[Any]

    def build(self) -> RawTensors: ...

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]: ...

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]: ...


class RecordInput:
    """Serialized tf.Examples, parsed in the graph; the batch has the column `record`."""

    def __init__(self, columns: Columns):
        self._columns = columns
        self.placeholders: list[Any] = []

    def build(self) -> RawTensors:
        import tensorflow as tf

        columns = self._columns
        record = tf.compat.v1.placeholder(tf.string, (None,), name="records")
        self.placeholders = [record]
        sources = {name: columns.source(name) for name in columns.features}
        spec = {sources[name]: _with_filler(feature, columns.optional) for name, feature in columns.features.items()}
        main = to_tensorflow(spec)
        side = {
            sources[name]: _ragged(feature.dtype)
            for name, feature in columns.features.items()
            if spec[sources[name]].kind == "fixed" and spec[sources[name]].default is not None
        }
        for column, passthrough in columns.passthrough.items():
            source = columns.source(passthrough.source)
            destination = side if source in main else main
            destination[source] = _ragged(self._passthrough_dtype(column))
        parsed = tf.io.parse_example(record, main)
        # A default hides that the value was missing, so its presence is read by a parse of its own.
        shadow = tf.io.parse_example(record, side) if side else {}
        order = parse_order(columns.features)
        rows = tf.size(record, out_type=tf.int64)
        present = [_rows_with_values(shadow.get(sources[name], parsed[sources[name]]), rows) for name in order]
        values = {**parsed, **shadow}
        return RawTensors(
            features={name: parsed[sources[name]] for name in order},
            passthrough={
                column: _values_and_splits(values[columns.source(passthrough.source)])
                for column, passthrough in columns.passthrough.items()
            },
            present=tf.stack(present) if present else None,
        )

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]:
        return [rows.column(RECORD).to_numpy(zero_copy_only=False)]

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]:
        return {column: _ragged_to_arrow(*fetched[column]) for column in self._columns.passthrough}

    def _passthrough_dtype(self, column: str) -> str:
        columns, passthrough = self._columns, self._columns.passthrough[column]
        for name, feature in columns.features.items():
            if columns.source(name) == columns.source(passthrough.source):
                return feature.dtype
        value_type = passthrough.type
        if pa.types.is_integer(value_type):
            return "int64"
        return "float32" if pa.types.is_floating(value_type) else "string"


class ColumnInput:
    """Decoded columns, one placeholder for a dense feature and two (values, row splits) for a list."""

    def __init__(self, features: FeatureSpec):
        self._features = features
        self._order = parse_order(features)
        self.placeholders: list[Any] = []

    def build(self) -> RawTensors:
        import tensorflow as tf

        tensors: dict[str, Any] = {}
        self.placeholders = []
        for name in self._order:
            feature = self._features[name]
            if feature.kind == "fixed":
                tensors[name] = self._placeholder(feature.dtype, (None, *feature.shape))
                continue
            values = self._placeholder(feature.dtype, (None,))
            splits = self._placeholder(_splits_dtype(feature), (None,))
            ragged = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
            tensors[name] = ragged if feature.kind == "ragged" else ragged.to_sparse()
        return RawTensors(tensors)

    def _placeholder(self, dtype: str, shape: tuple[int | None, ...]) -> Any:
        import tensorflow as tf

        placeholder = tf.compat.v1.placeholder(tf.as_dtype(dtype), shape)
        self.placeholders.append(placeholder)
        return placeholder

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]:
        feeds: list[np.ndarray] = []
        for name in self._order:
            feature, column = self._features[name], rows.column(feature_column(name))
            if feature.kind == "fixed":
                feeds.append(dense_values(column, feature))
            else:
                offsets = column.offsets.to_numpy()
                feeds += [_numpy(column.flatten()), (offsets - offsets[0]).astype(_splits_dtype(feature), copy=False)]
        return feeds

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]:
        prefix = passthrough_column("")
        return {name[len(prefix) :]: rows.column(name) for name in rows.schema.names if name.startswith(prefix)}


def dense_values(column: pa.Array, feature: Feature) -> np.ndarray:
    """The values of a decoded fixed feature: (rows, *shape), without a copy for numbers. The column has no nulls."""
    if not feature.shape:
        return _numpy(column)
    return _numpy(column.flatten()).reshape(len(column), *feature.shape)


def _numpy(values: pa.Array) -> np.ndarray:
    copies = pa.types.is_binary(values.type) or pa.types.is_boolean(values.type)
    return values.to_numpy(zero_copy_only=not copies)


def _splits_dtype(feature: Feature) -> str:
    return feature.row_splits if feature.kind == "ragged" else "int64"  # a SparseTensor counts in int64


def _with_filler(feature: Feature, optional: Iterable[str]) -> Feature:
    if feature.kind != "fixed" or feature.default is not None or feature.name not in optional:
        return feature
    return Feature(feature.name, feature.dtype, "fixed", feature.shape, feature.filler)


def _ragged(dtype: str) -> Any:
    import tensorflow as tf

    return tf.io.RaggedFeature(tf.as_dtype(dtype), row_splits_dtype=tf.int64)


def _values_and_splits(ragged: Any) -> tuple[Any, Any]:
    return ragged.values, ragged.row_splits


def _rows_with_values(tensor: Any, rows: Any) -> Any:
    import tensorflow as tf

    if isinstance(tensor, tf.SparseTensor):
        # VarLen values of a row are numbered from 0, so each row that has any has exactly one at position 0.
        return tf.math.count_nonzero(tf.equal(tensor.indices[:, 1], 0))
    if isinstance(tensor, tf.RaggedTensor):
        return tf.math.count_nonzero(tensor.row_lengths())
    return rows


def _ragged_to_arrow(values: np.ndarray, splits: np.ndarray) -> pa.Array:
    """A list array where an empty row is null: a tf.Example does not tell an absent key from an empty one."""
    value_type = pa.binary() if values.dtype == object else pa.from_numpy_dtype(values.dtype)
    offsets = pa.array(splits.astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(values, value_type))
    empty = splits[1:] == splits[:-1]
    if not empty.any():
        return lists
    return pa.ListArray.from_arrays(offsets, pa.array(values, value_type), mask=pa.array(empty))
