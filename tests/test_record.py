"""The parity record: written by a trainer in a process of its own, replayed before scoring, and each kind of skew refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_model
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import record_model
import tensorflow as tf
import yaml
import zoo_data
from zoo import KINDS, Kind, parsing_spec

import transforms
from pipeline import checkpoint as checkpoints
from pipeline.commands import main
from pipeline.errors import BadRows, ModelError
from pipeline.record.difference import different_rows, largest_difference, table
from pipeline.record.file import read_record

TESTS = Path(__file__).parent
ROWS = record_model.make_rows(130, seed=3)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trainer left behind: transform, model and record; beside them shards in two formats."""
    folder = tmp_path_factory.mktemp("recorded") / "trainer"
    folder.mkdir()
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
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of all that elsewhere, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "elsewhere"))


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


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(capsys)


VERIFIED = "verified, largest difference 0"


def test_score_of_another_process_is_verified_in_manifest_and_report(folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert main(["score", "--config", str(write_job(folder)), "--quiet", "--report", str(report)]) == 0

    expected = {"state": "verified", "max_difference": 0.0}
    assert json.loads((folder / "out" / "_manifest.json").read_text())["record"] == expected
    assert json.loads(report.read_text())["record"] == expected


def test_record_replays_through_columns_too(folder: Path, check: Check) -> None:
    assert check.state(write_job(folder, "parquet")) == VERIFIED


def test_record_holds_what_predict_gave(folder: Path) -> None:
    checkpoint = checkpoints.resolve(str(folder / "model"))
    record = read_record(str(folder / "model" / "record"), checkpoint.digest)
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


def add_word(folder: Path) -> None:
    with (folder / "transform" / "assets" / "words.txt").open("a", encoding="utf-8") as file:
        file.write("elk\n")


def permute_words(folder: Path) -> None:
    path = folder / "transform" / "assets" / "words.txt"
    path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")


def other_mean(folder: Path) -> None:
    shutil.rmtree(folder / "transform")
    record_model.save_transform(folder / "transform", mean=2.5)


@pytest.mark.parametrize("change", [add_word, permute_words, other_mean])
def test_another_transform_is_refused(change: Callable[[Path], None], folder: Path, check: Check) -> None:
    before = transforms.load(str(folder / "transform")).fingerprint
    change(folder)
    after = transforms.load(str(folder / "transform")).fingerprint

    message = check.refusal(write_job(folder))
    assert "the model was trained with the transform" in message
    assert before in message
    assert after in message
    assert "Name the transform of training under transform" in message


def test_transform_that_training_did_not_have_is_refused(folder: Path, check: Check) -> None:
    (folder / "model" / "record" / "transform.json").write_text('{"format_version": 1, "transform": null}')
    assert "trained with no transform, and the job has the transform" in check.refusal(write_job(folder))


def test_transform_that_the_job_lacks_is_refused(folder: Path, check: Check) -> None:
    job = yaml.safe_load(write_job(folder).read_text())
    job["features"] = {"amount": {"dtype": "float32"}, "word": {"dtype": "string"}}
    del job["transform"]
    assert "and the job has no transform" in check.refusal(save_job(folder, job))


def change_sample(folder: Path, column: str, values: list[Any]) -> None:
    (path,) = (folder / "model" / "record").glob("*.arrow")
    recorded = pa.ipc.open_file(path).read_all()
    position = recorded.schema.get_field_index(column)
    changed = recorded.set_column(position, column, pa.array(values, recorded.schema.field(column).type))
    with pa.ipc.new_file(path, recorded.schema) as writer:
        writer.write_table(changed)


def test_sample_that_no_longer_replays_is_refused_with_a_table(folder: Path, check: Check) -> None:
    (path,) = (folder / "model" / "record").glob("*.arrow")
    then = pa.ipc.open_file(path).read_all()["prediction:probabilities"].to_pylist()
    now = f"{np.float32(then[7][1]):.8g}"
    then[7][1] += 0.25
    then[70][0] += 0.125
    change_sample(folder, "prediction:probabilities", then)

    message = check.refusal(write_job(folder))
    assert "the recorded sample of checkpoint model.ckpt-20 no longer replays: 2 of 200 rows" in message
    lines = [line.split() for line in message.splitlines()]
    assert ["row", "key", "then", "now"] in lines
    assert ["7", "probabilities[1]", f"{np.float32(then[7][1]):.8g}", now] in lines
    assert any(line[:2] == ["70", "probabilities[0]"] for line in lines)
    assert "python -m pipeline record --config" in message


def test_difference_within_the_tolerance_is_told(folder: Path, check: Check) -> None:
    (path,) = (folder / "model" / "record").glob("*.arrow")
    then = pa.ipc.open_file(path).read_all()["prediction:probabilities"].to_pylist()
    then[0][0] += 5e-6
    change_sample(folder, "prediction:probabilities", then)
    assert check.state(write_job(folder)) in (
        "verified, largest difference 5e-06",
        "verified, largest difference 5.1e-06",
    )


def test_answers_that_differ_are_refused(folder: Path, check: Check) -> None:
    (path,) = (folder / "model" / "record").glob("*.arrow")
    answers = pa.ipc.open_file(path).read_all()["prediction:answer"].to_pylist()
    now, answers[3] = answers[3], b"maybe"
    change_sample(folder, "prediction:answer", answers)
    lines = [line.split() for line in check.refusal(write_job(folder)).splitlines()]
    assert ["3", "answer", "b'maybe'", str(now)] in lines


def test_training_goes_on(folder: Path, check: Check) -> None:
    record_model.train(folder, steps=5)

    assert check.state(write_job(folder)) == "unverified"
    assert check.state(write_job(folder, checkpoint=20, require_record=True)) == VERIFIED
    message = check.refusal(write_job(folder, require_record=True))
    assert "model.require_record: checkpoint" in message
    assert "model.ckpt-25 has no record" in message
    permute_words(folder)
    assert "the model was trained with the transform" in check.refusal(write_job(folder))


def test_record_without_rows(folder: Path, check: Check) -> None:
    estimator = record_model.build_estimator(str(folder / "model"))
    path = transforms.record(estimator, ROWS, str(folder / "transform"), rows=0)

    assert check.state(write_job(folder, require_record=True)) == "fingerprint only"
    assert b"elk" not in Path(path).read_bytes()
    add_word(folder)
    assert "the model was trained with the transform" in check.refusal(write_job(folder))


def test_record_elsewhere(folder: Path, check: Check) -> None:
    (folder / "model" / "record").rename(folder / "kept")

    assert check.state(write_job(folder)) == "unverified"
    assert check.state(write_job(folder, record=str(folder / "kept"))) == VERIFIED
    message = check.refusal(write_job(folder, record=str(folder / "kpet")), exit_code=2)
    assert "model.record: there is no record in" in message


def test_damaged_record_is_refused(folder: Path, check: Check) -> None:
    (path,) = (folder / "model" / "record").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged" in check.refusal(write_job(folder))


@pytest.mark.parametrize("name", ["every_trap", "varied_shapes", "string_classes", "bare_tensor", "single_tensor"])
@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
def test_kinds_replay(
    name: str, record_format: str, model_dir_of: Callable[[Kind], str], tmp_path: Path, check: Check
) -> None:
    kind = KINDS[name]
    record_zoo(tmp_path, kind, model_dir_of(kind))
    assert check.state(save_job(tmp_path, zoo_job(tmp_path, kind, model_dir_of(kind), record_format))) == VERIFIED


def other_order(job: dict[str, Any]) -> None:
    job["model"]["features"] = ["alpha", "gamma", "delta", "beta"]


def rename(job: dict[str, Any]) -> None:
    job["features"]["zeta"] = job["features"].pop("beta")
    job["model"]["features"][3] = "zeta"
    job["input"]["rename"] = {"zeta": "beta"}


def drop(job: dict[str, Any]) -> None:
    job["model"]["features"].remove("beta")


def add(job: dict[str, Any]) -> None:
    job["features"]["zeta"] = job["features"]["beta"]


def other_dtype(job: dict[str, Any]) -> None:
    job["features"]["beta"]["dtype"] = "int64"


def other_rank(job: dict[str, Any]) -> None:
    job["features"]["beta"]["shape"] = []


def bare(job: dict[str, Any]) -> None:
    job["model"]["features"] = "beta"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            other_order,
            "features reach the model in another order than in training: 'alpha', 'gamma', 'delta', 'beta', where training "
            "had 'gamma', 'alpha', 'delta', 'beta'; a model that stacks them mixes them up. Write model.features: "
            "[gamma, alpha, delta, beta]",
        ),
        (rename, "of training is called 'zeta' in the job"),
        (drop, "training had the feature of the model 'beta', which the job drops"),
        (add, "the job has the raw feature 'zeta', which training did not have"),
        (other_dtype, "'beta' was dense float32 of rank 2 in training, and is dense int64 of rank 2 in the job"),
        (other_rank, "'beta' was dense float32 of rank 2 in training, and is dense float32 of rank 1 in the job"),
        (bare, "training gave the model a dict, the job gives it one bare tensor"),
    ],
)
def test_other_features_are_refused(
    change: Callable[[dict[str, Any]], None],
    message: str,
    model_dir_of: Callable[[Kind], str],
    tmp_path: Path,
    check: Check,
) -> None:
    kind = KINDS["stacked_order"]
    record_zoo(tmp_path, kind, model_dir_of(kind))
    job = zoo_job(tmp_path, kind, model_dir_of(kind))
    change(job)
    assert message in check.refusal(save_job(tmp_path, job))


def test_another_default_is_found_by_the_replay(
    model_dir_of: Callable[[Kind], str], tmp_path: Path, check: Check
) -> None:
    kind = KINDS["every_trap"]
    record_zoo(tmp_path, kind, model_dir_of(kind))
    job = zoo_job(tmp_path, kind, model_dir_of(kind))
    job["features"]["level"]["default"] = 0.5
    assert "no longer replays" in check.refusal(save_job(tmp_path, job))


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


@pytest.mark.parametrize("record_format", ["tfrecord", "parquet"])
def test_command_records_a_model_that_was_trained_long_ago(
    record_format: str, folder: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "model" / "record")
    job = write_job(folder, record_format, require_record=True)
    assert "has no record" in check.refusal(job)

    assert main(["record", "--config", str(job), "--rows", "120"]) == 0
    printed = capsys.readouterr().out
    assert "rows        120" in printed
    assert f"replayed    {VERIFIED}" in printed
    assert check.state(job) == VERIFIED
    permute_words(folder)
    assert main(["record", "--config", str(job)]) == 6
    assert "A model has one transform" in capsys.readouterr().err


@pytest.mark.parametrize("rows", ["5", "-1"])
def test_command_takes_no_rows_or_enough(rows: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "--config", str(write_job(folder)), "--rows", rows]) == 2
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


def test_arguments_that_do_not_go_together(trained: Path) -> None:
    estimator = record_model.build_estimator(str(trained / "model"))
    with pytest.raises(ValueError, match="rows: expected 0 or at least 100, got 50"):
        transforms.record(estimator, ROWS, str(trained / "transform"), rows=50)
    with pytest.raises(ValueError, match=r"raw_spec: serialized tf.Examples do not tell their features"):
        transforms.record(estimator, [b""])
    with pytest.raises(ValueError, match=r"raw_rows\[0\] is a float; a list has to hold serialized tf.Examples"):
        transforms.record(estimator, [1.0])
    with pytest.raises(BadRows, match=r"row 1: .*word"):
        transforms.record(estimator, {"amount": [1.0, 2.0], "word": ["ant", None]}, str(trained / "transform"))
    with pytest.raises(ModelError, match="holds no checkpoint"):
        transforms.record(tf.estimator.Estimator(record_model.model_fn), ROWS, str(trained / "transform"))


def test_rows_of_other_lengths_in_other_batches() -> None:
    then = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[1.0, 2.0, 3.0]])}]
    same = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[1.0, 2.0, 3.0 + 1e-6]])}]
    shorter = [{"x": np.array([[1.0, 2.0]])}, {"x": np.array([[1.0, 2.0]])}]
    assert different_rows(then, same) == {}
    assert largest_difference(then, same) == pytest.approx(1e-6)
    different = different_rows(then, shorter)
    assert different["x"].tolist() == [0, 1]
    assert any(line.split() == ["1", "x", "shape", "(3,)", "shape", "(2,)"] for line in table(then, shorter, different))


def test_table_shows_the_worst_rows_first_and_how_many_more() -> None:
    then = [{"x": np.zeros(8)}]
    now = [{"x": np.arange(8.0)}]
    lines = [line.split() for line in table(then, now, different_rows(then, now))]
    assert [line[0] for line in lines] == ["row", "7", "6", "5", "4", "3", "and"]
    assert lines[1] == ["7", "x", "0", "7"]
    assert lines[-1] == ["and", "2", "more"]
