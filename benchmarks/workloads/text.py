"""Strings and lists of any length: a text, a category, a bag of tokens and a list of numbers; embedding bags on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROW_GROUP = 65_536
ID = pa.string()
PREDICTIONS = {"probabilities": pa.list_(pa.float32(), 4), "label": pa.string()}
SIGNATURE = "serving_default"
"""Of a SavedModel that is exported."""
_LABELS = ("culture", "economy", "politics", "sport")
_COUNTRIES = 30
_VOCABULARY = 20_000
_SEEN = 5_000
"""Numbers that the history may hold."""
_EMBEDDING = 16


def make_rows(count: int, seed: int) -> pa.Table:
    """Columns `id`, `country` and `title` (strings), `tags` (list of strings, 0 to 6), `history` (list of int64, 0 to 30).

    Words are as frequent as in a language, one in a hundred unknown to the vocabulary; a title has 4 to 12.
    """
    random = np.random.default_rng(seed)
    words = pa.array(_words(_VOCABULARY + 2_000))
    titles = _lists(words.take(pa.array(_zipf(random, count * 12, len(words)))), random.integers(4, 13, count))
    tags = _lists(words.take(pa.array(_zipf(random, count * 6, len(words)))), random.integers(0, 7, count))
    history = _lists(pa.array(_zipf(random, count * 30, _SEEN)), random.integers(0, 31, count))
    return pa.table(
        {
            "id": [f"article-{number:09}" for number in random.permutation(count).tolist()],
            "country": pa.array(_words(_COUNTRIES)).take(pa.array(random.integers(0, _COUNTRIES, count))),
            "title": pc.binary_join(titles, " "),
            "tags": tags,
            "history": history,
        }
    )


def labels(rows: pa.Table) -> np.ndarray:
    """int64 (rows,), 0 to 3."""
    seen = pc.list_value_length(rows["history"]).to_numpy() > 15
    long = pc.utf8_length(rows["title"]).to_numpy() > 55
    return (2 * seen + long).astype(np.int64)


def raw_spec() -> dict[str, Any]:
    import tensorflow as tf

    return {
        "country": tf.io.FixedLenFeature([], tf.string),
        "title": tf.io.FixedLenFeature([], tf.string),
        "tags": tf.io.VarLenFeature(tf.string),
        "history": tf.io.RaggedFeature(tf.int64),
    }


def write_vocabulary(model_dir: Path) -> None:
    """The words that the model knows, where it looks for them."""
    model_dir.mkdir(parents=True, exist_ok=True)
    (model_dir / "vocabulary.txt").write_text("".join(f"{word}\n" for word in _words(_VOCABULARY)))


def model_fn(features: dict[str, Any], labels: Any, mode: str, params: dict[str, Any]) -> Any:
    """Sums of embeddings of all that a row has, a hidden layer, four classes.

    Predictions: `probabilities`, float32 (rows, 4), and `label`, string (rows,).
    """
    import tensorflow.compat.v1 as tf

    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            params["vocabulary"],
            *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
            *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
        ),
        num_oov_buckets=16,
    )
    words = tf.get_variable("words", (_VOCABULARY + 16, _EMBEDDING))
    seen = tf.get_variable("seen", (_SEEN, _EMBEDDING))
    countries = tf.get_variable("countries", (100, _EMBEDDING))
    title = tf.strings.split(features["title"])

    def bag(embedding: Any, ids: Any) -> Any:
        return tf.nn.safe_embedding_lookup_sparse(embedding, ids, combiner="sum")

    inputs = [
        *(
            bag(words, tf.SparseTensor(t.indices, table.lookup(t.values), t.dense_shape))
            for t in (title, features["tags"])
        ),
        bag(seen, features["history"].to_sparse()),
        tf.nn.embedding_lookup(countries, tf.strings.to_hash_bucket_fast(features["country"], 100)),
    ]
    hidden = tf.layers.dense(tf.concat(inputs, axis=1), 32, activation=tf.nn.relu)
    logits = tf.layers.dense(hidden, len(_LABELS))
    predictions = {
        "probabilities": tf.nn.softmax(logits),
        "label": tf.gather(tf.constant(_LABELS), tf.argmax(logits, axis=1)),
    }
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    train_op = tf.train.AdamOptimizer(0.01).minimize(loss, tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def build_estimator(model_dir: str, config: Any = None) -> Any:
    import tensorflow as tf

    return tf.estimator.Estimator(model_fn, model_dir, config, params={"vocabulary": f"{model_dir}/vocabulary.txt"})


def _words(count: int) -> list[str]:
    """Distinct words of 2 to 11 letters, the same ones every time."""
    random = np.random.default_rng(3)
    letters = random.integers(ord("a"), ord("z") + 1, (2 * count, 11), np.uint8)
    lengths = random.integers(2, 12, 2 * count)
    words = (row.tobytes()[:length].decode() for row, length in zip(letters, lengths.tolist(), strict=True))
    return list(dict.fromkeys(words))[:count]


def _zipf(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Ranks 0 to size - 1, a rank as frequent as 1 / (rank + 10)."""
    ends = np.cumsum(1 / (np.arange(size) + 10))
    return np.searchsorted(ends, random.random(count) * ends[-1])


def _lists(values: pa.Array, lengths: np.ndarray) -> pa.Array:
    """Lists of these lengths, of the first values."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.slice(0, int(offsets[-1])))
