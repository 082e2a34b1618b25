"""Whole runs with input and output on object stores, held against the same run on a local disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from object_stores import Line

from pipeline import files
from pipeline.errors import OutputError
from pipeline.job.file import load_job
from pipeline.manifest import read_manifest
from pipeline.report import Report
from pipeline.run import score

pytestmark = pytest.mark.any_tensorflow

NAMES = ["a b.{}", "ä%20.{}", "deep/er/c.{}"]
ROWS = 20
"""Of each shard."""


def write_shard(path: Path, format: str, seed: int) -> None:
    columns = linear_model.make_columns(ROWS, seed)
    if format == "tfrecord":
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in linear_model.to_examples(columns):
                writer.write(record)
    else:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)


def scored(output: str) -> pa.Table:
    """All published rows, in order, with the base names of their shards."""
    tables = []
    for info in files.match(files.join(output, "part-*.parquet")):
        with files.open_read(info.path) as file:
            tables.append(pq.read_table(file))
    table = pa.concat_tables(tables)
    names = [path.rpartition("/in/")[2] for path in table.column("_shard").to_pylist()]
    return table.drop_columns(["_shard"]).append_column("shard", pa.array(names)).sort_by([("shard", "ascending")])


class Bench:
    """A job file whose input and output lie under `root`, after its shards were put there."""

    def __init__(self, root: str, folder: Path, model_dir: str, format: str = "parquet"):
        self.input, self.output, self.format = f"{root}/in", f"{root}/out dir/ü", format
        self._folder = folder
        self._settings: dict[str, Any] = {
            "name": "stores",
            "code": [linear_model.__file__],
            "input": {"pattern": f"{self.input}/**/*.{format}"},
            "features": linear_model.FEATURES,
            "model": {**linear_model.MODEL, "model_dir": model_dir},
            "output": {"path": self.output},
        }
        for seed, name in enumerate(NAMES):
            self.put(name, seed)

    def put(self, name: str, seed: int) -> None:
        local = self._folder / "shard"
        write_shard(local, self.format, seed)
        files.copy(str(local), f"{self.input}/{name.format(self.format)}")

    def score(self, **output: Any) -> Report:
        path = self._folder / "job.yaml"
        path.write_text(yaml.safe_dump({**self._settings, "output": {**self._settings["output"], **output}}))
        return score(load_job(str(path)), quiet=True)


@pytest.fixture
def bench(bucket: str, tmp_path: Path, linear_model_dir: str) -> Callable[..., Bench]:
    def make(format: str = "parquet") -> Bench:
        return Bench(bucket, tmp_path, linear_model_dir, format)

    return make


@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_the_same_as_on_a_local_disk(
    bench: Callable[..., Bench], tmp_path: Path, linear_model_dir: str, format: str
) -> None:
    local = Bench(str(tmp_path), tmp_path, linear_model_dir, format)
    local.score()
    remote = bench(format)
    report = remote.score()

    assert report.rows == {"read": 3 * ROWS, "scored": 3 * ROWS, "rejected": 0}
    assert scored(remote.output).equals(scored(local.output))
    assert len(np.unique(scored(remote.output).column("score"))) == 3 * ROWS
    published = {files.base_name(info.path) for info in files.match(f"{remote.output}/**")}
    assert published == {*(f"part-{part:05d}-of-00003.parquet" for part in range(3)), "_SUCCESS", "_manifest.json"}
    manifest = read_manifest(remote.output)
    assert manifest is not None
    assert {shard["path"] for shard in manifest["shards"]} == {
        f"{remote.input}/{name.format(format)}" for name in NAMES
    }
    assert [file["bytes"] for file in manifest["files"]] == [
        files.size(f"{remote.output}/{file['path']}") for file in manifest["files"]
    ]


def test_an_output_that_is_there(bench: Callable[..., Bench]) -> None:
    remote = bench()
    remote.score()
    first = files.read_bytes(f"{remote.output}/_SUCCESS")
    with pytest.raises(OutputError, match="out dir/ü"):
        remote.score()
    assert remote.score(if_exists="skip").status == "skipped"
    assert files.read_bytes(f"{remote.output}/_SUCCESS") == first

    remote.put("d.{}", 7)
    remote.score(if_exists="overwrite")

    assert files.read_bytes(f"{remote.output}/_SUCCESS") != first
    names = [files.base_name(info.path) for info in files.list_folder(remote.output)]
    assert names == ["_SUCCESS", "_manifest.json", *(f"part-{part:05d}-of-00004.parquet" for part in range(4))]
    assert scored(remote.output).num_rows == 4 * ROWS


def test_a_run_that_failed_is_taken_up_again(bench: Callable[..., Bench]) -> None:
    remote = bench()
    whole = files.read_bytes(f"{remote.input}/ä%20.parquet")
    files.write_bytes(f"{remote.input}/ä%20.parquet", whole[: len(whole) // 2])
    with pytest.raises(Exception, match="1 of 3 shards are broken"):
        remote.score()
    assert not files.exists(f"{remote.output}/_SUCCESS")

    files.write_bytes(f"{remote.input}/ä%20.parquet", whole)
    remote.score()

    manifest = read_manifest(remote.output)
    assert manifest is not None
    assert manifest["resumed_parts"] == 2
    assert scored(remote.output).num_rows == 3 * ROWS


@pytest.mark.fault("store-away")
def test_a_line_that_fails_all_the_time(bench: Callable[..., Bench], line: Line, pauses: list[float]) -> None:
    remote = bench()
    faults = itertools.cycle([None, None, "503", None, None, "reset", None, None, "lost", None, None, "cut"])
    line.fault = lambda method, path: next(faults)
    report = remote.score()
    line.fault = lambda method, path: None

    assert report.rows == {"read": 3 * ROWS, "scored": 3 * ROWS, "rejected": 0}
    assert scored(remote.output).num_rows == 3 * ROWS
    assert not files.match(f"{remote.output}/_temporary/**")
    assert len(line.befallen) > 10
    assert pauses
