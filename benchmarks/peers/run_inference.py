"""Beam's RunInference with its handler for TensorFlow, on a SavedModel of the Estimator:

    python -m benchmarks.peers.run_inference --workload images --format tfrecord --rows 16000 --output scores --batch 4096

The handler cannot load the export of an Estimator nor call a signature by names, so its users override both.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference

from benchmarks.dataset import Dataset, parsed, parser
from benchmarks.peers.rows import RowParser, key_of, keyed_row, list_dtypes, stack
from benchmarks.peers.shards import read_records, read_rows, write_rows

# Beam imports it for models of TensorFlow Hub, and does not install it.
sys.modules.setdefault("tensorflow_hub", types.ModuleType("tensorflow_hub"))
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy  # noqa: E402


class Handler(TFModelHandlerNumpy):
    """Calls a signature of the SavedModel; elements are dicts of arrays, or serialized tf.Examples."""

    def __init__(self, dataset: Dataset, model: str, batch_rows: int | None):
        super().__init__(
            str(dataset.export / model), inference_fn=self._infer, min_batch_size=batch_rows, max_batch_size=batch_rows
        )
        self._dataset = dataset

    def load_model(self) -> Any:
        return tf.saved_model.load(self._model_uri).signatures[self._dataset.module.SIGNATURE]

    def _infer(
        self, model: Any, batch: Sequence[Any], inference_args: dict[str, Any], model_id: str | None = None
    ) -> Iterable[PredictionResult]:
        if isinstance(batch[0], bytes):
            tensors = {"examples": tf.constant(batch)}
        else:
            tensors = stack(batch, self._dataset.module.raw_spec())
        predicted = model(**tensors)
        values = [predicted[key].numpy() for key in self._dataset.module.PREDICTIONS]
        for example, *row in zip(batch, *values, strict=True):
            yield PredictionResult(example, row, model_id)


def output_row(keyed: tuple[int | str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A row of output, of a key and a PredictionResult."""
    key, result = keyed
    return {"id": key, **dict(zip(names, result.inference, strict=True))}


def score(dataset: Dataset, output: Path, batch_rows: int | None, serialized: bool) -> None:
    """Score the shards into Parquet files whose names start with `output`.

    Args:
      batch_rows: of every batch; None leaves it to Beam.
      serialized: the SavedModel parses the tf.Examples, and Python no more than their ids.
    """
    spec, names = dataset.module.raw_spec(), list(dataset.module.PREDICTIONS)
    handler: Any = KeyedModelHandler(Handler(dataset, "examples" if serialized else "columns", batch_rows))
    with beam.Pipeline("FnApiRunner") as p:
        if dataset.format == "parquet":
            rows = p | read_rows(dataset) | "Key" >> beam.Map(keyed_row, list_dtypes(spec))
        elif serialized:
            rows = p | read_records(dataset) | "Key" >> beam.Map(lambda record: (key_of(record), record))
        else:
            rows = p | read_records(dataset) | "Parse" >> beam.Map(RowParser(spec))
        rows | RunInference(handler) | "Row" >> beam.Map(output_row, names) | write_rows(dataset, output)


def main() -> None:
    arguments = parser("Score shards with Beam's RunInference.")
    arguments.add_argument("--batch", type=int, metavar="N", help="rows of a batch; Beam's choice when left out")
    arguments.add_argument("--serialized", action="store_true", help="the SavedModel parses the tf.Examples")
    known = arguments.parse_args()
    score(parsed(known), known.output, known.batch, known.serialized)


if __name__ == "__main__":
    main()
