"""SavedModels of every making, and what their signatures give: asked with TensorFlow's own loader, without the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import yaml

tf1 = tf.compat.v1
ROWS = 30
SPEC = {
    "numbers": {"dtype": "float32", "shape": [3]},
    "count": {"dtype": "int64"},
    "color": {"dtype": "string"},
    "words": {"dtype": "string", "kind": "varlen"},
}
PARSING = {
    "numbers": tf.io.FixedLenFeature([3], tf.float32),
    "count": tf.io.FixedLenFeature([], tf.int64),
    "color": tf.io.FixedLenFeature([], tf.string, "red"),
    "words": tf.io.VarLenFeature(tf.string),
}
COLORS = ["red", "green", "blue"]


def make_columns(rows: int = ROWS) -> dict[str, list[Any]]:
    random = np.random.default_rng(4)
    return {
        "numbers": random.normal(size=(rows, 3)).astype(np.float32).tolist(),
        "count": random.integers(0, 9, rows).tolist(),
        "color": [COLORS[index % 3] for index in range(rows)],
        "words": [[f"word {number}" for number in range(index % 4)] for index in range(rows)],
    }


def make_examples(columns: dict[str, list[Any]]) -> list[bytes]:
    records = []
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        feature = {
            "numbers": tf.train.Feature(float_list=tf.train.FloatList(value=row["numbers"])),
            "count": tf.train.Feature(int64_list=tf.train.Int64List(value=[row["count"]])),
            "color": tf.train.Feature(bytes_list=tf.train.BytesList(value=[row["color"].encode()])),
            "words": tf.train.Feature(bytes_list=tf.train.BytesList(value=[word.encode() for word in row["words"]])),
        }
        records.append(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return records


def write_tfrecord(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_records(folder / "rows.tfrecord", make_examples(make_columns()))


def write_records(path: Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def write_parquet(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(make_columns()), folder / "rows.parquet")


def estimator(model_dir: str) -> Any:
    """As its trainer builds it: batch normalization, a table of a vocabulary file in `assets`, sparse and dense features."""
    config = tf.estimator.RunConfig(model_dir, tf_random_seed=5, save_summary_steps=10_000)
    return tf.estimator.Estimator(
        model_fn, config=config, params={"vocabulary": str(Path(model_dir).parent / "colors.txt")}
    )


def model_fn(features, labels, mode, params):
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            params["vocabulary"],
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        num_oov_buckets=1,
    )
    words = tf.sparse.reduce_sum(
        tf.SparseTensor(
            features["words"].indices, tf.ones_like(features["words"].values, tf.float32), features["words"].dense_shape
        ),
        axis=1,
    )
    columns = [
        features["numbers"],
        tf.cast(features["count"], tf.float32)[:, None],
        tf.one_hot(table.lookup(features["color"]), 4),
        tf.reshape(words, (-1, 1)),
    ]
    hidden = tf1.layers.dense(tf.concat(columns, 1), 6, tf.nn.relu, name="hidden")
    hidden = tf1.layers.batch_normalization(hidden, training=is_training, name="norm")
    scores = tf1.layers.dense(hidden, 2, name="out")
    predictions = {
        "scores": scores,
        "label": tf.argmax(scores, 1),
        "word": tf.gather(tf.constant(["no", "yes"]), tf.argmax(scores, 1)),
    }
    if mode == tf.estimator.ModeKeys.PREDICT:
        outputs = {"serving_default": tf.estimator.export.PredictOutput(predictions)}
        outputs["only_scores"] = tf.estimator.export.PredictOutput({"scores": scores})
        return tf.estimator.EstimatorSpec(mode, predictions, export_outputs=outputs)
    loss = tf1.losses.sparse_softmax_cross_entropy(labels, scores)
    step = tf1.train.AdamOptimizer(0.05).minimize(loss, tf1.train.get_global_step())
    with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
        return tf.estimator.EstimatorSpec(mode, predictions, loss, tf.group(step))


def train(folder: Path) -> Any:
    """Train for a moment; `folder/model` is the model_dir."""
    (folder / "colors.txt").write_text("green\nred\nblue\n", encoding="utf-8")
    trained = estimator(str(folder / "model"))
    records, labels = make_examples(make_columns()), np.arange(ROWS) % 2

    def input_fn():
        rows = tf.data.Dataset.from_tensor_slices((records, labels)).repeat().batch(ROWS)
        return rows.map(lambda batch, label: (tf.io.parse_example(batch, PARSING), label))

    trained.train(input_fn, steps=5)
    return trained


def parsing_receiver() -> Any:
    return tf.estimator.export.build_parsing_serving_input_receiver_fn(PARSING)()


def raw_receiver() -> Any:
    """Of tensors by name; the receiver calls one of them by another name than the model."""
    features = {
        "numbers": tf1.placeholder(tf.float32, (None, 3)),
        "count": tf1.placeholder(tf.int64, (None,)),
        "color": tf1.placeholder(tf.string, (None,)),
        "words": tf1.sparse_placeholder(tf.string, (None, None)),
    }
    return tf.estimator.export.ServingInputReceiver(features, features)


def of_signature(folder: str, name: str, batch: int, by_name: bool) -> dict[str, np.ndarray]:
    """What TensorFlow's own loader gives for the rows, in batches of so many."""
    columns = make_columns()
    found: list[dict[str, np.ndarray]] = []
    with tf.Graph().as_default(), tf1.Session() as session:
        signature = tf1.saved_model.load(session, ["serve"], folder).signature_def[name]
        outputs = {key: info.name for key, info in signature.outputs.items()}
        for start in range(0, ROWS, batch):
            some = {key: values[start : start + batch] for key, values in columns.items()}
            if not by_name:
                (info,) = signature.inputs.values()
                found.append(session.run(outputs, {info.name: make_examples(some)}))
                continue
            feeds = {signature.inputs[key].name: some[key] for key in ("numbers", "count", "color")}
            sparse = signature.inputs["words"].coo_sparse
            feeds[sparse.values_tensor_name] = [word for row in some["words"] for word in row]
            places = [(row, column) for row, kept in enumerate(some["words"]) for column in range(len(kept))]
            feeds[sparse.indices_tensor_name] = np.array(places, np.int64).reshape(-1, 2)
            feeds[sparse.dense_shape_tensor_name] = [len(some["words"]), max(map(len, some["words"]))]
            found.append(session.run(outputs, feeds))
    return {key: np.concatenate([batch[key] for batch in found]) for key in outputs}


def write_job(folder: Path, saved_model: str, **sections: Any) -> Path:
    """A job file over the shards of `folder/rows`, in one format, with its output in `folder/out`."""
    shard = next((folder / "rows").iterdir())
    job = {
        "name": "export",
        "input": {"pattern": str(folder / "rows" / f"*{shard.suffix}")},
        "model": {"saved_model": saved_model, **sections.pop("model", {})},
        "batch": {"rows": 7},
        "output": {"path": str(folder / "out")},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job | sections), encoding="utf-8")
    return path


def read_scores(folder: Path) -> dict[str, np.ndarray]:
    table = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "out").glob("part-*.parquet")))
    names = [name for name in table.column_names if not name.startswith("_")]
    return {name: np.array(table[name].to_pylist()) for name in names}


class Words(tf.Module):
    """A model of TensorFlow 2: a table of a file, a variable, and signatures by name, by record and of a fixed batch."""

    def __init__(self, vocabulary: str):
        super().__init__()
        self.table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            num_oov_buckets=1,
        )
        self.weights = tf.Variable([0.5, 1.5, 2.5, 3.5])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="color")])
    def of_text(self, color):
        return {"score": tf.gather(self.weights, self.table.lookup(color))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def of_examples(self, examples):
        return self.of_text(tf.io.parse_example(examples, {"color": PARSING["color"]})["color"])

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], tf.float32, name="numbers"),
            tf.TensorSpec([None], tf.int32, name="count"),
        ]
    )
    def of_numbers(self, numbers, count):
        return {"sum": tf.reduce_sum(numbers, 1) + tf.cast(count, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([4, 3], tf.float32, name="numbers")])
    def of_four(self, numbers):
        return {"sum": tf.reduce_sum(numbers, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="numbers")])
    def of_batch(self, numbers):
        return {"share": tf.nn.softmax(numbers[:, 0], axis=0)}


def save_words(folder: Path) -> str:
    """Save `Words`; the vocabulary it was made with is gone afterwards."""
    vocabulary = folder / "vocabulary.txt"
    vocabulary.write_text("blue\nred\ngreen\n", encoding="utf-8")
    model = Words(str(vocabulary))
    names = {
        "serving_default": "of_text",
        "examples": "of_examples",
        "numbers": "of_numbers",
        "four": "of_four",
        "batch": "of_batch",
    }
    tf.saved_model.save(model, str(folder / "words"), {name: getattr(model, method) for name, method in names.items()})
    vocabulary.unlink()
    return str(folder / "words")
