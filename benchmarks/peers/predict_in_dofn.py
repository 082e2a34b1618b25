"""A Beam pipeline that calls `Estimator.predict` for each batch of 256; TFRecord alone:

python -m benchmarks.peers.predict_in_dofn --workload images --format tfrecord --rows 16000 --output scores
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import apache_beam as beam
import tensorflow as tf

import transforms
from benchmarks.dataset import Dataset, parsed, parser
from benchmarks.peers.rows import key_of
from benchmarks.peers.shards import read_records, write_rows

BATCH_ROWS = 256


class Predict(beam.DoFn):
    """Rows of output for a batch of serialized tf.Examples."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def setup(self) -> None:
        dataset = self._dataset
        self._estimator = dataset.module.build_estimator(str(dataset.model_dir))
        self._transform = transforms.load(str(dataset.transform)) if dataset.transform else dict

    def process(self, records: list[bytes]) -> Iterator[dict[str, Any]]:
        spec, keys = self._dataset.module.raw_spec(), list(self._dataset.module.PREDICTIONS)

        def input_fn() -> Any:
            batch = tf.data.Dataset.from_tensors(records)
            return batch.map(lambda batch: self._transform(tf.io.parse_example(batch, spec)))

        for record, row in zip(records, self._estimator.predict(input_fn, predict_keys=keys), strict=True):
            yield {"id": key_of(record), **row}


def score(dataset: Dataset, output: Path) -> None:
    """Score the shards into Parquet files whose names start with `output`."""
    with beam.Pipeline("FnApiRunner") as p:
        records = p | read_records(dataset)
        batches = records | beam.BatchElements(min_batch_size=BATCH_ROWS, max_batch_size=BATCH_ROWS)
        batches | beam.ParDo(Predict(dataset)) | write_rows(dataset, output)


if __name__ == "__main__":
    known = parser("Score shards with Estimator.predict in a DoFn.").parse_args()
    score(parsed(known), known.output)
