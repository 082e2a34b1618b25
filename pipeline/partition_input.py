"""How the columns of a shard's path enter the graph beside records that the graph parses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from pipeline.graph_input import ColumnInput, RawTensors, RecordInput, parse_order
from pipeline.record_kinds import BytesInput, SequenceExampleInput
from pipeline.rows import Columns, passthrough_column


def record_input(columns: Columns) -> RecordInput:
    """The graph input for serialized records; the batch has a column for each feature that the path gives."""
    if columns.record != "example":
        return {"sequence_example": SequenceExampleInput, "bytes": BytesInput}[columns.record](columns)
    return PartitionedRecordInput(columns) if columns.partitions else RecordInput(columns)


class PartitionedRecordInput(RecordInput):
    """Records, parsed in the graph, and decoded columns of what the path of the shard says of them."""

    def __init__(self, columns: Columns):
        super().__init__(columns.of_record)
        self._order = parse_order(columns.features)
        self._of_path = columns.of_path
        self._beside = ColumnInput(columns.of_path.features)

    def build(self) -> RawTensors:
        import tensorflow as tf

        parsed, beside = super().build(), self._beside.build()
        self.placeholders = [*self.placeholders, *self._beside.placeholders]
        counts = dict(zip(parsed.features, [] if parsed.present is None else tf.unstack(parsed.present), strict=False))
        rows = tf.size(self.placeholders[0], out_type=tf.int64)
        tensors = {**parsed.features, **beside.features}
        return RawTensors(
            features={name: tensors[name] for name in self._order},
            passthrough=parsed.passthrough,
            # Where the path says nothing of a row is known before: the chunk tells how many rows have such a feature.
            present=tf.stack([counts.get(name, rows) for name in self._order]) if self._order else None,
        )

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]:
        return [*super().feeds(rows), *self._beside.feeds(rows)]

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]:
        columns = {name: passthrough_column(name) for name in self._of_path.passthrough}
        of_path = {name: rows.column(column) for name, column in columns.items() if column in rows.schema.names}
        return super().passthrough(rows, fetched) | of_path
