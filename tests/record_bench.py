"""What the tests of records and of their features share: a model trained on serialized records, shards of them, and a job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from test_equal_to_predict import TOLERANCE, read_output
from test_equal_to_predict import predictions_of as _between

from pipeline.commands import main

TESTS = Path(__file__).resolve().parent
BATCH = 7
PASSTHROUGH = {"id": {"from": "id", "dtype": "int64"}, "note": {"from": "note", "dtype": "string"}}
Row = dict[str, Any]
Parse = Callable[[Any], Any]


def to_example(row: Row) -> bytes:
    """A row as a serialized tf.Example: field -> value or list, None where there is none."""
    found = tf.train.Example()
    for name, value in row.items():
        if value is not None:
            fill(found.features.feature[name], value)
    return found.SerializeToString(deterministic=True)


def fill(feature: Any, value: Any) -> None:
    """Put values, nested or not, into a tf.train.Feature; whole numbers go to the int64 list."""
    flat = np.ravel(np.array(value)).tolist()
    if flat and isinstance(flat[0], str):
        feature.bytes_list.value.extend(text.encode() for text in flat)
    elif flat and isinstance(flat[0], int):
        feature.int64_list.value.extend(flat)
    elif flat:
        feature.float_list.value.extend(flat)


class Bench:
    """A model, trained for a moment, and rows in two shards."""

    def __init__(self, folder: Path, module: Any, shards: Sequence[Sequence[bytes]], parse: Parse, labels: Any):
        self.model_dir = str(folder / "model")
        self.shards, self.parse = shards, parse
        config = tf.estimator.RunConfig(model_dir=self.model_dir, tf_random_seed=7, save_summary_steps=10_000)
        self.estimator = module.build_estimator(self.model_dir, config)
        self.module = module
        records = [record for shard in shards for record in shard]

        def input_fn() -> Any:
            dataset = tf.data.Dataset.from_tensor_slices((records, np.float32(labels))).repeat().batch(16)
            return dataset.map(lambda batch, label: (parse(batch), label))

        self.estimator.train(input_fn, steps=10)

    def predict(self, batch: int = BATCH, parse: Parse | None = None) -> dict[str, np.ndarray]:
        """What `Estimator.predict` gives, in batches that do not cross shards."""

        def batches() -> Iterator[list[bytes]]:
            for shard in self.shards:
                for start in range(0, len(shard), batch):
                    yield list(shard[start : start + batch])

        def input_fn() -> Any:
            dataset = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec([None], tf.string))
            return dataset.map(parse or self.parse)

        found = list(self.estimator.predict(input_fn, yield_single_examples=False))
        return {key: np.concatenate([each[key] for each in found]) for key in found[0]}

    def write_records(self, folder: Path) -> None:
        for number, shard in enumerate(self.shards):
            with tf.io.TFRecordWriter(str(folder / f"rows-{number}.tfrecord")) as writer:
                for record in shard:
                    writer.write(record)

    def job(self, folder: Path, extension: str = "tfrecord", **sections: Any) -> Path:
        """A job file over the shards in a folder; what a section says goes over what stands here."""
        job: dict[str, Any] = {
            "name": "records",
            "code": [str(TESTS / "zoo")],
            "input": {"pattern": str(folder / f"rows-*.{extension}")},
            "model": {**self.module.model_section(), "model_dir": self.model_dir},
            "batch": {"rows": BATCH},
            "output": {"path": str(folder / "out"), "passthrough": PASSTHROUGH},
        }
        for name, section in sections.items():
            both = isinstance(section, Mapping) and name in job
            job[name] = {**job[name], **section} if both else section
        path = folder / "job.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")
        return path

    def export_job(self, folder: Path, receiver: Callable[[], Any], **sections: Any) -> Path:
        """The job over an export that the model makes of itself."""
        path = self.job(folder, **sections)
        job = json.loads(path.read_text(encoding="utf-8"))
        job["model"] = {"saved_model": self.estimator.export_saved_model(str(folder / "export"), receiver).decode()}
        path.write_text(json.dumps(job), encoding="utf-8")
        return path


def write_rows(folder: Path, shards: Sequence[Sequence[Row]], extension: str) -> None:
    """Rows as Parquet or JSON lines."""
    for number, rows in enumerate(shards):
        path = folder / f"rows-{number}.{extension}"
        if extension == "parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path)
        elif extension == "csv":
            names = list(rows[0])
            lines = [",".join(names), *(",".join(_cell(row[name]) for name in names) for row in rows)]
            path.write_text("".join(line + "\r\n" for line in lines), encoding="utf-8")
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, str)):
        text = json.dumps(value) if isinstance(value, list) else value
        return '"' + text.replace('"', '""') + '"'
    return repr(value)


def score(job: Path) -> pa.Table:
    assert main(["score", "--config", str(job), "--quiet"]) == 0
    return read_output(job.parent)


def predictions_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns between `id` and `note` and the row's place."""
    return _between(table)


def manifest(job: Path) -> dict[str, Any]:
    return json.loads((job.parent / "out" / "_manifest.json").read_text(encoding="utf-8"))


def rejected(job: Path) -> list[tuple[int, str, str]]:
    """Number, stage and reason of every rejected row."""
    paths = sorted((job.parent / "out" / "_rejected").glob("*.parquet"))
    rows = pa.concat_tables(pq.read_table(path) for path in paths).to_pylist()
    return [(row["_row"], row["_stage"], row["_reason"]) for row in rows]


def refusal(job: Path, capsys: pytest.CaptureFixture[str], command: str = "check") -> tuple[int, str]:
    """Exit code and message of a command that is refused."""
    code = main([command, "--config", str(job)])
    return code, capsys.readouterr().err


def differences(scored: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> list[str]:
    """What is not the very same."""
    if set(scored) != set(wanted):
        return [f"keys {sorted(scored)} in place of {sorted(wanted)}"]
    same = {name: np.array_equal(scored[name], values) for name, values in wanted.items()}
    return [f"{name}: {scored[name].shape} and {wanted[name].shape}" for name, equal in same.items() if not equal]


def close(scored: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> list[str]:
    """What differs beyond the tolerance of the design."""
    found = []
    for name, values in wanted.items():
        bound = TOLERANCE * max(1.0, float(np.abs(values).max()))
        if scored[name].shape != values.shape or not (np.abs(scored[name] - values) <= bound).all():
            found.append(name)
    return found


__all__ = [
    "BATCH", "PASSTHROUGH", "Bench", "close", "differences", "fill", "manifest", "predictions_of", "refusal",
    "rejected", "score", "to_example", "write_rows",
]  # fmt: skip
