"""How rows enter the graph of a job: parsed there, as columns, or as serialized records that a SavedModel parses itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import JobError
from pipeline.features import EXAMPLE_DTYPES
from pipeline.graph_input import ColumnInput, GraphInput, RawTensors
from pipeline.partition_input import PartitionedRecordInput, record_input
from pipeline.record.rows import examples_of_rows
from pipeline.rows import Columns


class WholeRecordInput(PartitionedRecordInput):
    """Serialized records that the model gets as they are; what the job reads of them is parsed beside it."""

    def build(self) -> RawTensors:
        raw = super().build()
        return replace(raw, for_model=self.placeholders[0])


class ExampleInput(ColumnInput):
    """Decoded columns; the model gets each row as a serialized tf.Example, with the default of what the row lacks."""

    def __init__(self, columns: Columns):
        super().__init__(columns.features)
        self._columns = Columns(columns.features)

    def build(self) -> RawTensors:
        import tensorflow as tf

        records = tf.compat.v1.placeholder(tf.string, (None,), name="records")
        self.placeholders = [records]
        return RawTensors({}, for_model=records)

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]:
        return [np.array([*examples_of_rows(rows, self._columns), None], object)[:-1]]


def input_for(estimator: Any, columns: Columns, record_format: str, transformed: bool) -> GraphInput:
    """How the rows of a job enter the graph of its model.

    Args:
      estimator: has `signature` where it is a SavedModel.
      columns: what is taken out of a record.
      record_format: of the shards, or another word than tfrecord for rows in memory.
      transformed: whether a transform stands between the raw features and the model.

    Raises:
      JobError: features that the signature of a SavedModel does not have, or that no tf.Example can hold.
    """
    signature = getattr(estimator, "signature", None)
    if signature is not None and signature.takes_records(columns.features, transformed):
        if record_format == "tfrecord":
            for name in columns.of_path.features:
                raise JobError(
                    f"features: {name}: the path of a shard gives it (input.partitions), and {signature.place} takes the record "
                    "as it is; leave it out of features, it can be passed through all the same"
                )
            return WholeRecordInput(columns)
        _check_examples(signature.place, columns)
        return ExampleInput(columns)
    if signature is not None and not transformed:
        signature.check_names(columns.features)
    return record_input(columns) if record_format == "tfrecord" else ColumnInput(columns.features)


def _check_examples(place: str, columns: Columns) -> None:
    if not columns.features:
        raise JobError(f"features: {place} takes serialized tf.Examples; write the features that they are made of")
    for name, feature in columns.features.items():
        if feature.dtype not in EXAMPLE_DTYPES:
            raise JobError(
                f"features: {name}: rows become tf.Examples for {place}, which hold {', '.join(EXAMPLE_DTYPES)} and no "
                f"{feature.dtype}; declare one of these"
            )
