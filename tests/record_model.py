"""A model behind a transform with a vocabulary and a mean, as a user has it; as a program it trains and records.

python tests/record_model.py FOLDER    writes FOLDER/transform and FOLDER/model
"""

from __future__ import annotations

import sys
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import tensorflow as tf

import transforms

WORDS = ("ant", "bee", "cow", "dog")


class Preprocessing(tf.Module):
    """Words to their place in a vocabulary file, amounts less their mean."""

    def __init__(self, vocabulary: str, mean: float):
        super().__init__()
        self.mean = tf.Variable(mean)
        initializer = tf.lookup.TextFileInitializer(
            vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        self.table = tf.lookup.StaticHashTable(initializer, len(WORDS))

    @tf.function(
        input_signature=[{"amount": tf.TensorSpec((None,), tf.float32), "word": tf.TensorSpec((None,), tf.string)}]
    )
    def __call__(self, features):
        return {"centred": features["amount"] - self.mean, "word_id": self.table.lookup(features["word"])}


def save_transform(folder, mean=2.0):
    vocabulary = Path(folder).parent / "words.txt"
    vocabulary.write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    tf.saved_model.save(Preprocessing(str(vocabulary), mean), str(folder))


def make_rows(count, seed=0):
    """Columns of distinct rows; one word in eight is in no vocabulary."""
    random = np.random.default_rng(seed)
    words = np.array([*WORDS, *WORDS[:3], "elk"], object)[random.integers(0, 8, count)]
    return {"amount": random.normal(2, 1, count).astype(np.float32), "word": words}


def to_examples(rows):
    examples = []
    for amount, word in zip(rows["amount"], rows["word"], strict=True):
        example = tf.train.Example()
        example.features.feature["amount"].float_list.value.append(amount)
        example.features.feature["word"].bytes_list.value.append(word.encode())
        examples.append(example.SerializeToString())
    return examples


def model_fn(features, labels, mode):
    words = tf.one_hot(features["word_id"], len(WORDS) + 1)
    logits = tf.compat.v1.layers.dense(tf.concat([features["centred"][:, None], words], 1), 2)
    if mode == tf.estimator.ModeKeys.PREDICT:
        names = tf.constant(["no", "yes"])
        predictions = {"probabilities": tf.nn.softmax(logits), "answer": tf.gather(names, tf.argmax(logits, 1))}
        return tf.estimator.EstimatorSpec(mode, predictions)
    loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.5)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    )


def build_estimator(model_dir):
    config = tf.estimator.RunConfig(model_dir, tf_random_seed=1, keep_checkpoint_max=None)
    return tf.estimator.Estimator(model_fn, config=config)


def train(folder, steps):
    """Train so many steps more, through the transform in `folder`; returns Estimator and transform."""
    estimator, transform = build_estimator(str(folder / "model")), transforms.load(str(folder / "transform"))

    def input_fn():
        rows = make_rows(64, seed=1)
        labels = [int(word in ("ant", "cow")) for word in rows["word"]]
        dataset = tf.data.Dataset.from_tensors((rows, labels)).repeat()
        return dataset.map(lambda features, label: (transform(features), label))

    estimator.train(input_fn, steps=steps)
    return estimator, transform


def main():
    folder = Path(sys.argv[1])
    save_transform(folder / "transform")
    estimator, transform = train(folder, steps=20)
    transforms.record(estimator, make_rows(300, seed=2), transform)


if __name__ == "__main__":
    main()
