"""What `inspect` is shown in the tests, and how its answer is read."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  tf.estimator, before TensorFlow is imported

import yaml

import tensorflow as tf  # isort: skip


from pipeline.job import Job

DATA = Path(__file__).parent / "data"
SECRET = "Kowalska"
"""A value of every shard here; no text may hold it."""


def fact(text: str, name: str) -> str:
    """What stands behind a name at the left."""
    found = re.findall(rf"^{re.escape(name)}  +(.*)$", text, re.MULTILINE)
    assert len(found) == 1, f"{name} stands {len(found)} times in\n{text}"
    return found[0]


def section(text: str, title: str) -> list[list[str]]:
    """The rows under the title that begins so, each cut at two or more blanks."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title) and not lines[number - 1])
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("  "):
            break
        rows.append(re.split(r"  +", line.strip()))
    return rows


def pasted(text: str) -> Any:
    """The `features:` section in the text, as a job file that holds it has it."""
    lines = text.splitlines()
    start = lines.index("features:")
    end = next((number for number in range(start, len(lines)) if not lines[number]), len(lines))
    job = {"name": "a", "input": {"pattern": "a.tfrecord"}, "model": {"estimator": "a:b"}, "output": {"path": "o"}}
    return Job.model_validate({**job, **yaml.safe_load("\n".join(lines[start:end]))}).features


def example(**features: Any) -> bytes:
    lists = {}
    for name, values in features.items():
        if values and isinstance(values[0], bytes):
            lists[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif values and isinstance(values[0], float):
            lists[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            lists[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values) if values else None)
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


def write_tfrecord(path: Path, records: Sequence[bytes], compression: str = "") -> Path:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


def write_csv(path: Path, rows: Sequence[Sequence[Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


EXAMPLES = [
    example(
        miles=[1.5],
        image=[0.5] * 6,
        words=[SECRET.encode()] * (row % 3),
        **({"tips": [2.5]} if row % 2 else {}),
        none=[],
    )
    for row in range(10)
]


ROWS: list[list[Any]] = [
    ["id", "Full Name", "city"],
    *([number, f"{SECRET} {number}", 'Łódź, "x"\ny'] for number in range(20)),
]
