"""Whole jobs with a transform: the command's rows are those of an Estimator whose `input_fn` maps with that transform."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow.parquet as pq
import pytest
import zoo_data
from transform_cases import CASES, ROWS, TESTS, Case, Trained, function_sections
from transform_job import TOLERANCE, differences, manifest, predictions_of, read_output, score, write_job, write_shards
from zoo import parsing_spec, transformed

import tensorflow as tf  # isort: skip

import transforms
from pipeline.job.file import load_job
from pipeline.launch import Prepared, prepare
from pipeline.plan import match_shards
from pipeline.scoring import close_scorers

SMALL_BATCHES, ONE_BATCH = (2, 7), (1, 4096)
"""Number of shards and rows of a batch."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("transformed"))


@pytest.mark.parametrize("name", CASES)
def test_rows_are_distinct_and_predictions_vary(name: str, trained: Trained) -> None:
    case = trained.case(name)
    assert len({zoo_data.to_example(row, case.spec) for row in case.rows()}) == ROWS
    for key, values in trained.reference(name, *ONE_BATCH).items():
        if values.dtype == object:
            assert len(set(values.reshape(-1))) > 1, key
        elif key != "given_tips" or "tips" not in case.absent:
            assert np.std(values.astype(np.float64), axis=0).min() > 1e-2, key


@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
@pytest.mark.parametrize("name", CASES)
def test_job_equals_an_estimator_whose_input_is_mapped(
    name: str, record_format: str, trained: Trained, tmp_path: Path
) -> None:
    same, other = (SMALL_BATCHES, ONE_BATCH) if record_format == "tfrecord" else (ONE_BATCH, SMALL_BATCHES)
    case, (shards, size) = trained.case(name), same
    rows = case.rows()
    paths = write_shards(tmp_path, case, zoo_data.split(rows, shards), record_format)
    table = score(write_job(tmp_path, case, trained.model_dir(name), record_format, size))

    assert [
        column for column in zoo_data.PASSTHROUGH if table[column].to_pylist() != [row[column] for row in rows]
    ] == []
    assert list(dict.fromkeys(table["_shard"].to_pylist())) == [str(path) for path in paths]
    assert differences(predictions_of(table), trained.reference(name, *same)) == []
    assert differences(predictions_of(table), trained.reference(name, *other), TOLERANCE) == []


@pytest.mark.parametrize("name", ["tft", "tft-older", "module", "keras"])
def test_a_trainer_that_calls_load_gives_the_reference(name: str, trained: Trained) -> None:
    case = trained.case(name)
    with_load = replace(case, transform=lambda: transforms.load(case.sections["transform"]["path"]))
    predicted = with_load.predict(trained.model_dir(name), [case.rows()], ONE_BATCH[1])
    assert differences(predicted, trained.reference(name, *ONE_BATCH)) == []


def test_module_that_switches_v2_behavior_off(trained: Trained, tmp_path: Path) -> None:
    case = trained.case("tft")
    write_shards(tmp_path, case, zoo_data.split(case.rows(), 2), "tfrecord")
    model = {"estimator": "zoo.transformed_v1:build_estimator"}
    job = write_job(tmp_path, case, trained.model_dir("tft"), "tfrecord", 7, model=model)
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-m", "pipeline", "score", "--config", str(job), "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert differences(predictions_of(read_output(tmp_path)), trained.reference("tft", *SMALL_BATCHES)) == []


# The fingerprint


def prepared(job: Path) -> Prepared:
    """What a launch finds out; its `spec.key` is what the keys of all parts are made of."""
    loaded_job = load_job(str(job), None, [])
    try:
        return prepare(loaded_job, match_shards(loaded_job.input))
    finally:
        close_scorers()


def test_fingerprint_follows_the_content_and_not_the_place(trained: Trained, tmp_path: Path) -> None:
    case = trained.case("tft")
    write_shards(tmp_path, case, [case.rows()], "parquet")
    keys, fingerprints = {}, {}
    for name in ("first", "moved", "permuted"):
        path = tmp_path / name
        shutil.copytree(case.sections["transform"]["path"], path)
        if name == "permuted":
            words = path / "transform_fn" / "assets" / "company"
            lines = words.read_text(encoding="utf-8").splitlines(keepends=True)
            words.write_text("".join(reversed(lines)), encoding="utf-8")
        job = write_job(tmp_path, case, trained.model_dir("tft"), "parquet", 4096, transform={"path": str(path)})
        launch = prepared(job)
        assert launch.transform is not None
        keys[name], fingerprints[name] = launch.spec.key, launch.transform["fingerprint"]
    assert fingerprints["first"] == fingerprints["moved"] != fingerprints["permuted"]
    assert keys["first"] == keys["moved"] != keys["permuted"]

    scored = predictions_of(score(job))
    used = manifest(tmp_path)["transform"]
    assert (used["path"], used["fingerprint"]) == (str(path), fingerprints["permuted"])
    differ = [found.partition(":")[0] for found in differences(scored, trained.reference("tft", *ONE_BATCH))]
    assert differ[-1:] == ["given_company"]


def test_vocabulary_that_a_function_reads_is_among_the_files_of_the_run(trained: Trained, tmp_path: Path) -> None:
    case = trained.case("function")
    write_shards(tmp_path, case, [case.rows()], "parquet")
    launch = prepared(write_job(tmp_path, case, trained.model_dir("function"), "parquet", 4096))
    digest = hashlib.sha256(transformed.VOCABULARY.read_bytes()).hexdigest()
    assert launch.model["assets"] == {str(transformed.VOCABULARY): digest}


# A row on which the transform fails


AMOUNTS: dict[str, dict[str, Any]] = {"amount": {"dtype": "string", "shape": [1]}, "miles": {"dtype": "float32"}}


class Amounts(tf.Module):
    @tf.function(input_signature=[{"amount": tf.TensorSpec((None, 1), tf.string), "miles": tf.TensorSpec((None,))}])
    def transform(self, features: dict[str, Any]) -> dict[str, Any]:
        return transformed.parse_amount(features)


def amounts_case(kind: str, folder: Path) -> Case:
    sections = function_sections("parse_amount", AMOUNTS)
    if kind == "saved":
        tf.saved_model.save(Amounts(), str(folder / "amounts"))
        sections = {"transform": {"path": str(folder / "amounts")}}
    stacked: dict[str, Any] = {"features": ["amount", "miles"], "builder": "transformed:build_stacker"}
    return Case(AMOUNTS, parsing_spec(AMOUNTS), lambda: transformed.parse_amount, sections, **stacked)


@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
@pytest.mark.parametrize("kind", ["function", "saved"])
def test_row_that_the_transform_refuses_costs_itself(kind: str, record_format: str, tmp_path: Path) -> None:
    case, model_dir = amounts_case(kind, tmp_path), str(tmp_path / "model")
    case.train(model_dir)
    rows = case.rows()
    bad = {11: "SECRET", 37: "-4.25"}
    for index, amount in bad.items():
        rows[index]["amount"] = [amount]
    write_shards(tmp_path, case, [rows], record_format)
    table = score(write_job(tmp_path, case, model_dir, record_format, 25, errors={"max_bad_rows": 2}))

    good = [index for index in range(ROWS) if index not in bad]
    assert table["_row"].to_pylist() == good
    reference = case.predict(model_dir, [[rows[index] for index in good]], ROWS)
    assert differences(predictions_of(table), reference, TOLERANCE) == []
    rejected = pq.read_table(next((tmp_path / "out" / "_rejected").glob("part-*.parquet"))).to_pylist()
    assert [(row["_row"], row["_stage"]) for row in rejected] == [(index, "transform") for index in bad]
    for row in rejected:
        assert row["_reason"].startswith("InvalidArgumentError")
        assert not any(amount in row["_reason"] for amount in bad.values())
    assert manifest(tmp_path)["rows"] == {"read": ROWS, "scored": ROWS - 2, "rejected": 2}
