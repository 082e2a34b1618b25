"""The images: scikit-learn's handwritten digits, split once, and the shards and labels of the held-out ones."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Images(NamedTuple):
    """ids: int64 (n,), the place in scikit-learn's set; pixels: float32 (n, 8, 8), 0 to 1; labels: int64 (n,), 0 to 9."""

    ids: np.ndarray
    pixels: np.ndarray
    labels: np.ndarray


def load_images(held_out: float = 0.25) -> tuple[Images, Images]:
    """The images to train on and those held out: the same split every time, as many of each digit as their share."""
    digits = load_digits()
    pixels = (digits.images / 16).astype(np.float32)  # 16 is the darkest ink
    labels = digits.target.astype(np.int64)
    ids = np.arange(len(labels), dtype=np.int64)
    splits = train_test_split(ids, test_size=held_out, random_state=0, stratify=labels)
    train, held = (Images(ids[split], pixels[split], labels[split]) for split in splits)
    return train, held


def input_fn(images: Images, batch_size: int, epochs: int | None = 1, seed: int | None = None) -> Any:
    """A dataset of (features, labels) for an Estimator; shuffled with a seed, endless with `epochs=None`."""
    dataset = tf.data.Dataset.from_tensor_slices(({"input_tensor": images.pixels}, images.labels))
    if seed is not None:
        dataset = dataset.shuffle(len(images.labels), seed=seed)
    return dataset.repeat(epochs).batch(batch_size)


def write_shards(images: Images, folder: Path, shards: int = 8) -> None:
    """Write TFRecord shards of tf.Example with `image_id` and `input_tensor`, and without labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, rows in enumerate(np.array_split(np.arange(len(images.ids)), shards)):
        path = folder / f"digits-{shard:05d}-of-{shards:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in rows:
                writer.write(_example(images.ids[row], images.pixels[row]).SerializeToString())


def write_labels(images: Images, path: Path) -> None:
    """Write a CSV of `image_id` and `label`."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image_id", "label"))
        writer.writerows(zip(images.ids, images.labels, strict=True))


def _example(image_id: np.int64, pixels: np.ndarray) -> tf.train.Example:
    feature = {
        "image_id": tf.train.Feature(int64_list=tf.train.Int64List(value=[image_id])),
        "input_tensor": tf.train.Feature(float_list=tf.train.FloatList(value=pixels.reshape(-1))),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))
