"""The parity record: written by a trainer in a process of its own, replayed before scoring."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import numpy as np
import pyarrow as pa
import pytest
import record_model
import tensorflow as tf
from record_job import (
    ROWS,
    VERIFIED,
    Check,
    add_word,
    change_sample,
    linear_job,
    permute_words,
    record_zoo,
    save_job,
    write_job,
    zoo_job,
)
from zoo import KINDS, Kind

import transforms
from pipeline import checkpoint as checkpoints
from pipeline.commands import main
from pipeline.errors import BadRows, JobError, ModelError
from pipeline.record.file import read_record


def test_score_of_another_process_is_verified_in_manifest_and_report(recorded: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(["score", "--config", str(write_job(recorded)), "--quiet", "--report", str(report)]) == 0

    expected = {"state": "verified", "max_difference": 0.0}
    assert json.loads((recorded / "out" / "_manifest.json").read_text())["record"] == expected
    assert json.loads(report.read_text())["record"] == expected


def test_record_replays_through_columns_too(recorded: Path, check: Check) -> None:
    assert check.state(write_job(recorded, "parquet")) == VERIFIED


def test_record_holds_what_predict_gave(recorded: Path) -> None:
    checkpoint = checkpoints.resolve(str(recorded / "model"))
    record = read_record(str(recorded / "model" / "record"), checkpoint.digest)
    assert record is not None
    assert record.rows.num_rows == 200
    assert record.batches == (64, 64, 64, 8)
    assert [feature[:3] for feature in record.raw] == [("amount", "dense", "float32"), ("word", "dense", "string")]
    assert [feature.name for feature in record.model] == ["centred", "word_id"]
    rows = record_model.make_rows(300, seed=2)
    np.testing.assert_array_equal(record.rows.column("feature:amount"), rows["amount"][:200])

    weights = tf.train.load_checkpoint(checkpoint.path)
    words = np.eye(5, dtype=np.float32)[[[*record_model.WORDS, "elk"].index(word) for word in rows["word"][:200]]]
    inputs = np.concatenate([rows["amount"][:200, None] - 2, words], 1)
    logits = inputs @ weights.get_tensor("dense/kernel") + weights.get_tensor("dense/bias")
    exponents = np.exp(logits)
    expected = exponents / exponents.sum(1, keepdims=True)
    recorded = np.concatenate([batch["probabilities"] for batch in record.predictions])
    np.testing.assert_allclose(recorded, expected, rtol=1e-5)
    answers = np.concatenate([batch["answer"] for batch in record.predictions])
    assert answers.tolist() == [(b"no", b"yes")[index] for index in recorded.argmax(1)]
    assert set(answers) == {b"no", b"yes"}


def test_difference_within_the_tolerance_is_told(recorded: Path, check: Check) -> None:
    (path,) = (recorded / "model" / "record").glob("*.arrow")
    then = pa.ipc.open_file(path).read_all()["prediction:probabilities"].to_pylist()
    then[0][0] += 5e-6
    change_sample(recorded, "prediction:probabilities", then)
    assert check.state(write_job(recorded)) in (
        "verified, largest difference 5e-06",
        "verified, largest difference 5.1e-06",
    )


def test_training_goes_on(recorded: Path, check: Check) -> None:
    record_model.train(recorded, steps=5)

    assert check.state(write_job(recorded)) == "unverified"
    assert check.state(write_job(recorded, checkpoint=20, require_record=True)) == VERIFIED
    message = check.refusal(write_job(recorded, require_record=True))
    assert "model.require_record: checkpoint" in message
    assert "model.ckpt-25 has no record" in message
    permute_words(recorded)
    assert "the model was trained with the transform" in check.refusal(write_job(recorded))


def test_record_without_rows(recorded: Path, check: Check) -> None:
    estimator = record_model.build_estimator(str(recorded / "model"))
    path = transforms.record(estimator, ROWS, str(recorded / "transform"), rows=0)

    assert check.state(write_job(recorded, require_record=True)) == "fingerprint only"
    assert b"elk" not in Path(path).read_bytes()
    add_word(recorded)
    assert "the model was trained with the transform" in check.refusal(write_job(recorded))


def test_record_elsewhere(recorded: Path, check: Check) -> None:
    (recorded / "model" / "record").rename(recorded / "kept")

    assert check.state(write_job(recorded)) == "unverified"
    assert check.state(write_job(recorded, record=str(recorded / "kept"))) == VERIFIED
    message = check.refusal(write_job(recorded, record=str(recorded / "kpet")), exit_code=2)
    assert "model.record: there is no record in" in message


def test_nothing_is_written_in_a_model_dir_that_is_only_read(recorded: Path, check: Check) -> None:
    shutil.rmtree(recorded / "model" / "record")
    before = {path.name: path.stat().st_mtime_ns for path in (recorded / "model").iterdir()}
    (recorded / "model").chmod(0o555)
    job = write_job(recorded, record=str(recorded / "kept"), require_record=True)

    assert main(["record", "--config", str(job)]) == 0

    assert check.state(job) == VERIFIED
    assert {path.name: path.stat().st_mtime_ns for path in (recorded / "model").iterdir()} == before


def test_folder_that_cannot_be_written_to_is_named_with_the_remedy(recorded: Path) -> None:
    estimator = record_model.build_estimator(str(recorded / "model"))
    folder = str(recorded / "rows.parquet" / "record")  # below a file; root may write to anything else
    with pytest.raises(JobError, match=r"rows.parquet/record: the record cannot be written there \(.*model\.record in"):
        transforms.record(estimator, ROWS, str(recorded / "transform"), folder=folder)


@pytest.mark.parametrize("name", ["every_trap", "varied_shapes", "string_classes", "bare_tensor", "single_tensor"])
@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
def test_kinds_replay(
    name: str, record_format: str, model_dir_of: Callable[[Kind], str], tmp_path: Path, check: Check
) -> None:
    kind = KINDS[name]
    record_zoo(tmp_path, kind, model_dir_of(kind))
    assert check.state(save_job(tmp_path, zoo_job(tmp_path, kind, model_dir_of(kind), record_format))) == VERIFIED


@pytest.mark.parametrize("rows", [120, 0], ids=["with-rows", "without-rows"])
def test_order_is_nothing_to_a_model_that_goes_by_names(
    rows: int, linear_model_dir: str, tmp_path: Path, check: Check
) -> None:
    columns = linear_model.make_columns(130)  # in an order that tf.io.parse_example never gives
    estimator = linear_model.build_estimator(linear_model_dir)
    transforms.record(estimator, columns, rows=rows, folder=str(tmp_path / "record"))

    job = linear_job(tmp_path, linear_model_dir)
    if rows:
        assert check.state(job) == VERIFIED
    else:  # nothing tells whether the model minds
        assert "in another order than in training" in check.refusal(job)


def test_arguments_that_do_not_go_together(trained_elsewhere: Path) -> None:
    estimator = record_model.build_estimator(str(trained_elsewhere / "model"))
    with pytest.raises(ValueError, match="rows: expected 0 or at least 100, got 50"):
        transforms.record(estimator, ROWS, str(trained_elsewhere / "transform"), rows=50)
    with pytest.raises(ValueError, match=r"raw_spec: serialized tf.Examples do not tell their features"):
        transforms.record(estimator, [b""])
    with pytest.raises(ValueError, match=r"raw_rows\[0\] is a float; a list has to hold serialized tf.Examples"):
        transforms.record(estimator, [1.0])
    with pytest.raises(BadRows, match=r"row 1: .*word"):
        transforms.record(
            estimator, {"amount": [1.0, 2.0], "word": ["ant", None]}, str(trained_elsewhere / "transform")
        )
    with pytest.raises(ModelError, match="holds no checkpoint"):
        transforms.record(tf.estimator.Estimator(record_model.model_fn), ROWS, str(trained_elsewhere / "transform"))
