"""tfx_bsl's RunInference on a SavedModel of the Estimator, in an environment of its own:

    python -m benchmarks.peers.tfx_bsl_environment
    WORK/tfx_bsl/bin/python -m benchmarks.peers.tfx_bsl --workload images --format tfrecord --rows 16000 --output scores

TFRecord alone, and not the workload of texts: it cannot return a prediction that is one string a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx_bsl.public.beam.run_inference import RunInference
from tfx_bsl.public.proto import model_spec_pb2

from benchmarks.dataset import Dataset, parsed, parser
from benchmarks.peers.shards import read_records, write_rows


def keyed_record(record: bytes) -> tuple[int, bytes]:
    return tf.train.Example.FromString(record).features.feature["id"].int64_list.value[0], record


def output_row(keyed: tuple[int, Any], names: Sequence[str]) -> dict[str, Any]:
    """A PredictionLog of one row."""
    key, log = keyed
    outputs = log.predict_log.response.outputs
    return {"id": key, **{name: tf.make_ndarray(outputs[name])[0] for name in names}}


def score(dataset: Dataset, output: Path) -> None:
    """Score the shards into Parquet files whose names start with `output`."""
    saved_model = model_spec_pb2.SavedModelSpec(
        model_path=str(dataset.export / "examples"), signature_name=[dataset.module.SIGNATURE]
    )
    names = list(dataset.module.PREDICTIONS)
    with beam.Pipeline("DirectRunner") as p:
        # The type of what comes out rests on what Beam knows to go in; annotations that are text do not tell it.
        keyed = p | read_records(dataset) | "Key" >> beam.Map(keyed_record).with_output_types(tuple[int, bytes])
        logs = keyed | RunInference(model_spec_pb2.InferenceSpecType(saved_model_spec=saved_model))
        logs | "Row" >> beam.Map(output_row, names) | write_rows(dataset, output)


if __name__ == "__main__":
    known = parser("Score shards with tfx_bsl's RunInference.").parse_args()
    score(parsed(known), known.output)
