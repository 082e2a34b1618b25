"""SavedModels of the Estimators, for peers that load nothing else; what is there already is kept:

    python -m benchmarks.export --workload images

WORK/images/export/columns    takes a tensor a feature; for a list its values and row splits
WORK/images/export/examples   takes serialized tf.Examples
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import tensorflow as tf

import transforms
from benchmarks.dataset import WORK, WORKLOADS, Dataset
from benchmarks.peers.rows import splits_dtype

tf1 = tf.compat.v1


def export(dataset: Dataset) -> None:
    """Export the Estimator twice."""
    estimator = dataset.module.build_estimator(str(dataset.model_dir))
    transform = transforms.load(str(dataset.transform)) if dataset.transform else dict
    spec = dataset.module.raw_spec()

    def columns() -> Any:
        features, tensors = {}, {}
        for name, feature in spec.items():
            if isinstance(feature, tf.io.FixedLenFeature):
                features[name] = tensors[name] = tf1.placeholder(feature.dtype, (None, *feature.shape), name)
                continue
            values = tensors[f"{name}_values"] = tf1.placeholder(feature.dtype, (None,), f"{name}_values")
            splits = tensors[f"{name}_splits"] = tf1.placeholder(splits_dtype(feature), (None,), f"{name}_splits")
            ragged = tf.RaggedTensor.from_row_splits(values, splits, validate=False)
            features[name] = ragged if isinstance(feature, tf.io.RaggedFeature) else ragged.to_sparse()
        return tf.estimator.export.ServingInputReceiver(transform(features), tensors)

    def examples() -> Any:
        records = tf1.placeholder(tf.string, (None,), "examples")
        features = transform(tf.io.parse_example(records, spec))
        return tf.estimator.export.ServingInputReceiver(features, {"examples": records})

    for receiver in (columns, examples):
        folder = dataset.export / receiver.__name__
        if not folder.exists():
            unfinished = dataset.export / f"{receiver.__name__}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            exported = Path(estimator.export_saved_model(str(unfinished), receiver).decode())
            exported.rename(folder)
            unfinished.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description="Export the Estimators of workloads as SavedModels.")
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what `benchmarks.prepare` made")
    known = parser.parse_args()
    for workload in known.workload:
        export(Dataset(workload, "tfrecord", 0, known.work))


if __name__ == "__main__":
    main()
