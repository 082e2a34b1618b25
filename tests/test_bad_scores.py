"""Rows on which the transform or the model fails, and models that cannot score at all."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import bad_inputs
import numpy as np
import pyarrow.parquet as pq
import pytest
from bad_inputs import BAD, FEATURES, ROWS, TEXT_MARK, Bench, Outcome, Row, example, make_rows, tfrecord

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

TEXT = {"dtype": "string"}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in FEATURES.items() if key != name}


def raw(values: Any) -> bytes:
    return np.array(values, "<f4").tobytes()


TRANSFORMS: dict[str, Any] = {
    "text to number": (
        "number_in_text", {**without("x"), "amount": TEXT},
        lambda row: {"amount": str(row["x"])}, {"amount": TEXT_MARK},
    ),
    "text to number in Python": (
        "py_number", {**without("x"), "amount": TEXT},
        lambda row: {"amount": str(row["x"])}, {"amount": TEXT_MARK},
    ),
    "example inside": (
        "number_inside", {**without("x"), "inner": TEXT},
        lambda row: {"inner": example({"x": [row["x"]]})}, {"inner": b"\xff" + TEXT_MARK.encode()},
    ),
    "bytes that are no floats": (
        "raw_pixels", {**without("pixels"), "raw": TEXT},
        lambda row: {"raw": raw(row["pixels"])}, {"raw": TEXT_MARK},
    ),
    "bytes of another image": (
        "raw_pixels", {**without("pixels"), "raw": TEXT},
        lambda row: {"raw": raw(row["pixels"])}, {"raw": raw([31337313.0] * 8)},
    ),
}  # fmt: skip
"""Function, features, how a good row is written, what a bad row has instead."""


def score_transformed(kind: str, bench: Bench) -> tuple[Outcome, list[Row], bytes]:
    function, features, written, bad = TRANSFORMS[kind]
    rows = make_rows(ROWS)
    fields = [{**row, **written(row)} for row in rows]
    fields[BAD].update(bad)
    bench.shard(tfrecord([example(row) for row in fields]))
    transform = {"function": f"fragile_model:{function}"}
    outcome = bench.score(features=features, transform=transform, errors={"max_bad_rows": 1})
    return outcome, rows, example(fields[BAD])


@pytest.mark.fault("one-bad-row")
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_row_on_which_the_transform_fails(kind: str, bench: Bench) -> None:
    outcome, rows, record = score_transformed(kind, bench)
    assert outcome.code == 0, outcome.error
    assert [reason[:3] for reason in outcome.reasons] == [("a.tfrecord", BAD, "transform")]
    assert outcome.reasons[0][3].startswith(("InvalidArgumentError", "TensorFlow refused the row"))
    assert outcome.rejected[0]["_record"] == record
    assert outcome.scored == bench.expected(row for row in rows if row is not rows[BAD])
    assert outcome.rows == (5, 4, 1)
    assert outcome.success


def test_reason_names_the_operation_of_a_transform(bench: Bench) -> None:
    outcome, _, _ = score_transformed("text to number", bench)
    assert re.fullmatch(r"InvalidArgumentError in StringToNumber '.*StringToNumber'", outcome.reasons[0][3])


def test_row_that_becomes_two_rows(bench: Bench) -> None:
    rows = make_rows(ROWS)
    fields = [{**row, "raw": raw(row["pixels"])} for row in rows]
    fields[BAD]["raw"] = raw([31337313.0] * 8)
    bench.shard(tfrecord([example(row) for row in fields]))
    outcome = bench.score(
        features={"raw": TEXT},
        transform={"function": "fragile_model:pixels_alone"},
        model={"params": {"pixels_alone": True}},
        errors={"max_bad_rows": 1},
    )
    assert outcome.code == 0, outcome.error
    assert [reason[:2] for reason in outcome.reasons] == [("a.tfrecord", BAD)]
    assert list(outcome.scored) == [row["id"] for row in rows if row is not rows[BAD]]


@pytest.mark.fault("one-bad-row")
def test_row_on_which_the_model_fails(bench: Bench) -> None:
    rows = make_rows(ROWS)
    for row in rows:
        row["n"] = row["id"]
    bench.shard(tfrecord([example({**row, "n": 31337313}) if row is rows[BAD] else example(row) for row in rows]))
    outcome = bench.score(model={"params": {"raw_ids": True}}, errors={"max_bad_rows": 1})
    assert outcome.code == 0, outcome.error
    ((shard, row, stage, reason),) = outcome.reasons
    assert (shard, row, stage) == ("a.tfrecord", BAD, "predict")
    assert re.fullmatch(r"InvalidArgumentError in \w*Gather\w* 'Gather\w*'", reason)
    assert outcome.scored == bench.expected(row for row in rows if row is not rows[BAD])


def shard_with_x(bench: Bench, x: float) -> list[Row]:
    rows = make_rows(ROWS, first=1)
    rows[BAD]["x"] = x
    bench.shard(tfrecord([example(row) for row in rows]))
    return rows


@pytest.mark.fault("prediction-not-finite")
@pytest.mark.parametrize(("prediction", "x"), [("root", -1.0), ("pair", 0.0), ("root", float("nan"))])
def test_prediction_that_is_not_finite(prediction: str, x: float, bench: Bench) -> None:
    rows = shard_with_x(bench, x)
    bench.settings = {"model": {"params": {"more": [prediction]}}}
    refused = bench.score()
    assert refused.code == 4
    key = "score" if np.isnan(x) else prediction
    assert refused.error.startswith(
        f"error: prediction '{key}' is not finite (NaN or infinite) in 1 of 5 rows of a batch, first in row 2; "
        "write errors.non_finite: reject"
    )
    assert not refused.success

    rejected = bench.score(errors={"non_finite": "reject", "max_bad_rows": 1})
    assert rejected.code == 0, rejected.error
    assert rejected.reasons == [("a.tfrecord", BAD, "predict", f"prediction '{key}' is not finite")]
    assert rejected.scored == bench.expected(row for row in rows if row is not rows[BAD])

    shutil.rmtree(bench.output)
    kept = bench.score(errors={"non_finite": "keep"})
    assert kept.code == 0, kept.error
    assert kept.rows == (5, 5, 0)
    values = np.array(pq.read_table(bench.output / "part-00000-of-00001.parquet").column(prediction).to_pylist())
    assert np.flatnonzero(~np.isfinite(values.reshape(5, -1)).all(axis=1)).tolist() == [BAD]


def test_text_prediction_that_is_not_utf8(bench: Bench) -> None:
    rows = make_rows(ROWS)
    for row in rows:
        row["words"] = [TEXT_MARK]
    spoiled = {**rows[BAD], "words": [b"\xff" + TEXT_MARK.encode()]}
    bench.shard(tfrecord([example(spoiled) if row is rows[BAD] else example(row) for row in rows]))
    bench.settings = {"model": {"params": {"more": ["word"]}}, "errors": {"max_bad_rows": 1}}
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    (reason,) = outcome.reasons
    assert reason[:3] == ("a.tfrecord", BAD, "predict")
    assert "output.types: {word: binary}" in reason[3]
    assert outcome.scored == bench.expected(row for row in rows if row is not rows[BAD])

    shutil.rmtree(bench.output)
    as_bytes = bench.score(output={"types": {"word": "binary"}})
    assert as_bytes.code == 0, as_bytes.error
    assert as_bytes.rows == (5, 5, 0)


@pytest.mark.fault("all-rows-fail-alike")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"x": [1.0, 2.0]}, "read: feature 'x': expected one value, found 2 values"),
        ({"n": TEXT_MARK}, "read: feature 'n': expected int64 (int64_list), found bytes_list"),
    ],
    ids=["two values", "text"],
)
def test_rows_that_all_fail_alike_are_a_wrong_job(spoil: dict[str, Any], message: str, bench: Bench) -> None:
    bench.shard(tfrecord([example({**row, **spoil}) for row in make_rows(ROWS)]))
    outcome = bench.score(errors={"max_bad_rows": 100})
    assert outcome.code == 6
    assert outcome.error == (
        f"error: all 5 rows of the first batch fail alike, so the job is wrong and not the rows: {message}\n"
    )
    assert not outcome.success


def test_transform_that_fails_on_all_rows_is_a_wrong_job(bench: Bench) -> None:
    bench.shard(tfrecord([example({**row, "amount": TEXT_MARK}) for row in make_rows(ROWS)]))
    features = {**without("x"), "amount": TEXT}
    outcome = bench.score(
        features=features, transform={"function": "fragile_model:number_in_text"}, errors={"max_bad_rows": 0.9}
    )
    assert outcome.code == 6
    assert "all 5 rows of the first batch fail alike" in outcome.error
    assert "so the job is wrong and not the rows: transform: InvalidArgumentError" in outcome.error


def test_rows_that_all_fail_differently_are_bad_rows(bench: Bench) -> None:
    rows = make_rows(2)
    bench.shard(tfrecord([example({**rows[0], "x": TEXT_MARK}), example({**rows[1], "n": TEXT_MARK})]))
    outcome = bench.score(errors={"max_bad_rows": 1})
    assert outcome.code == 4
    assert "2 of 2 rows were rejected" in outcome.error


def test_one_bad_row_alone_is_no_wrong_job(bench: Bench) -> None:
    bench.shard(tfrecord([TEXT_MARK.encode()]))
    outcome = bench.score(errors={"max_bad_rows": 1})
    assert outcome.code == 0, outcome.error
    assert outcome.rows == (1, 0, 1)


MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "needs labels": ({"labels": True}, "In PREDICT mode labels are None: return tf.estimator.EstimatorSpec"),
    "tf.contrib": ({"contrib": True}, "tf.contrib.layers.fully_connected was removed in TensorFlow 2"),
    "bare TensorFlow 1 name": (
        {"bare_name": True},
        "tf.layers is a name of TensorFlow 1: write `import tensorflow.compat.v1 as tf`",
    ),
    "variable missing from the checkpoint": (
        {"bias": True},
        "1 of 4 variables of the graph are missing from the checkpoint:\n    bias [1]\n",
    ),
    "variable of another shape": (
        {"table_rows": 20},
        "1 variables have another shape or dtype:\n    table: [20] in the graph, [10] in the checkpoint\n",
    ),
    "variable of the checkpoint unread": (
        {"without_table": True},
        "list them (or patterns, such as 'aux_head/*') under model.allow_unused",
    ),
    "no prediction for each row": ({"more": ["average"]}, "prediction 'average' has the shape []"),
    "other rows of the batch": ({"centered": True}, "prediction 'score' depends on the other rows of the batch"),
    "random": ({"noise": True}, "prediction 'score' is random"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_model_that_is_refused(kind: str, bench: Bench) -> None:
    params, message = MODELS[kind]
    bench.shard(tfrecord([example(row) for row in make_rows(ROWS)]))
    outcome = bench.score(model={"params": params})
    assert outcome.code == 6
    assert message in outcome.error
    assert bench.has_no_output


@pytest.mark.parametrize("kind", ["no checkpoint", "no folder", "step", "incomplete", "index alone"])
def test_checkpoint_that_is_refused(kind: str, bench: Bench, fragile_model_dir: Path) -> None:
    bench.shard(tfrecord([example(row) for row in make_rows(ROWS)]))
    bench.model_dir = bench.folder / "model"
    settings: dict[str, Any] = {}
    if kind == "no checkpoint":
        bench.model_dir.mkdir()
    elif kind != "no folder":
        shutil.copytree(fragile_model_dir, bench.model_dir)
    data = bench.model_dir / "model.ckpt-1.data-00000-of-00001"
    if kind == "step":
        settings = {"model": {"checkpoint": 999}}
    elif kind == "incomplete":
        data.write_bytes(data.read_bytes()[:-5])
    elif kind == "index alone":
        data.unlink()
    outcome = bench.score(**settings)
    assert outcome.code == (2 if kind == "no folder" else 6)
    assert outcome.error.count("\n") == 1
    assert str(bench.model_dir) in outcome.error
    assert bench.has_no_output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": {"predictions": ["scores"]}}, "'scores'"),
        ({"output": {"predictions": {"first": "score[0]"}}}, "score"),
        ({"output": {"types": {"label": "binary"}}}, "label"),
        ({"output": {"passthrough": {"score": {"from": "id", "dtype": "int64"}}}}, "score"),
        ({"model": {"features": ["x", "m"]}}, "'m'"),
        (
            {"transform": {"function": "fragile_model:number_in_text"}, "model": {"features": ["m"]},
             "features": {**without("x"), "amount": TEXT}},
            "model.features: there is no feature 'm'; there are: ",
        ),
        ({"model": {"model_fn": "fragile_model:model"}}, "fragile_model"),
        ({"transform": {"function": "fragile_model:absent"}}, "absent"),
        ({"features": "fragile_model:EMBEDDED"}, "features"),
    ],
    ids=["unknown prediction", "index of a scalar", "type of no column", "column twice", "unknown feature",
         "unknown transformed feature", "no such model_fn", "no such transform", "spec that is no function"],
)  # fmt: skip
def test_name_that_does_not_exist(settings: dict[str, Any], message: str, bench: Bench) -> None:
    bench.shard(tfrecord([example(row) for row in make_rows(ROWS)]))
    outcome = bench.score(**settings)
    assert outcome.code == 2
    assert message in outcome.error
    assert outcome.error.count("\n") == 1
    assert bench.has_no_output
