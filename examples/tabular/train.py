"""Train the wide-and-deep model on the transform that `fit` made, and record what it predicts:

python -m examples.tabular.train --work work/tabular

WORK/model                    checkpoints, and under record what scoring is held against
WORK/trainer_scores.parquet   the scores of the held-out trips, by Estimator.predict
WORK/evaluation.json          accuracy and AUC of the checkpoint on the held-out trips, by Estimator.evaluate; written last
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

import transforms
from examples.tabular.data import raw_spec
from examples.tabular.model import build_estimator

PARAMS = {"hidden_units": [64, 32], "embedding": 8}
BATCH_ROWS = 512
"""As in configs/tabular.yaml: scores are the same to the last bit where the batches are."""


def input_fn(folder: Path, transform: transforms.Transform, batch_size: int, training: bool = False) -> Any:
    """A dataset of (transformed features, labels); shuffled with a seed and endless for training."""
    spec = {**raw_spec(), "tipped": tf.io.FixedLenFeature([], tf.int64)}

    def features_and_label(records: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        features = tf.io.parse_example(records, spec)
        label = features.pop("tipped")
        return transform(features), label

    dataset = tf.data.TFRecordDataset(shards(folder))
    if training:
        dataset = dataset.shuffle(20_000, seed=1).repeat()
    return dataset.batch(batch_size).map(features_and_label).prefetch(1)


def shards(folder: Path) -> list[str]:
    """Paths of the shards in a folder, in their order."""
    return sorted(map(str, folder.glob("*.tfrecord")))


def train(work: Path, steps: int = 800, seed: int = 1) -> dict[str, Any]:
    """Train up to a step, evaluate and predict on the held-out trips, record predictions for training trips.

    Returns:
      What is written to evaluation.json: checkpoint, accuracy and auc (0 to 1), trips (how many were held out).
    """
    transform = transforms.load(str(work / "transform"))
    tf.keras.utils.set_random_seed(seed)
    config = tf.estimator.RunConfig(tf_random_seed=seed, save_checkpoints_steps=steps)
    estimator = build_estimator(str(work / "model"), PARAMS, config)
    estimator.train(partial(input_fn, work / "train", transform, 128, training=True), max_steps=steps)
    metrics = estimator.evaluate(partial(input_fn, work / "held_out", transform, BATCH_ROWS))
    pq.write_table(trainer_scores(estimator, work / "held_out", transform), work / "trainer_scores.parquet")

    trips = [record.numpy() for record in islice(tf.data.TFRecordDataset(shards(work / "train")), 200)]
    transforms.record(estimator, trips, transform)

    evaluation = {
        "checkpoint": Path(estimator.latest_checkpoint()).name,
        "accuracy": float(metrics["accuracy"]),
        "auc": float(metrics["auc"]),
        "trips": sum(1 for _ in tf.data.TFRecordDataset(shards(work / "held_out"))),
    }
    (work / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    return evaluation


def trainer_scores(estimator: Any, folder: Path, transform: transforms.Transform) -> pa.Table:
    """The columns trip_id, score and predicted of the trips in a folder, by Estimator.predict."""
    spec = {"trip_id": tf.io.FixedLenFeature([], tf.int64)}
    ids = tf.data.TFRecordDataset(shards(folder)).map(lambda trip: tf.io.parse_single_example(trip, spec)["trip_id"])
    rows = list(estimator.predict(partial(input_fn, folder, transform, BATCH_ROWS)))
    return pa.table(
        {
            "trip_id": pa.array(ids.as_numpy_iterator(), pa.int64()),
            "score": [row["logistic"][0] for row in rows],
            "predicted": [row["class_ids"][0] for row in rows],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the wide-and-deep model and record what it predicts.")
    parser.add_argument("--work", type=Path, default=Path("work/tabular"), help="folder of train, held_out, transform")
    work = parser.parse_args().work
    evaluation = train(work)
    print(f"trained     {work / 'model' / str(evaluation['checkpoint'])}")
    print(
        f"evaluated   accuracy {evaluation['accuracy']:.6f}, AUC {evaluation['auc']:.6f}, {evaluation['trips']} trips"
    )


if __name__ == "__main__":
    main()
