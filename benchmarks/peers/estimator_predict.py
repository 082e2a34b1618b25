"""`Estimator.predict` in one call, and a loop over the dict that it gives for each row; TFRecord alone:

    python -m benchmarks.peers.estimator_predict --workload images --format tfrecord --rows 16000 --output scores.parquet

No key passes through `Estimator.predict`, so ids are read a second time and joined by their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import transforms
from benchmarks.dataset import Dataset, parsed, parser

WRITTEN_AT_ONCE = 65_536


def input_fn(dataset: Dataset, batch_rows: int, each: bool) -> Any:
    """Batches of features, transformed as in training.

    Args:
      each: parse each record by itself and batch then, as tutorials do; otherwise parse whole batches.
    """
    transform = transforms.load(str(dataset.transform)) if dataset.transform else dict
    spec = dataset.module.raw_spec()
    records = tf.data.TFRecordDataset([str(path) for path in dataset.shards], dataset.compression)
    if each:
        features = records.map(lambda record: tf.io.parse_single_example(record, spec)).batch(batch_rows)
    else:
        features = records.batch(batch_rows).map(lambda batch: tf.io.parse_example(batch, spec))
    return features.map(transform).prefetch(1)


def ids(dataset: Dataset, each: bool) -> Iterator[Any]:
    """The id of each row, read as the features are.

    Args:
      each: parse each record by itself, otherwise whole batches.
    """
    spec = {"id": tf.io.FixedLenFeature([], str(dataset.module.ID))}
    records = tf.data.TFRecordDataset([str(path) for path in dataset.shards], dataset.compression)
    if each:
        yield from records.map(lambda record: tf.io.parse_single_example(record, spec)["id"]).as_numpy_iterator()
        return
    for batch in records.batch(4_096).map(lambda batch: tf.io.parse_example(batch, spec)["id"]).as_numpy_iterator():
        yield from batch.tolist()


def score(dataset: Dataset, output: Path, batch_rows: int, each: bool) -> None:
    """Score the shards into one Parquet file.

    Args:
      each: as tutorials do, who also let the model give all of its predictions; otherwise only those that are written.
    """
    estimator = dataset.module.build_estimator(str(dataset.model_dir))
    keys = list(ids(dataset, each))
    names = list(dataset.module.PREDICTIONS)
    predicted = estimator.predict(lambda: input_fn(dataset, batch_rows, each), predict_keys=None if each else names)
    rows = ({"id": key, **{name: row[name] for name in names}} for key, row in zip(keys, predicted, strict=True))
    with pq.ParquetWriter(output, dataset.schema, compression="zstd") as writer:
        while some := list(islice(rows, WRITTEN_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, dataset.schema))


def main() -> None:
    arguments = parser("Score shards with one call of Estimator.predict.")
    arguments.add_argument("--batch", type=int, default=256, metavar="N", help="rows of a batch")
    arguments.add_argument("--each", action="store_true", help="parse each record by itself, as tutorials do")
    known = arguments.parse_args()
    score(parsed(known), known.output, known.batch, known.each)


if __name__ == "__main__":
    main()
