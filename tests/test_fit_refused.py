"""What a transform cannot be fitted to, each refused with its place, and nothing left behind."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401

import pytest
import tensorflow as tf
from fit_rows import IS_2_15, SPEC, make_rows, needs_extra, preprocessing_fn, write_job, write_shards

import transforms
from pipeline.commands import main
from pipeline.errors import InputError, JobError, OutputError, ScoringError, VerdictError
from pipeline.features import Feature
from transforms.fit import require_fit


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def fails_on_data(inputs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow_transform as tft

    with tf.control_dependencies([tf.debugging.assert_less(inputs["miles"], -1000.0)]):
        return {"miles": tft.scale_to_z_score(tf.identity(inputs["miles"]))}


@needs_extra
@pytest.mark.parametrize(
    ("record_format", "change", "kind", "exit_code", "message"),
    [
        pytest.param("tfrecord", {"miles": None}, VerdictError, 4,
                     "rows-1.tfrecord: row 3: feature 'miles': expected one value, found an empty list", id="example"),
        pytest.param("parquet", {"miles": None}, VerdictError, 4,
                     "rows-1.parquet: row 3: feature 'miles': missing, and it has no default", id="null"),
        pytest.param("jsonl", {"count": 1.5}, VerdictError, 4, "rows-1.jsonl: row 3: feature 'count': expected int64",
                     id="fraction"),
    ],
)  # fmt: skip
def test_row_that_cannot_be_read_is_named(
    tmp_path: Path, record_format: str, change: dict[str, Any], kind: type[ScoringError], exit_code: int, message: str
) -> None:
    rows = make_rows()
    rows[7] |= change
    pattern = write_shards(tmp_path, record_format, rows)

    with pytest.raises(kind) as refused:
        transforms.fit(preprocessing_fn, pattern, SPEC, str(tmp_path / "transform"))

    assert message in str(refused.value)
    assert "mend it or leave it out" in str(refused.value)
    assert refused.value.exit_code == exit_code
    assert not list(tmp_path.glob("transform*"))


@needs_extra
@pytest.mark.parametrize(
    ("rows", "spec", "exit_code", "message"),
    [
        pytest.param([], SPEC, 3, "the training shards hold no row", id="no rows"),
        pytest.param(make_rows(), {**SPEC, "tag": Feature("tag", "string", "varlen")}, 3,
                     "no row of the training shards (90) has a value for tag; mend the name", id="wrong name"),
    ],
)  # fmt: skip
def test_nothing_to_learn_from_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], spec: dict[str, Feature], exit_code: int, message: str
) -> None:
    pattern = write_shards(tmp_path, "tfrecord", rows)

    with pytest.raises(VerdictError) as refused:
        transforms.fit(preprocessing_fn, pattern, spec, str(tmp_path / "transform"))

    assert message in str(refused.value)
    assert refused.value.exit_code == exit_code
    assert not list(tmp_path.glob("transform*"))


@needs_extra
def test_broken_shard_is_named(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, "tfrecord", make_rows())
    damaged(tmp_path / "rows-1.tfrecord")

    with pytest.raises(VerdictError, match=r"rows-1\.tfrecord: record 44: the file ends inside it; mend the shard"):
        transforms.fit(preprocessing_fn, pattern, SPEC, str(tmp_path / "transform"))

    assert not list(tmp_path.glob("transform*"))


@needs_extra
def test_function_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    pattern = write_shards(tmp_path, "tfrecord", make_rows())

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"miles": inputs["milse"]}

    with pytest.raises(JobError, match=r"preprocessing_fn: .*test_fit_refused\.py:\d+: KeyError: 'milse'"):
        transforms.fit(function, pattern, SPEC, str(tmp_path / "transform"))

    assert not list(tmp_path.glob("transform*"))


@needs_extra
def test_failure_on_data_leaves_nothing_and_shows_no_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"miles": 777.125}, {"miles": 2.0}]
    (tmp_path / "rows-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = inspect.getsource(fails_on_data).replace("[str, Any]", "")
    (tmp_path / "steps_that_fail.py").write_text(f"import tensorflow as tf\n\n\n{source}")
    changes = {"code": ["steps_that_fail.py"], "input": {"pattern": "rows-*.jsonl"}}
    job = write_job(tmp_path, **changes, transform={"function": "steps_that_fail:fails_on_data", "path": "transform"})
    monkeypatch.setattr(sys, "path", [*sys.path])

    assert main(["fit", "--config", job]) == 1

    assert not list(tmp_path.glob("transform*"))
    shown = capfd.readouterr()
    assert "error: " in shown.err
    assert "777" not in shown.out + shown.err


@needs_extra
def test_folder_that_is_there_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "transform").mkdir()

    with pytest.raises(OutputError, match="transform exists; a transform is never changed"):
        transforms.fit(preprocessing_fn, "rows.tfrecord", SPEC, str(tmp_path / "transform"))

    assert not list((tmp_path / "transform").iterdir())


@needs_extra
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        pytest.param({"raw_spec": {"age": Feature("age", "int32")}}, JobError,
                     "raw_spec: age: TensorFlow Transform takes float32, int64, string, not int32", id="dtype"),
        pytest.param({"raw_spec": {"age": Feature("age", default=0.0)}}, JobError,
                     "raw_spec: age: a saved transform does not keep defaults", id="default"),
        pytest.param({"raw_spec": {}}, JobError, "raw_spec: has no feature", id="no feature"),
        pytest.param({"shards": "rows-*"}, JobError, "does not tell the format", id="format"),
        pytest.param({"shards": ["none-*.csv"]}, InputError, "no file matches none-*.csv", id="no shard"),
        pytest.param({"beam_arguments": ["--runer=X"]}, JobError, "neither this command nor Beam knows '--runer=X'",
                     id="option"),
        pytest.param({"path": "s3://bucket/transform"}, JobError, "TensorFlow cannot write there", id="filesystem"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_work_are_refused(
    tmp_path: Path, arguments: dict[str, Any], kind: type[ScoringError], message: str
) -> None:
    working = {"shards": "rows.csv", "raw_spec": SPEC, "path": str(tmp_path / "transform")}

    with pytest.raises(kind) as refused:
        transforms.fit(preprocessing_fn, **{**working, **arguments})

    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(IS_2_15, reason="TensorFlow 2.15 is refused first")
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_transform", None)

    with pytest.raises(JobError, match=r"pip install 'estimator-score\[fit\]', on Python 3\.11 or 3\.12"):
        transforms.fit(preprocessing_fn, "rows.csv", SPEC, "transform")


@pytest.mark.skipif(not IS_2_15, reason="for TensorFlow 2.15")
def test_tensorflow_2_15_is_told_where_to_fit() -> None:
    with pytest.raises(JobError, match=r"fit needs TensorFlow 2\.21, and this is 2\.15\.\d; .*estimator-score\[fit\]"):
        require_fit()
