"""The pipeline's own reading of a mutant: `read_input`, and for TFRecord a model that predicts what it was fed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

from fuzz.job import COLUMNS, Row, bits, rows_of
from fuzz.mutants import Mutant
from pipeline.batch import Regrouper
from pipeline.errors import BrokenShard
from pipeline.job import Batch, Input
from pipeline.predict import RowScorer
from pipeline.read import read_input


@dataclass
class Outcome:
    """What became of the rows of a mutant: scored ones by number, reasons of the rejected ones, why it broke if it did."""

    read: int = 0
    scored: dict[int, Row] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)
    broken: str | None = None
    twice: bool = False

    def add(self, number: int, row: Row | str) -> None:
        self.twice |= number in self.scored or number in self.rejected
        if isinstance(row, str):
            self.rejected[number] = row
        else:
            self.scored[number] = row


def run(mutant: Mutant, path: str, scorer: RowScorer | None) -> Outcome:
    """Read, and score if it is TFRecord, the file of a mutant. Whatever is raised here is a finding."""
    outcome = Outcome()
    source = Input.model_validate({"pattern": path, "format": mutant.format})
    batch = Batch(rows=mutant.rows, bytes=mutant.max_bytes)
    regrouper = Regrouper(batch.rows, batch.bytes)
    try:
        for chunk in read_input(path, source, COLUMNS, batch):
            outcome.read += chunk.read
            for rejected in chunk.rejected:
                outcome.add(rejected.row, rejected.reason)
            if scorer is None:
                for number, row in rows_of(chunk.rows):
                    outcome.add(number, row)
            else:
                for rows in regrouper.add(chunk.rows):
                    _score(scorer, rows, outcome)
    except BrokenShard as error:
        outcome.broken = str(error)
    for rows in regrouper.finish():
        assert scorer is not None
        _score(scorer, rows, outcome)
    return outcome


def _score(scorer: RowScorer, rows: Any, outcome: Outcome) -> None:
    scored = scorer.score(rows)
    for rejected in scored.rejected:
        outcome.add(rejected.row, rejected.reason)
    for row in scored.rows.to_pylist():
        words = tuple(_netstrings(row["words"]))
        outcome.add(row["_row"], Row(bits(row["x"]), row["n"], bits(*row["pixels"]), words, row["id"], row["note"]))


def _netstrings(text: bytes) -> list[bytes]:
    words = []
    while text:
        size, _, rest = text.partition(b":")
        words.append(rest[: int(size)])
        text = rest[int(size) :]
    return words


def echo_scorer() -> RowScorer:
    """A scorer of a real Estimator and checkpoint whose predictions are its features, bit for bit."""
    import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

    import pyarrow as pa
    import tensorflow as tf

    from pipeline import checkpoint as checkpoints
    from pipeline.graph_input import RecordInput
    from pipeline.model import build_model
    from pipeline.outputs import output_columns

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        words = tf.sparse.map_values(
            lambda some: tf.strings.join([tf.strings.as_string(tf.strings.length(some)), some], ":"), features["words"]
        )
        predictions = {
            "x": features["x"],
            "n": features["n"],
            "pixels": tf.reshape(features["pixels"], [-1, 4]),
            "words": tf.strings.reduce_join(tf.sparse.to_dense(words, ""), axis=1),
        }
        step = tf.compat.v1.train.get_global_step()
        return tf.estimator.EstimatorSpec(
            mode, predictions, loss=tf.constant(0.0), train_op=tf.compat.v1.assign_add(step, 1)
        )

    def input_fn() -> Any:
        words = tf.sparse.from_dense([["a"]])
        return {"x": [0.0], "n": [0], "pixels": [[[0.0, 0.0], [0.0, 0.0]]], "words": words}, [0]

    with tempfile.TemporaryDirectory() as folder:
        estimator = tf.estimator.Estimator(model_fn, folder)
        estimator.train(lambda: tf.data.Dataset.from_tensors(input_fn()), steps=1)
        model = build_model(estimator, checkpoints.resolve(folder, "latest"), RecordInput(COLUMNS))
    outputs = output_columns(model.predictions, None, {"words": pa.binary()})
    return RowScorer(model, COLUMNS, outputs, non_finite="keep")
