"""How records of TFRecord that are no tf.Examples enter the graph: tf.SequenceExamples, and bytes that nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.decode import explain_example
from pipeline.features import Feature, to_tensorflow
from pipeline.graph_input import RawTensors, RecordInput
from pipeline.rows import RECORD, Columns


class SequenceExampleInput(RecordInput):
    """Serialized tf.SequenceExamples, parsed in the graph by `tf.io.parse_sequence_example`.

    Features of the context are as those of tf.Examples. Of the feature lists a sequence is dense and padded to the
    longest, a varlen feature a SparseTensor (rows, steps, values), a ragged one a RaggedTensor (rows, None, None).
    Pass-through columns are of the context.
    """

    def _parse(
        self, record: Any, spec: Mapping[str, Feature], more: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        import tensorflow as tf

        if not spec and not more:
            return {}, {}
        source = self._columns.source
        names = {name: name if feature.is_composite else source(name) for name, feature in spec.items()}
        renamed = {name: feature.renamed(source) for name, feature in spec.items()}
        lists = {names[name]: feature for name, feature in renamed.items() if feature.feature_list}
        context = {names[name]: feature for name, feature in renamed.items() if not feature.feature_list}
        of_context, of_lists, _ = tf.io.parse_sequence_example(
            record, {**to_tensorflow(context), **more}, to_tensorflow(lists)
        )
        features = {
            name: (of_lists if feature.feature_list else of_context)[names[name]] for name, feature in spec.items()
        }
        return features, of_context

    def _parse_aside(self, record: Any, spec: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        lists = {self._columns.source(name) for name, feature in self._columns.features.items() if feature.feature_list}
        context = {name: feature for name, feature in spec.items() if name not in lists}
        of_lists = {name: feature for name, feature in spec.items() if name in lists}
        parsed, parsed_lists, _ = tf.io.parse_sequence_example(record, context, of_lists)
        return {**parsed, **parsed_lists}

    def refusal(self, row: pa.RecordBatch) -> str | None:
        return explain_sequence_example(row.column(RECORD)[0].as_py(), self._columns)


class BytesInput(RecordInput):
    """Records as they are: the one feature is the record itself, for a transform that knows how to read it."""

    def build(self) -> RawTensors:
        import tensorflow as tf

        record = tf.compat.v1.placeholder(tf.string, (None,), name="records")
        self.placeholders = [record]
        features = dict.fromkeys(self._columns.features, record)
        return RawTensors(features, present=tf.stack([tf.size(record, out_type=tf.int64)]) if features else None)

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]:
        return dict.fromkeys(self._columns.passthrough, rows.column(RECORD).cast(pa.binary()))

    def refusal(self, row: pa.RecordBatch) -> str | None:
        return None


def explain_sequence_example(record: bytes, columns: Columns) -> str | None:
    """Why `tf.io.parse_sequence_example` refuses a serialized tf.SequenceExample, or None if that cannot be told."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.example.example_pb2 import Example, SequenceExample

    try:
        parsed = SequenceExample.FromString(record)
    except DecodeError:
        return "the record is not a tf.SequenceExample"
    lists = {name: feature for name, feature in columns.features.items() if feature.feature_list}
    context = {name: feature for name, feature in columns.features.items() if not feature.feature_list}
    reason = explain_example(Example(features=parsed.context).SerializeToString(), replace(columns, features=context))
    if reason is not None:
        return reason
    for name, feature in lists.items():
        steps = parsed.feature_lists.feature_list[columns.source(name)].feature
        # A step is as a feature of its own; of a list each may have any number of values.
        step = replace(feature, name=columns.source(name), kind="fixed" if feature.kind == "sequence" else "varlen")
        one = Columns({name: replace(step, default=None)}, sources=columns.sources)
        for number, each in enumerate(steps):
            example = Example()
            example.features.feature[columns.source(name)].CopyFrom(each)
            reason = explain_example(example.SerializeToString(), one)
            if reason is not None:
                return f"{reason} in step {number}"
    return None
