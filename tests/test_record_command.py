"""The command `record`: a record for a model that was trained long ago, and known scores for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import record_model
import tensorflow as tf
from record_job import VERIFIED, Check, add_word, linear_job, permute_words, save_job, write_job, zoo_job
from zoo import KINDS, Kind

from pipeline.commands import main


@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
def test_command_records_a_model_that_was_trained_long_ago(
    record_format: str, recorded: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(recorded / "model" / "record")
    job = write_job(recorded, record_format, require_record=True)
    assert "has no record" in check.refusal(job)

    assert main(["record", "--config", str(job), "--rows", "120"]) == 0
    printed = capsys.readouterr().out
    assert "rows        120" in printed
    assert f"replayed    {VERIFIED}" in printed
    assert check.state(job) == VERIFIED
    permute_words(recorded)
    assert main(["record", "--config", str(job)]) == 6
    assert "A model has one transform" in capsys.readouterr().err


def test_command_stores_no_raw_rows_if_told_so(recorded: Path, check: Check) -> None:
    shutil.rmtree(recorded / "model" / "record")
    job = write_job(recorded, require_record=True)

    assert main(["record", "--config", str(job), "--rows", "0"]) == 0

    assert check.state(job) == "fingerprint only"
    (path,) = (recorded / "model" / "record").glob("*.arrow")
    assert pa.ipc.open_file(path).read_all().num_rows == 0
    assert not any(word.encode() in path.read_bytes() for word in record_model.WORDS)
    add_word(recorded)
    assert "assets/words.txt has 5 lines, 1 more than in training" in check.refusal(job)


@pytest.mark.parametrize("rows", ["5", "-1"])
def test_command_takes_no_rows_or_enough(rows: str, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--config", str(write_job(recorded)), "--rows", rows]) == 2
    assert f"--rows {rows}: expected 0 or at least 100" in capsys.readouterr().err


@pytest.fixture
def known(model_dir_of: Callable[[Kind], str], tmp_path: Path) -> dict[str, Any]:
    """A job whose scores are known: they were published in `tmp_path/out`."""
    kind = KINDS["string_classes"]
    job = zoo_job(tmp_path, kind, model_dir_of(kind), "parquet")
    folder = job["model"].pop("record")
    job["output"] |= {
        "passthrough": ["id"],
        "predictions": {"classes": "classes", "score": "scores[1]", "best": "best_two"},
    }
    assert main(["score", "--config", str(save_job(tmp_path, job)), "--quiet"]) == 0
    job["model"]["record"] = folder
    return job


def known_csv(folder: Path) -> tuple[Path, pa.Table]:
    scores = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "out").glob("part-*.parquet")))
    scores = scores.select(["score", "id", "classes"]).take(list(reversed(range(scores.num_rows))))
    path = folder / "known.csv"
    csv.write_csv(scores, path)
    return path, scores


@pytest.mark.parametrize("kind", ["output folder", "csv"])
def test_command_records_known_scores(
    kind: str, known: dict[str, Any], tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    against = tmp_path / "out" if kind == "output folder" else known_csv(tmp_path)[0]
    job = str(save_job(tmp_path, known))
    assert main(["record", "--config", job, "--against", str(against), "--on", "id"]) == 0
    printed = capsys.readouterr().out
    assert f"rows        30, predictions of {against}" in printed
    if kind == "output folder":
        assert check.state(Path(job)) == VERIFIED
    else:  # which does not have all that the job writes
        assert "warning     the record does not hold the prediction 'best_two', so that is not verified" in printed
        assert check.state(Path(job)) == "unverified, largest difference 0"


def test_command_refuses_scores_that_are_others(
    known: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, scores = known_csv(tmp_path)
    values = scores["score"].to_pylist()
    values[4] += 0.5
    csv.write_csv(scores.set_column(0, "score", pa.array(values)), path)
    job = str(save_job(tmp_path, known))

    assert main(["record", "--config", job, "--against", str(path), "--on", "id"]) == 6
    message = capsys.readouterr().err
    assert f"1 of 30 rows score differently than by {path}" in message
    assert "scores[1]" in message
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "id"], "--on: it goes with --against"),
        (["--against", "known.csv"], "name the columns of the key by --on"),
        (["--against", "known.csv", "--on", "key"], "--on: 'key' is no pass-through column of the job"),
        (["--against", "known.csv", "--on", "id", "--rows", "0"], "there is nothing to compare with --rows 0"),
    ],
)
def test_known_scores_need_a_key(
    arguments: list[str],
    message: str,
    model_dir_of: Callable[[Kind], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind = KINDS["string_classes"]
    job = zoo_job(tmp_path, kind, model_dir_of(kind), "parquet")
    job["output"]["passthrough"] = ["id"]
    assert main(["record", "--config", str(save_job(tmp_path, job)), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("inputs", ["examples", "features"])
def test_command_records_what_an_exported_model_gives(
    inputs: str, linear_model_dir: str, tmp_path: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = linear_model.make_columns(1)
    if inputs == "examples":
        spec = {name: tf.io.FixedLenFeature([], tf.as_dtype(f["dtype"])) for name, f in linear_model.FEATURES.items()}
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
    else:

        def receiver() -> Any:
            dtypes = {name: tf.as_dtype(feature["dtype"]) for name, feature in linear_model.FEATURES.items()}
            features = {name: tf.compat.v1.placeholder(dtypes[name], [None]) for name in columns}
            return tf.estimator.export.ServingInputReceiver(features, features)

    estimator = linear_model.build_estimator(linear_model_dir)
    exported = estimator.export_saved_model(str(tmp_path / "export"), receiver).decode()
    job = linear_job(tmp_path, linear_model_dir)

    assert main(["record", "--config", str(job), "--against", exported]) == 0
    assert f"rows        30, predictions of {exported}" in capsys.readouterr().out
    assert check.state(job).startswith("verified")
