"""How rows enter the PREDICT graph: as serialized records that the graph parses, or as columns that are fed.

Both give the same tensors for the same rows. Records take the very op of training, `tf.io.parse_example`; columns were
decoded by `pipeline.decode` and are fed without a copy where Arrow's memory layout is TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.decode import explain_example
from pipeline.features import Feature, FeatureSpec, decoded_features, to_tensorflow
from pipeline.rows import RECORD, Columns, Rows, feature_column, passthrough_column
from pipeline.serialized_rows import SerializedRows

PARSING = frozenset(
    {
        "ParseExample", "ParseExampleV2", "ParseSingleExample", "ParseSequenceExample", "ParseSequenceExampleV2",
        "ParseSingleSequenceExample", "DecodeProtoV2",
    }
)  # fmt: skip
"""Types of the operations that read serialized records."""

_KIND_ORDER = {"varlen": 0, "fixed": 1, "sequence": 1, "ragged": 2}


def parse_order(features: FeatureSpec) -> list[str]:
    """Names in the order in which `tf.io.parse_example` returns them: sparse, dense, ragged, each sorted.

    Those of feature lists follow, as where the two dicts of `tf.io.parse_sequence_example` are put together.
    """
    composite = any(feature.is_composite for feature in features.values())
    if composite and not any(feature.feature_list for feature in features.values()):
        return _order_of_op(features)
    return sorted(features, key=lambda name: (features[name].feature_list, _KIND_ORDER[features[name].kind], name))


def _order_of_op(features: FeatureSpec) -> list[str]:
    """The order with features that are made of other fields: where these stand depends on all names."""
    import tensorflow as tf

    with tf.Graph().as_default():
        return list(tf.io.parse_example(tf.compat.v1.placeholder(tf.string, (None,)), to_tensorflow(features)))


@dataclass
class RawTensors:
    """What a graph input puts into the graph.

    features: name -> Tensor (rows, *shape), SparseTensor (rows, longest) or RaggedTensor (rows, None), in parse order.
    passthrough: output column -> (values, row_splits) tensors of shapes (all values,) and (rows + 1,); only where the
        graph parses the record.
    present: int64 (features,), rows that had a value, in the order of `features`; only where the graph parses.
    for_model: what the model_fn gets, where that is more than the raw features or what a transform makes of them.
    """

    features: dict[str, Any]
    passthrough: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    present: Any = None
    for_model: Any = None


class GraphInput(Protocol):
    """A way into the graph; `build` is called once, in the graph, and `feeds` for every batch."""

    placeholders: list[Any]

    def build(self) -> RawTensors: ...

    def feeds(self, rows: Rows) -> list[np.ndarray]: ...

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]: ...

    def refusal(self, row: Rows) -> str | None: ...


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
        spec = {name: _with_filler(feature, columns.optional) for name, feature in columns.features.items()}
        # A default hides that the value was missing, so its presence is read by a parse of its own.
        side = {
            columns.source(name): _ragged(feature.dtype)
            for name, feature in spec.items()
            if (feature.kind == "fixed" and feature.default is not None) or feature.kind == "sequence"
        }
        taken = {columns.source(key) for feature in spec.values() for key in feature.keys}
        more: dict[str, Any] = {}
        for column, passthrough in columns.passthrough.items():
            source = columns.source(passthrough.source)
            destination = side if source in taken else more
            destination[source] = _ragged(self._passthrough_dtype(column))
        parsed, values = self._parse(record, spec, more)
        shadow = self._parse_aside(record, side) if side else {}
        order = parse_order(columns.features)
        rows = tf.size(record, out_type=tf.int64)
        present = [_rows_with_values(shadow.get(columns.source(name), parsed[name]), rows) for name in order]
        values = {**values, **shadow}
        return RawTensors(
            features={name: parsed[name] for name in order},
            passthrough={
                column: _values_and_splits(values[columns.source(passthrough.source)])
                for column, passthrough in columns.passthrough.items()
            },
            present=tf.stack(present) if present else None,
        )

    def _parse(
        self, record: Any, spec: Mapping[str, Feature], more: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The features by their names, and what `more` asks for by the names in the records."""
        import tensorflow as tf

        source = self._columns.source
        names = {name: name if feature.is_composite else source(name) for name, feature in spec.items()}
        main = to_tensorflow({names[name]: feature.renamed(source) for name, feature in spec.items()})
        # Of a sparse feature the fields are asked for as well: that they have as many values tells a bad row from others.
        fields = {
            key: tf.io.VarLenFeature(part.dtype)
            for feature in spec.values()
            if feature.kind == "sparse"
            for part in feature.renamed(source).parts
            if (key := part.name) not in main
        }
        if not main and not more:
            return {}, {}
        parsed = tf.io.parse_example(record, {**main, **fields, **more})
        features = {name: parsed[names[name]] for name in spec}
        for name, feature in spec.items():
            if feature.kind == "sparse":
                parts = [parsed[part.name] for part in feature.renamed(source).parts]
                features[name] = _of_equal_lengths(parts, features[name])
        return features, parsed

    def _parse_aside(self, record: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        return tf.io.parse_example(record, spec)

    def refusal(self, row: pa.RecordBatch) -> str | None:
        """Why the graph cannot parse a record, or None where that cannot be told."""
        return explain_example(row.column(RECORD)[0].as_py(), self._columns)

    def feeds(self, rows: Rows) -> list[np.ndarray]:
        return [
            rows.records if isinstance(rows, SerializedRows) else rows.column(RECORD).to_numpy(zero_copy_only=False)
        ]

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]:
        return {column: _ragged_to_arrow(*fetched[column]) for column in self._columns.passthrough}

    def _passthrough_dtype(self, column: str) -> str:
        columns, passthrough = self._columns, self._columns.passthrough[column]
        for name, feature in columns.features.items():
            if not feature.is_composite and columns.source(name) == columns.source(passthrough.source):
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
        self._parts = decoded_features({name: features[name] for name in self._order})
        self.placeholders: list[Any] = []

    def build(self) -> RawTensors:
        self.placeholders = []
        parts = {name: self._part(part) for name, part in self._parts.items()}
        return RawTensors({name: assembled(name, self._features[name], parts) for name in self._order})

    def _part(self, feature: Feature) -> Any:
        """The tensor of a dense column; of a list column the RaggedTensor of its values."""
        import tensorflow as tf

        if not feature.is_list:
            return self._placeholder(feature.dtype, (None, *feature.shape))
        values = self._placeholder(feature.dtype, (None,))
        splits = self._placeholder(_splits_dtype(feature), (None,))
        return tf.RaggedTensor.from_row_splits(values, splits, validate=False)

    def refusal(self, row: pa.RecordBatch) -> str | None:
        """Decoded columns cannot be refused."""
        return None

    def _placeholder(self, dtype: str, shape: tuple[int | None, ...]) -> Any:
        import tensorflow as tf

        placeholder = tf.compat.v1.placeholder(tf.as_dtype(dtype), shape)
        self.placeholders.append(placeholder)
        return placeholder

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]:
        feeds: list[np.ndarray] = []
        for name, feature in self._parts.items():
            column = rows.column(feature_column(name))
            if not feature.is_list:
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


def assembled(name: str, feature: Feature, parts: Mapping[str, Any]) -> Any:
    """A feature of its columns, as `tf.io.parse_example` would give it."""
    import tensorflow as tf

    *indices, values = (parts[part.name] for part in feature.parts) if feature.is_composite else (parts[name],)
    if feature.kind == "varlen":
        return values.to_sparse()
    if feature.kind == "sparse":
        fields = [part.to_sparse() for part in (*indices, values)]
        one = len(indices) == 1
        return tf.compat.v1.sparse_merge(
            fields[0] if one else fields[:-1],
            fields[-1],
            feature.shape[0] if one else list(feature.shape),
            already_sorted=feature.already_sorted,
        )
    if feature.kind == "sequence":
        flat = tf.reshape(values.values, (-1, *feature.shape))
        steps = tf.RaggedTensor.from_row_splits(flat, values.row_splits // feature.size, validate=False)
        padded = steps.to_tensor(tf.constant(feature.filler, tf.as_dtype(feature.dtype)))
        return tf.ensure_shape(padded, (None, None, *feature.shape))
    return values


def dense_values(column: pa.Array, feature: Feature) -> np.ndarray:
    """The values of a decoded fixed feature: (rows, *shape), without a copy for numbers. The column has no nulls."""
    if not feature.shape:
        return _numpy(column)
    return _numpy(column.flatten()).reshape(len(column), *feature.shape)


def _numpy(values: pa.Array) -> np.ndarray:
    if pa.types.is_dictionary(values.type):  # Arrow would make an object of every row
        return _numpy(values.dictionary)[values.indices.to_numpy()]
    copies = pa.types.is_binary(values.type) or pa.types.is_boolean(values.type)
    return values.to_numpy(zero_copy_only=not copies)


def _splits_dtype(feature: Feature) -> str:
    return feature.row_splits if feature.kind == "ragged" else "int64"  # a SparseTensor counts in int64


def _with_filler(feature: Feature, optional: Iterable[str]) -> Feature:
    if feature.is_list or feature.default is not None or feature.name not in optional:
        return feature
    return replace(feature, default=feature.filler)


def _ragged(dtype: str) -> Any:
    import tensorflow as tf

    return tf.io.RaggedFeature(tf.as_dtype(dtype), row_splits_dtype=tf.int64)


def _values_and_splits(ragged: Any) -> tuple[Any, Any]:
    return ragged.values, ragged.row_splits


def _of_equal_lengths(parts: list[Any], merged: Any) -> Any:
    """A sparse feature, after it is proved that each row has as many values as indices: the merge looks at the sums alone."""
    import tensorflow as tf

    counts = [
        tf.math.unsorted_segment_sum(tf.ones_like(part.indices[:, 0]), part.indices[:, 0], part.dense_shape[0])
        for part in parts
    ]
    checks = [
        tf.debugging.Assert(tf.reduce_all(tf.equal(counts[0], other)), ["a row has not as many indices as values"])
        for other in counts[1:]
    ]
    with tf.control_dependencies(checks):
        return tf.SparseTensor(merged.indices, tf.identity(merged.values), merged.dense_shape)


def _rows_with_values(tensor: Any, rows: Any) -> Any:
    import tensorflow as tf

    if isinstance(tensor, tf.SparseTensor):
        of_rows = tensor.indices[:, 0]  # in their order
        return tf.math.count_nonzero(tf.not_equal(of_rows[1:], of_rows[:-1])) + tf.cast(tf.size(of_rows) > 0, tf.int64)
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
