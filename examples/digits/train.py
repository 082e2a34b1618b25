"""Train the digits model and write what there is to score:

python -m examples.digits.train --work work/digits

WORK/model             checkpoints, under eval the evaluation's metrics, under record what scoring replays before it starts
WORK/shards            the held-out images as TFRecord, without labels
WORK/labels.csv        their labels
WORK/evaluation.json   accuracy of the checkpoint on them, by Estimator.evaluate; written last
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import tensorflow as tf

import transforms
from examples.digits import data
from examples.digits.model import build_estimator

PARAMS = {"n_classes": 10, "hidden_units": 128, "dropout": 0.3, "learning_rate": 0.002}
"""As in configs/digits.yaml."""


def train(work: Path, steps: int = 1500, seed: int = 1) -> dict[str, Any]:
    """Train up to a step, evaluate on the held-out images, write shards and labels.

    Training that was interrupted goes on from its last checkpoint.

    Returns:
      What is written to evaluation.json: checkpoint, accuracy (0 to 1), images (how many were held out).
    """
    training, held_out = data.load_images()
    data.write_shards(held_out, work / "shards")
    data.write_labels(held_out, work / "labels.csv")

    tf.keras.utils.set_random_seed(
        seed
    )  # the initializers of tf.layers take their seeds from Keras, not from RunConfig
    config = tf.estimator.RunConfig(tf_random_seed=seed, save_checkpoints_steps=500)
    estimator = build_estimator(str(work / "model"), PARAMS, config)
    estimator.train(partial(data.input_fn, training, batch_size=64, epochs=None, seed=seed), max_steps=steps)
    metrics = estimator.evaluate(partial(data.input_fn, held_out, batch_size=256))
    transforms.record(estimator, {"input_tensor": training.pixels})

    evaluation = {
        "checkpoint": Path(estimator.latest_checkpoint()).name,
        "accuracy": float(metrics["accuracy"]),
        "images": len(held_out.labels),
    }
    (work / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    return evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits model and write the shards to score.")
    parser.add_argument("--work", type=Path, default=Path("work/digits"), help="folder for model, shards and labels")
    work = parser.parse_args().work
    evaluation = train(work)
    print(f"trained     {work / 'model' / str(evaluation['checkpoint'])}")
    print(f"evaluated   {evaluation['accuracy']:.2%} of {evaluation['images']} held-out images right")


if __name__ == "__main__":
    main()
