"""Training rows of every kind of feature, their shards in every format, and functions to fit to them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from pipeline.features import Feature

IS_2_15 = tf.__version__.startswith("2.15.")
needs_extra = pytest.mark.skipif(
    IS_2_15 or importlib.util.find_spec("tensorflow_transform") is None, reason="needs the extra fit"
)

ROWS, SHARDS = 90, 2
FORMATS = ("tfrecord", "parquet", "csv", "jsonl", "avro")
SPEC = {
    "miles": Feature("miles"),
    "pair": Feature("pair", shape=(2,)),
    "word": Feature("word", "string"),
    "count": Feature("count", "int64", "varlen"),
    "tags": Feature("tags", "string", "varlen"),
    "lengths": Feature("lengths", "int64", "ragged"),
}


def make_rows() -> list[dict[str, Any]]:
    """Rows of values that float32 holds exactly; words and tags of distinct frequencies, counts that may be missing."""
    random = np.random.default_rng(5)
    rows = []
    for row in range(ROWS):
        rows.append(
            {
                "miles": float(random.integers(-50, 200)) / 4,
                "pair": [row / 2, -row / 4],
                "word": "abcd"[min(int(row**0.5 / 2.6), 3)],
                "count": None if row % 7 == 0 else 2**53 + row,
                "tags": [f"tag {number}" for number in range(row % 4)],
                "lengths": list(range(row % 3)),
            }
        )
    return rows


def to_example(row: dict[str, Any]) -> bytes:
    feature = {}
    for name, value in row.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        if name in ("miles", "pair"):
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        elif name in ("word", "tags"):
            values = [text.encode() for text in values]
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif values:
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_tfrecord(path: Path, rows: list[dict[str, Any]]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(to_example(row))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=16)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    cells = [
        {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows
    ]
    pyarrow.csv.write_csv(pa.Table.from_pylist(cells), path)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_avro(path: Path, rows: list[dict[str, Any]]) -> None:
    types: dict[str, Any] = {
        "miles": "float", "pair": {"type": "array", "items": "float"}, "word": "string", "count": ["null", "long"],
        "tags": {"type": "array", "items": "string"}, "lengths": {"type": "array", "items": "long"},
    }  # fmt: skip
    schema = {"type": "record", "name": "row", "fields": [{"name": name, "type": types[name]} for name in types]}
    with path.open("wb") as file:
        fastavro.writer(file, schema, rows)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "tfrecord": write_tfrecord, "parquet": write_parquet, "csv": write_csv, "jsonl": write_jsonl, "avro": write_avro,
}  # fmt: skip


def write_shards(folder: Path, record_format: str, rows: list[dict[str, Any]]) -> str:
    """Write two shards; returns their pattern."""
    for shard in range(SHARDS):
        WRITERS[record_format](folder / f"rows-{shard}.{record_format}", rows[shard::SHARDS])
    return str(folder / f"rows-*.{record_format}")


def preprocessing_fn(inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "miles": tft.scale_to_z_score(inputs["miles"]),
        "pair": tft.scale_to_0_1(inputs["pair"], elementwise=True),
        "word": tft.compute_and_apply_vocabulary(inputs["word"], vocab_filename="words"),
        "count": inputs["count"],
        "smallest": tf.zeros_like(inputs["word"], tf.int64) + tft.min(inputs["count"]),
        "tags": tft.compute_and_apply_vocabulary(inputs["tags"], vocab_filename="tags"),
        "lengths": inputs["lengths"],
    }


def features_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The tensors of the rows, by `tf.io.parse_example`."""
    from pipeline.features import to_tensorflow

    return tf.io.parse_example([to_example(row) for row in rows], to_tensorflow(SPEC))


def flat(value: Any) -> np.ndarray:
    """Values of a tensor of any kind, with where they stand."""
    if isinstance(value, tf.SparseTensor):
        return np.column_stack([value.indices, value.values])
    return np.asarray(value.to_tensor(-1) if isinstance(value, tf.RaggedTensor) else value)


JOB = {
    "input": {"pattern": "rows-*.tfrecord"},
    "features": {"miles": {"dtype": "float32"}},
    "transform": {"function": "steps:preprocessing_fn", "path": "transform"},
}


def write_job(folder: Path, **changes: Any) -> str:
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump({**JOB, **changes}))
    return str(path)
