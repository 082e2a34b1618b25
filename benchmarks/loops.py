"""The loop that an expert writes by hand, without Beam, for one model: what ours is held against.

    python -m benchmarks.loops --workload images --format tfrecord --rows 16000 --output scores.parquet

TFRecord is read, batched and parsed by tf.data inside the model's own graph; Parquet by pyarrow, whose columns
are fed. One session callable scores, and columns go to one Parquet file: id, predictions, `_row`. Nothing is checked, a bad
row ends the loop, and a loop that is killed starts anew.

Other numbers of threads, longer queues, larger buffers and tf.data without its optimizer made no difference that could be
told from noise; reading TFRecord shards in parallel took half as much again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import transforms
from benchmarks.dataset import BATCH_ROWS, Dataset, parsed, parser

tf1 = tf.compat.v1
ROW_GROUP = 65_536
Columns = dict[str, np.ndarray | pa.Array]


def score(dataset: Dataset, output: Path, batch_rows: int, threads: int = 0) -> int:
    """Score the shards into one Parquet file.

    Args:
      threads: of TensorFlow, inside an operation; 0 is all cores.

    Returns:
      How many rows were scored.
    """
    batches = _fed_batches if dataset.format == "parquet" else _read_batches
    config = tf1.ConfigProto(intra_op_parallelism_threads=threads)
    schema = dataset.schema.append(pa.field("_row", pa.int64()))
    rows, held = 0, []
    with pq.ParquetWriter(output, schema, compression="zstd", use_dictionary=_text_columns(schema)) as writer:
        for columns in batches(dataset, batch_rows, config):
            held.append(_table(columns, rows))
            rows += held[-1].num_rows
            if sum(map(len, held)) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(held))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held))
    return rows


def _read_batches(dataset: Dataset, batch_rows: int, config: Any) -> Iterator[Columns]:
    """Scores of records that never leave TensorFlow."""
    with tf.Graph().as_default():
        files = [str(path) for path in dataset.shards]
        records = tf.data.TFRecordDataset(files, dataset.compression, buffer_size=1 << 20).batch(batch_rows)
        spec = {**dataset.module.raw_spec(), "id": tf.io.FixedLenFeature([], str(dataset.module.ID))}
        # One thread parses ahead of the model; parsing in the model's own turn takes a seventh more with lists and strings.
        parsed_ahead = records.map(lambda batch: tf.io.parse_example(batch, spec), num_parallel_calls=1).prefetch(2)
        iterator = tf1.data.make_initializable_iterator(parsed_ahead)
        features = iterator.get_next()
        ids = features.pop("id")
        predictions = _predictions(dataset, features)
        with _restored(dataset, config) as session:
            session.run(iterator.initializer)
            call = session.make_callable([ids, *predictions.values()])
            while True:
                try:
                    values = call()
                except tf.errors.OutOfRangeError:
                    return
                yield dict(zip(("id", *predictions), values, strict=True))


def _fed_batches(dataset: Dataset, batch_rows: int, config: Any) -> Iterator[Columns]:
    """Scores of columns that pyarrow read."""
    with tf.Graph().as_default():
        features, placeholders = _placeholders(dataset.module.raw_spec())
        predictions = _predictions(dataset, features)
        with _restored(dataset, config) as session:
            call = session.make_callable(list(predictions.values()), placeholders)
            for batch in _read_ahead(dataset.shards, batch_rows):
                feeds = [each for name, value in features.items() for each in _feeds(batch[name], value)]
                yield {"id": batch["id"], **dict(zip(predictions, call(*feeds), strict=True))}


def _read_ahead(shards: Sequence[Path], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of Parquet files, two of them read while the model is busy."""
    batches: queue.Queue[pa.RecordBatch | None] = queue.Queue(2)

    def read() -> None:
        try:
            for path in shards:
                for batch in pq.ParquetFile(path).iter_batches(batch_rows):
                    batches.put(batch)
        finally:
            batches.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (batch := batches.get()) is not None:
        yield batch


def _predictions(dataset: Dataset, features: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the model, by the output column that they become."""
    tf1.train.create_global_step()
    if dataset.transform:
        features = transforms.load(str(dataset.transform))(features)
    estimator = dataset.module.build_estimator(str(dataset.model_dir))
    spec = estimator.model_fn(features, None, tf.estimator.ModeKeys.PREDICT, estimator.config)
    return {key: spec.predictions[key] for key in dataset.module.PREDICTIONS}


def _restored(dataset: Dataset, config: Any) -> Any:
    session = tf1.Session(config=config)
    tf1.train.Saver().restore(session, tf.train.latest_checkpoint(str(dataset.model_dir)))
    session.run(tf1.tables_initializer())
    return session


def _placeholders(spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Features by name, and what to feed for them: one tensor, or for a list its values and row splits."""
    features: dict[str, Any] = {}
    placeholders = []
    for name, feature in spec.items():
        if isinstance(feature, tf.io.FixedLenFeature):
            features[name] = tf1.placeholder(feature.dtype, (None, *feature.shape))
            placeholders.append(features[name])
            continue
        splits_dtype = tf.int32 if isinstance(feature, tf.io.RaggedFeature) else tf.int64
        values, splits = tf1.placeholder(feature.dtype, (None,)), tf1.placeholder(splits_dtype, (None,))
        ragged = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
        features[name] = ragged if isinstance(feature, tf.io.RaggedFeature) else ragged.to_sparse()
        placeholders += [values, splits]
    return features, placeholders


def _feeds(column: pa.Array, feature: Any) -> list[np.ndarray]:
    if isinstance(feature, tf.Tensor):
        values = column.flatten() if pa.types.is_nested(column.type) else column
        return [_numpy(values).reshape(len(column), *feature.shape[1:])]
    splits_dtype = np.int32 if isinstance(feature, tf.RaggedTensor) else np.int64
    splits = column.offsets.to_numpy()
    return [_numpy(column.flatten()), (splits - splits[0]).astype(splits_dtype)]


def _numpy(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=not pa.types.is_string(values.type))


def _table(columns: Columns, first_row: int) -> pa.Table:
    arrays = {name: _arrow(values) for name, values in columns.items()}
    arrays["_row"] = pa.array(np.arange(first_row, first_row + len(arrays["id"])))
    return pa.table(arrays)


def _arrow(values: np.ndarray | pa.Array) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    flat = values.reshape(-1)
    array = pa.array(flat, pa.binary()).cast(pa.string()) if flat.dtype == object else pa.array(flat)
    return array if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(array, values.shape[1])


def _text_columns(schema: pa.Schema) -> Sequence[str]:
    """A dictionary pays for strings alone."""
    return [field.name for field in schema if pa.types.is_string(field.type)]


def main() -> None:
    arguments = parser("Score shards with a loop that is written by hand.")
    arguments.add_argument("--batch", type=int, metavar="N", help="rows of a batch")
    arguments.add_argument("--threads", type=int, default=0, metavar="N", help="of TensorFlow, inside an operation")
    known = arguments.parse_args()
    score(parsed(known), known.output, known.batch or BATCH_ROWS[known.workload], known.threads)


if __name__ == "__main__":
    main()
