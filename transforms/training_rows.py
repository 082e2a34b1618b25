"""Rows of training shards as TensorFlow Transform takes them, and of the very values that scoring feeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.decode import explain_example
from pipeline.errors import BrokenShard, BudgetError
from pipeline.features import Feature, FeatureSpec
from pipeline.graph_input import RecordInput
from pipeline.job import Input
from pipeline.readers import read_shard
from pipeline.rows import RECORD, ROW, Columns, feature_column


def lists_schema(features: FeatureSpec) -> pa.Schema:
    """The columns of `read_lists`: every feature is a list, also one that has a single value in each row."""
    return pa.schema([(name, pa.list_(feature.value_type)) for name, feature in features.items()])


def read_lists(path: str, source: Input, features: FeatureSpec) -> Iterator[pa.RecordBatch]:
    """Batches of one training shard, in order, with the columns of `lists_schema`.

    tf.Examples are parsed by the graph that scoring parses them with; the other formats are decoded as in scoring.

    Raises:
      BudgetError: a row that cannot be read, or a broken shard: training would not have that row, or fail on it.
    """
    columns = Columns(features, sources=source.rename)
    parse = _parser(columns) if source.format == "tfrecord" else None
    try:
        chunks = read_shard(partial(files.open_read, path), source.format, columns, csv=source.csv, keep_record=False)
        for chunk in chunks:
            if chunk.rejected:
                first = chunk.rejected[0]
                raise _refused(path, first.row, first.reason, len(chunk.rejected))
            if parse is not None:
                parsed = parse(path, chunk.rows)
                arrays = [_lists_of_tensor(parsed[name], feature) for name, feature in features.items()]
            else:
                arrays = [
                    _lists_of_column(chunk.rows.column(feature_column(name)), features[name]) for name in features
                ]
            yield pa.RecordBatch.from_arrays(arrays, schema=lists_schema(features))
    except BrokenShard as error:
        raise BudgetError(f"{path}: {error}; mend the shard, or leave it out") from error


def _refused(path: str, row: int, reason: str, count: int) -> BudgetError:
    more = f" (and {count - 1} more rows near it)" if count > 1 else ""
    return BudgetError(
        f"{path}: row {row}: {reason}{more}; a transform is fitted to all rows, so mend it or leave it out"
    )


def _parser(columns: Columns) -> Any:
    """A function of (path, records) to the values of their features, name -> what a session gives."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        graph_input = RecordInput(columns)
        features = graph_input.build().features
    session = tf.compat.v1.Session(graph=graph)

    def parse(path: str, rows: pa.RecordBatch) -> Mapping[str, Any]:
        try:
            return session.run(features, dict(zip(graph_input.placeholders, graph_input.feeds(rows), strict=True)))
        except tf.errors.InvalidArgumentError as error:
            numbers, records = rows.column(ROW).to_pylist(), rows.column(RECORD).to_pylist()
            reasons = (explain_example(record, columns) for record in records)
            bad = [(number, reason) for number, reason in zip(numbers, reasons, strict=True) if reason is not None]
            row, reason = bad[0] if bad else (numbers[0], "the record, or one near it, cannot be parsed")
            raise _refused(path, row, reason, len(bad)) from error

    return parse


def _lists_of_tensor(value: Any, feature: Feature) -> pa.ListArray:
    """The values of a dense array (rows, *shape), a SparseTensorValue or a RaggedTensorValue."""
    if feature.kind == "fixed":
        return _lists(_flat(value.reshape(-1), feature), np.arange(len(value) + 1) * feature.size)
    if feature.kind == "ragged":
        return _lists(_flat(value.values, feature), value.row_splits)
    counts = np.bincount(value.indices[:, 0], minlength=value.dense_shape[0])
    return _lists(_flat(value.values, feature), np.concatenate([[0], np.cumsum(counts)]))


def _lists_of_column(column: pa.Array, feature: Feature) -> pa.ListArray:
    """A decoded column; it may be a slice, and what TensorFlow Transform takes may not."""
    if feature.kind == "fixed":
        return _lists(column.flatten() if feature.shape else column, np.arange(len(column) + 1) * feature.size)
    offsets = column.offsets.to_numpy()
    return _lists(column.flatten(), offsets - offsets[0])


def _flat(values: np.ndarray, feature: Feature) -> pa.Array:
    return pa.array(values, feature.value_type)


def _lists(values: pa.Array, offsets: np.ndarray) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
