"""Makes the trained models beside it, by the TensorFlow that runs it; they are checked in, so this runs only to change them.

    PYTHONPATH=.:tests python tests/data/make_models.py

It trains `zoo.transformed` through the two transforms that the same TensorFlow made (see `make_transforms.py`), and
writes what scoring is held against on both TensorFlow versions:

    models/rows.tfrecord                    the raw rows, one file for all
    models/taxi_tft/                        the checkpoint and its record; `taxi_tft_v1`, `taxi_tft_2_15`, ... likewise
    models/taxi_tft/predictions.npz         what the trainer's `Estimator.predict` gave for the rows, in batches of 32

The record tells the TensorFlow version too. What scoring does not need (events, graphs) is left out.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import zoo_data
from saved_transforms import MADE_ON
from transform_cases import taxi_case
from transform_job import DATA, TRAINER_BATCH_ROWS

import tensorflow as tf  # isort: skip

import transforms


def make_model(name: str, target: Path) -> None:
    case, path = taxi_case(name), DATA / name
    with tempfile.TemporaryDirectory() as model_dir:
        case.train(model_dir)
        predictions = case.predict(model_dir, [case.rows()], TRAINER_BATCH_ROWS)
        examples = [zoo_data.to_example(row, case.spec) for row in case.rows(120, seed=3)]
        transforms.record(case.estimator(model_dir), examples, str(path))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(model_dir, target, ignore=shutil.ignore_patterns("events.*", "graph.pbtxt", "*.meta", "*-0.*"))
    transform = target / "record" / "transform.json"
    transform.write_text(transform.read_text().replace(f"{DATA}/", ""))  # a place of this machine
    np.savez_compressed(target / "predictions.npz", **predictions)


def main() -> None:
    (DATA / "models").mkdir(exist_ok=True)
    case = taxi_case("taxi_tft")
    zoo_data.write_tfrecord(DATA / "models" / "rows.tfrecord", case.rows(), case.spec)
    version = ".".join(tf.__version__.split(".")[:2])
    for name in (MADE_ON[version], f"{MADE_ON[version]}_v1"):
        make_model(name, DATA / "models" / name)


if __name__ == "__main__":
    main()
