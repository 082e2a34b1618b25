"""The raw rows of a record, from and to serialized tf.Examples.

They are kept as columns, whatever they came from. A value that an example lacks stays missing, so that a replay meets the
default of the job as the trainer's rows met that of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.features import Feature
from pipeline.rows import RECORD, Columns, feature_column

_LISTS = {"float32": "float_list", "int64": "int64_list", "string": "bytes_list"}


def rows_of_examples(examples: Sequence[bytes], columns: Columns) -> pa.RecordBatch:
    """The raw features of serialized tf.Examples that `tf.io.parse_example` takes, as columns `feature:NAME`."""
    import tensorflow as tf

    parsed = [tf.train.Example.FromString(example).features.feature for example in examples]
    arrays = [
        pa.array([_value(row, columns.source(name), feature) for row in parsed], _kept_type(feature))
        for name, feature in columns.decoded.items()
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[feature_column(name) for name in columns.decoded])


def plain_rows(rows: pa.RecordBatch, columns: Columns, record_format: str) -> Sequence[bytes] | pa.RecordBatch:
    """Rows of a job as a trainer has them: tf.Examples that hold all features, or decoded columns of them."""
    if record_format != "tfrecord":
        columns_of_rows = [array.dictionary_decode() if pa.types.is_dictionary(array.type) else array for array in rows]
        return pa.RecordBatch.from_arrays(columns_of_rows, rows.schema.names)
    records: list[bytes] = rows.column(RECORD).to_pylist()
    if not columns.of_path.features:
        return records
    beside = examples_of_rows(rows, columns.of_path)
    return [record + example for record, example in zip(records, beside, strict=True)]  # one message, put together


def examples_of_rows(rows: pa.RecordBatch, columns: Columns) -> list[bytes]:
    """The rows as serialized tf.Examples, under the names that the features have in the files."""
    import tensorflow as tf

    features = columns.decoded
    names = [name for name in features if feature_column(name) in rows.schema.names]
    values = {name: rows.column(feature_column(name)).to_pylist() for name in names}
    examples = []
    for index in range(rows.num_rows):
        example = tf.train.Example()
        for name in names:
            value = values[name][index]
            if value is not None:
                target = example.features.feature[columns.source(name)]
                kept = value if isinstance(value, list) else [value]
                getattr(target, _LISTS[features[name].dtype]).value.extend(kept)
        examples.append(example.SerializeToString())
    return examples


def _value(row: Mapping[str, Any], source: str, feature: Feature) -> Any:
    values = list(getattr(row[source], _LISTS[feature.dtype]).value) if source in row else []
    if not values:
        return None
    return values if feature.is_list or feature.shape else values[0]


def _kept_type(feature: Feature) -> pa.DataType:
    return pa.list_(feature.value_type) if feature.is_list or feature.shape else feature.value_type
