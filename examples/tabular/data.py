"""Trips of made-up taxis, as TFRecord shards; the rows come from a seeded generator, not from any city:

python -m examples.tabular.data --work work/tabular

WORK/train      8 shards of 2,500 trips
WORK/held_out   8 shards of 1,024 trips
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  so that it stands before TensorFlow

import numpy as np
import tensorflow as tf

COMPANIES = ("Blue Star", "Checker", "City Cabs", "Flash", "Globe", "Harbor", "Lakeside", "Metro", "Sunrise", "Yellow")
PAYMENTS = ("card", "cash", "voucher")
MISSING = {"company": 0.1, "miles": 0.05, "pickup_area": 0.08}
"""Feature -> share of the trips without it."""


def raw_spec() -> dict[str, Any]:
    """How a trip is parsed, without its label `tipped`; what may be missing is of variable length."""
    return {
        "company": tf.io.VarLenFeature(tf.string),
        "fare": tf.io.FixedLenFeature([], tf.float32),
        "hour": tf.io.FixedLenFeature([], tf.int64),
        "miles": tf.io.VarLenFeature(tf.float32),
        "payment": tf.io.FixedLenFeature([], tf.string),
        "pickup_area": tf.io.VarLenFeature(tf.int64),
    }


def make_trips(count: int, seed: int) -> dict[str, list[Any]]:
    """Columns of trips, None where a value is missing: those of `raw_spec`, `trip_id`, and `tipped` (0 or 1)."""
    random = np.random.default_rng(seed)
    company = random.choice(len(COMPANIES), count, p=np.arange(10, 0, -1) / 55)
    hour = random.integers(0, 24, count)
    miles = random.lognormal(1.0, 0.8, count)
    fare = 3.25 + 2.25 * miles + random.gamma(2.0, 1.0, count)
    payment = random.choice(len(PAYMENTS), count, p=[0.55, 0.4, 0.05])
    area = random.integers(1, 78, count)
    generosity = (
        np.array([2.2, -2.6, -0.5])[payment]
        + 0.3 * np.log(fare)
        + 0.5 * np.cos((hour - 21) / 24 * 2 * np.pi)
        + 0.15 * (company % 5 - 2)
        + 0.6 * (area < 20)
        - 1.2
    )
    columns = {
        "trip_id": random.permutation(count) + 1_000_000 * seed,
        "company": np.array(COMPANIES)[company],
        "fare": fare.astype(np.float32),
        "hour": hour,
        "miles": miles.astype(np.float32),
        "payment": np.array(PAYMENTS)[payment],
        "pickup_area": area,
        "tipped": (random.random(count) < 1 / (1 + np.exp(-generosity))).astype(np.int64),
    }
    trips = {name: column.tolist() for name, column in columns.items()}
    for name, share in MISSING.items():
        for row in np.flatnonzero(random.random(count) < share):
            trips[name][row] = None
    return trips


def write_shards(trips: dict[str, list[Any]], folder: Path, shards: int = 8) -> None:
    """Write TFRecord shards of tf.Example; a missing value is a key that is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, rows in enumerate(np.array_split(np.arange(len(trips["trip_id"])), shards)):
        path = folder / f"trips-{shard:05d}-of-{shards:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for row in rows:
                writer.write(_example({name: column[row] for name, column in trips.items()}))


def write_trips(work: Path, train: int = 20_000, held_out: int = 8 * 1024) -> None:
    """Write the trips to train on and those held out."""
    write_shards(make_trips(train, seed=1), work / "train")
    write_shards(make_trips(held_out, seed=2), work / "held_out")


def _example(trip: dict[str, Any]) -> bytes:
    feature = {}
    for name, value in trip.items():
        if isinstance(value, str):
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        elif isinstance(value, float):
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        elif value is not None:
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the trips to train on and those held out.")
    parser.add_argument("--work", type=Path, default=Path("work/tabular"), help="folder to write to")
    parser.add_argument("--train", type=int, default=20_000, metavar="N", help="trips to train on (20,000)")
    known = parser.parse_args()
    write_trips(known.work, known.train)


if __name__ == "__main__":
    main()
