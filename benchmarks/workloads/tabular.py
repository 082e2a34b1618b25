"""Rows of numbers and categories, a saved transform, and TensorFlow's canned DNNClassifier on what it gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

ROW_GROUP = 65_536
ID = pa.int64()
PREDICTIONS = {"probabilities": pa.list_(pa.float32(), 2), "class_ids": pa.list_(pa.int64(), 1)}
SIGNATURE = "predict"
"""Of a SavedModel that is exported."""
_NUMBERS = [f"number_{index:02}" for index in range(12)]
_CODES = [f"code_{index}" for index in range(3)]
_WORDS = [f"word_{index}" for index in range(3)]
_BUCKETED = _NUMBERS[:2]
_BUCKETS = 10
_KNOWN = 1_000
"""Categories that training knows; two rows of a hundred have another."""


def make_rows(count: int, seed: int) -> pa.Table:
    """Columns `id` (int64), 12 of float32, 3 of int64 and 3 of strings."""
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {"id": random.permutation(count) + 1_000_000}
    for index, name in enumerate(_NUMBERS):
        columns[name] = random.lognormal(1.0, 0.5, count).astype(np.float32) * (index + 1)
    for name in (*_CODES, *_WORDS):
        known = random.integers(0, _KNOWN, count)
        columns[name] = np.where(random.random(count) < 0.02, known + _KNOWN, known)
    words = pa.array([f"category-{number:04}" for number in range(2 * _KNOWN)])
    return pa.table(columns | {name: words.take(pa.array(columns[name])) for name in _WORDS})


def labels(rows: pa.Table) -> np.ndarray:
    """int64 (rows,), 0 or 1."""
    last_digit = rows["code_0"].to_numpy() % 10
    return (np.log(rows["number_00"].to_numpy()) + 0.2 * last_digit > 1.9).astype(np.int64)


def raw_spec() -> dict[str, Any]:
    import tensorflow as tf

    dtypes = {
        **dict.fromkeys(_NUMBERS, tf.float32),
        **dict.fromkeys(_CODES, tf.int64),
        **dict.fromkeys(_WORDS, tf.string),
    }
    return {name: tf.io.FixedLenFeature([], dtype) for name, dtype in dtypes.items()}


def save_transform(rows: pa.Table, folder: Path) -> None:
    """Save as a SavedModel: z-scores, buckets of two numbers by their deciles, ids of the known categories."""
    import tensorflow as tf

    vocabulary = folder.with_name("vocabulary.txt")
    vocabulary.write_text("".join(f"category-{number:04}\n" for number in range(_KNOWN)))
    numbers = {name: rows[name].to_numpy() for name in _NUMBERS}
    moments = {name: (float(values.mean()), float(values.std())) for name, values in numbers.items()}
    shares = np.arange(1, _BUCKETS) / _BUCKETS
    deciles = {name: np.quantile(numbers[name], shares).tolist() for name in _BUCKETED}

    class Preprocessing(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            initializer = tf.lookup.TextFileInitializer(
                str(vocabulary),
                *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
                *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
            )
            self.table = tf.lookup.StaticHashTable(initializer, _KNOWN)

        @tf.function(
            input_signature=[
                {name: tf.TensorSpec((None, *each.shape), each.dtype, name) for name, each in raw_spec().items()}
            ]
        )
        def __call__(self, raw: dict[str, Any]) -> dict[str, Any]:
            scaled = {name: (raw[name] - mean) / deviation for name, (mean, deviation) in moments.items()}
            buckets = {
                f"{name}_bucket": tf.cast(tf.raw_ops.Bucketize(input=raw[name], boundaries=boundaries), tf.int64)
                for name, boundaries in deciles.items()
            }
            codes = {name: tf.minimum(raw[name], tf.constant(_KNOWN, tf.int64)) for name in _CODES}
            return {**scaled, **buckets, **codes, **{name: self.table.lookup(raw[name]) for name in _WORDS}}

    tf.saved_model.save(Preprocessing(), str(folder))


def build_estimator(model_dir: str, config: Any = None) -> Any:
    """Two hidden layers, 64 and 32; an embedding of 16 for each of the six categories."""
    import tensorflow as tf

    columns = tf.feature_column
    identity = columns.categorical_column_with_identity
    return tf.estimator.DNNClassifier(
        hidden_units=[64, 32],
        feature_columns=[
            *(columns.numeric_column(name) for name in _NUMBERS),
            *(columns.indicator_column(identity(f"{name}_bucket", _BUCKETS)) for name in _BUCKETED),
            *(columns.embedding_column(identity(name, _KNOWN + 1), 16) for name in (*_CODES, *_WORDS)),
        ],
        model_dir=model_dir,
        config=config,
    )
