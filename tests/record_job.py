"""Jobs of models that have a parity record, what `check` says of them, and changes that make the record another's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import record_model
import tensorflow as tf
import yaml
import zoo_data
from zoo import Kind, parsing_spec

import transforms
from pipeline.commands import main

TESTS = Path(__file__).parent
ROWS = record_model.make_rows(130, seed=3)
VERIFIED = "verified, largest difference 0"


def train_elsewhere(folder: Path) -> None:
    """What a trainer leaves behind in a process of its own: transform, model and record; beside them shards in two formats."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    done = subprocess.run(
        [sys.executable, record_model.__file__, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with tf.io.TFRecordWriter(str(folder / "rows.tfrecord")) as writer:
        for example in record_model.to_examples(ROWS):
            writer.write(example)
    pq.write_table(pa.table({name: pa.array(list(values)) for name, values in ROWS.items()}), folder / "rows.parquet")


def write_job(folder: Path, record_format: str = "tfrecord", **model: Any) -> Path:
    job = {
        "name": "recorded",
        "code": [str(TESTS / "record_model.py")],
        "input": {"pattern": str(folder / f"rows.{record_format}")},
        "transform": {"path": str(folder / "transform")},
        "model": {"estimator": "record_model:build_estimator", "model_dir": str(folder / "model"), **model},
        "output": {"path": str(folder / "out")},
    }
    return save_job(folder, job)


def save_job(folder: Path, job: dict[str, Any]) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def zoo_job(folder: Path, kind: Kind, model_dir: str, record_format: str = "tfrecord") -> dict[str, Any]:
    """A job for a kind of the zoo whose record lies in `folder`; its shard is written."""
    path = folder / f"rows.{record_format}"
    writer = {"tfrecord": zoo_data.write_tfrecord, "parquet": zoo_data.write_parquet}[record_format]
    writer(path, zoo_data.make_rows(kind, 30, seed=5), kind.spec)
    return {
        "name": "zoo",
        "code": [str(TESTS / "zoo")],
        "input": {"pattern": str(path)},
        "features": {name: dict(feature) for name, feature in kind.spec.items()},
        "model": {**kind.module.model_section(), "model_dir": model_dir, "record": str(folder / "record")},
        "output": {"path": str(folder / "out")},
    }


def record_zoo(folder: Path, kind: Kind, model_dir: str, **options: Any) -> None:
    examples = [zoo_data.to_example(row, kind.spec) for row in zoo_data.make_rows(kind)]
    transforms.record(
        kind.estimator(model_dir),
        examples,
        raw_spec=parsing_spec(kind.spec),
        features=kind.module.model_section().get("features"),
        folder=str(folder / "record"),
        **options,
    )


def linear_job(folder: Path, model_dir: str) -> Path:
    columns = linear_model.make_columns(30, seed=2)
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / "rows.parquet")
    job = {
        "name": "linear",
        "code": [str(TESTS / "linear_model.py")],
        "input": {"pattern": str(folder / "rows.parquet")},
        "features": linear_model.FEATURES,
        "model": {**linear_model.MODEL, "model_dir": model_dir, "record": str(folder / "record")},
        "output": {"path": str(folder / "out")},
    }
    return save_job(folder, job)


class Check:
    """Runs `check`; what it says of the record, or what it refuses the job with."""

    def __init__(self, capsys: pytest.CaptureFixture[str]):
        self._capsys = capsys

    def state(self, job: Path) -> str:
        code = main(["check", "--config", str(job)])
        printed = self._capsys.readouterr()
        assert code == 0, printed.err
        return next(line for line in printed.out.splitlines() if line.startswith("record "))[len("record") :].strip()

    def refusal(self, job: Path, exit_code: int = 6) -> str:
        code = main(["check", "--config", str(job)])
        printed = self._capsys.readouterr()
        assert code == exit_code, printed.out + printed.err
        return printed.err


def add_word(folder: Path) -> None:
    with (folder / "transform" / "assets" / "words.txt").open("a", encoding="utf-8") as file:
        file.write("elk\n")


def permute_words(folder: Path) -> None:
    path = folder / "transform" / "assets" / "words.txt"
    path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")


def drop_word(folder: Path) -> None:
    path = folder / "transform" / "assets" / "words.txt"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def change_word(folder: Path) -> None:
    path = folder / "transform" / "assets" / "words.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("bee", "owl"), encoding="utf-8")


def other_mean(folder: Path) -> None:
    shutil.rmtree(folder / "transform")
    record_model.save_transform(folder / "transform", mean=2.5)


def change_sample(folder: Path, column: str, values: list[Any]) -> None:
    (path,) = (folder / "model" / "record").glob("*.arrow")
    recorded = pa.ipc.open_file(path).read_all()
    position = recorded.schema.get_field_index(column)
    changed = recorded.set_column(position, column, pa.array(values, recorded.schema.field(column).type))
    with pa.ipc.new_file(path, recorded.schema) as writer:
        writer.write_table(changed)
