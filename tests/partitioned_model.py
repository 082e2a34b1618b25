"""A model of rows and of the folders that they lie in, with shards in every format; the `code:` of jobs with partitions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

ROWS = 6
FEATURES: dict[str, dict[str, Any]] = {
    "x": {"dtype": "float32"},
    "hour": {"dtype": "int64"},
    "region": {"dtype": "string", "default": "nowhere"},
}
REGIONS = {"north": 1.0, "süd/west": 2.0, "nowhere": 4.0}
FOLDERS = [("north", "07"), ("süd/west", "8"), ("__HIVE_DEFAULT_PARTITION__", "23")]
"""Values of the columns `region` and `hour` of each folder of a partitioned input."""


def an_hour_later(features):
    return {**features, "hour": features["hour"] + 1}


def one_region(features):
    """`region` as one value a row, from any kind of feature."""
    region = features["region"]
    if isinstance(region, tf.SparseTensor):
        region = tf.RaggedTensor.from_sparse(region)
    if isinstance(region, tf.RaggedTensor):
        region = region.to_tensor("nowhere", shape=(None, 1))
    return {**features, "region": region[:, 0]}


def model_fn(features, labels, mode, params):
    """params: `refuse`, a remainder by 5 of quarters of `x`, in rows that get no finite score."""
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.ones_initializer())
    keys = tf.constant(list(REGIONS))
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, tf.constant([*REGIONS.values()])), -1.0)
    score = (
        features["x"] * weight + tf.cast(features["hour"], tf.float32) * 100 + table.lookup(features["region"]) * 10000
    )
    if mode == tf.estimator.ModeKeys.PREDICT:
        quarters = tf.math.floormod(tf.cast(features["x"] * 4, tf.int64), 5)
        score = tf.where(tf.equal(quarters, params.get("refuse", -1)), np.nan, score)
        return tf.estimator.EstimatorSpec(mode, {"score": score})
    loss = tf.reduce_mean(tf.square(score - labels))
    step = tf.compat.v1.train.get_global_step()
    train_op = tf.compat.v1.train.GradientDescentOptimizer(0.0).minimize(loss, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def train(model_dir: str) -> None:
    features = {"x": [1.0], "hour": np.array([1], np.int64), "region": ["north"]}
    tf.estimator.Estimator(model_fn, model_dir).train(lambda: tf.data.Dataset.from_tensors((features, [1.0])), steps=1)


def rows_of(folder: int) -> list[dict[str, Any]]:
    """The rows of a folder, without what its path says."""
    return [{"id": 100 * folder + number, "x": 0.25 * number + folder} for number in range(ROWS)]


def score_of(row: dict[str, Any], region: str, hour: str) -> float:
    """The score, by the region and the hour as they stand in the path."""
    return row["x"] + 100 * int(hour) + 10000 * REGIONS.get(region, REGIONS["nowhere"])


def folder_of(root: Path, region: str, hour: str) -> Path:
    return root / f"region={quote(region, safe='')}" / f"hour={hour}"


def write_input(root: Path, extension: str) -> list[Path]:
    """A shard in each of `FOLDERS`, sorted by path."""
    paths = []
    for index, names in enumerate(FOLDERS):
        folder = folder_of(root, *names)
        folder.mkdir(parents=True)
        paths.append(folder / f"rows.{extension}")
        WRITERS[extension](paths[-1], rows_of(index))
    return sorted(paths)


def _write_tfrecord(path: Path, rows: list[dict[str, Any]]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.append(row["x"])
            for name in {"id", "hour"} & row.keys():
                example.features.feature[name].int64_list.value.append(row[name])
            writer.write(example.SerializeToString())


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "x"])
        writer.writeheader()
        writer.writerows(rows)


def _write_avro(path: Path, rows: list[dict[str, Any]]) -> None:
    fields = [{"name": "id", "type": "long"}, {"name": "x", "type": "float"}]
    with path.open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "Row", "fields": fields}, rows)


WRITERS = {
    "tfrecord": _write_tfrecord,
    "parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path),
    "csv": _write_csv,
    "jsonl": lambda path, rows: path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8"),
    "avro": _write_avro,
}
