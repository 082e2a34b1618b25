"""Scores from Python are those of the command; what is in memory is held to the rules of the shards, and a call is quick."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import linear_model
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
import zoo_data
from test_equal_to_predict import score, write_job
from zoo import KINDS, Kind, Row

from examples.digits.model import build_estimator as build_digits
from examples.digits.train import PARAMS as DIGITS_PARAMS
from pipeline import Scorer, predict_input_fn
from pipeline.errors import BadRows
from pipeline.features import Feature, from_tensorflow

PAGE_MIB = 4096 / 2**20
ROWS = 50


def columns_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def job_of(kind: Kind, model_dir_of: Callable[[Kind], str], folder: Path, batch: int = 4096) -> str:
    return str(write_job(folder, kind.spec, kind.module.model_section(), model_dir_of(kind), batch=batch))


@pytest.mark.parametrize(
    "name", ["tf1_images", "wide_deep_classifier", "sparse", "ragged", "single_tensor", "every_trap"]
)
def test_equals_what_the_command_wrote(name: str, model_dir_of: Callable[[Kind], str], tmp_path: Path) -> None:
    kind = KINDS[name]
    shards = zoo_data.split(zoo_data.make_rows(kind), 2)
    zoo_data.write_shards(tmp_path, shards, kind.spec)
    job = job_of(kind, model_dir_of, tmp_path, batch=7)
    written = score(Path(job)).drop_columns(["_shard", "_row"])

    with Scorer.from_config(job) as scorer:
        scored = pa.concat_tables(scorer.score(columns_of(rows)) for rows in shards)
    assert scored.schema == written.schema
    assert scored.equals(written)
    order = np.arange(zoo_data.ROWS)
    order[[3, 4]] = [4, 3]
    assert not scored.take(pa.array(order)).equals(written)  # which it would be if all rows had one score


def as_arrays(columns: Mapping[str, list[Any]]) -> dict[str, np.ndarray]:
    arrays = {name: np.array(columns[name]) for name in ("age", "visits")}
    for name in ("job", "tags", "id", "note"):
        arrays[name] = np.empty(len(columns[name]), object)
        arrays[name][:] = columns[name]
    return arrays


HOLDERS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "arrays": as_arrays,
    "tuples": lambda columns: {name: tuple(values) for name, values in columns.items()},
    "DataFrame": pd.DataFrame,
    "DataFrame of arrays": lambda columns: pd.DataFrame(as_arrays(columns)),
    "DataFrame of Arrow types": lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "RecordBatch": pa.RecordBatch.from_pydict,
    "Table": pa.table,
    "Table of chunks": lambda columns: pa.concat_tables([pa.table(columns)[:20], pa.table(columns)[20:]]),
    "other order of columns": lambda columns: dict(reversed(columns.items())),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_whatever_holds_the_rows(holder: str, model_dir_of: Callable[[Kind], str], tmp_path: Path) -> None:
    kind = KINDS["wide_deep_classifier"]
    columns = columns_of(zoo_data.make_rows(kind))
    with Scorer.from_config(job_of(kind, model_dir_of, tmp_path)) as scorer:
        assert scorer.score(HOLDERS[holder](columns)).equals(scorer.score(columns))


def test_only_pass_through_columns_that_are_given(model_dir_of: Callable[[Kind], str], tmp_path: Path) -> None:
    kind = KINDS["single_tensor"]
    columns = columns_of(zoo_data.make_rows(kind))
    with Scorer.from_config(job_of(kind, model_dir_of, tmp_path)) as scorer:
        whole = scorer.score(columns)
        assert whole.column_names == ["id", "note", "predictions"]
        for left_out in (["note"], ["id"], ["id", "note"]):
            fewer = {name: values for name, values in columns.items() if name not in left_out}
            for features in (fewer, pd.DataFrame(fewer), pa.table(fewer)):
                assert scorer.score(features).equals(whole.drop_columns(left_out))


def test_no_rows(model_dir_of: Callable[[Kind], str], tmp_path: Path) -> None:
    kind = KINDS["single_tensor"]
    with Scorer.from_config(job_of(kind, model_dir_of, tmp_path)) as scorer:
        whole = scorer.score(columns_of(zoo_data.make_rows(kind)))
        empty = scorer.score({"x": np.zeros((0, 3), np.float32), "id": pa.array([], pa.int64()), "note": []})
    assert empty.num_rows == 0
    assert empty.schema == whole.schema


@pytest.fixture(scope="module")
def linear(linear_model_dir: str) -> Any:
    return linear_model.build_estimator(linear_model_dir)


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    return linear_model.make_columns(ROWS)


def predicted(estimator: Any, columns: Mapping[str, Any], **options: Any) -> dict[str, np.ndarray]:
    batches = estimator.predict(predict_input_fn(columns, ROWS), yield_single_examples=False, **options)
    (batch,) = batches
    return batch


def assert_scores(table: pa.Table, expected: Mapping[str, np.ndarray]) -> None:
    """All columns, to the bit."""
    assert table.column_names == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(table[name].to_numpy(), values)


def test_an_estimator_without_a_job(linear: Any, columns: dict[str, np.ndarray]) -> None:
    expected = predicted(linear, columns)
    assert np.std(expected["score"]) > 1e-2
    spec = {
        name: tf.io.FixedLenFeature([], tf.as_dtype(entry["dtype"])) for name, entry in linear_model.FEATURES.items()
    }
    for features in (None, spec, from_tensorflow(spec, "here")):
        with Scorer(linear, features=features) as scorer:
            assert_scores(scorer.score(columns), expected)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("number_03", lambda values: values[:, None].repeat(2, 1), "expected one value, found 2 values"),
        ("number_03", lambda values: ["text"] * ROWS, "expected float32, found text that is not a number"),
        ("number_03", lambda values: values > 0, "expected float32, found bool"),
        ("count_1", lambda values: values + 0.5, "expected int64, found a number with a fraction"),
        ("word_2", lambda values: np.arange(ROWS), "expected string, found int64"),
    ],
    ids=["shape", "text", "bool", "fraction", "number"],
)
def test_later_calls_are_held_to_the_first(
    name: str, change: Callable[[np.ndarray], Any], reason: str, linear: Any, columns: dict[str, np.ndarray]
) -> None:
    with Scorer(linear) as scorer:
        first = scorer.score(columns)
        with pytest.raises(BadRows) as refused:
            scorer.score({**columns, name: change(columns[name])})
        assert str(refused.value) == f"row 0: feature {name!r}: {reason} (and {ROWS - 1} more)"
        with pytest.raises(ValueError, match=f"^features: {name!r} is missing; there are: "):
            scorer.score({other: values for other, values in columns.items() if other != name})
        assert scorer.score(columns).equals(first)


def test_bad_rows_are_named_and_the_others_can_be_had(linear: Any, columns: dict[str, np.ndarray]) -> None:
    bad: dict[str, Any] = {
        **columns,
        "number_00": columns["number_00"].tolist(),
        "count_2": columns["count_2"].tolist(),
    }
    bad["count_2"][4] = 1.5
    bad["number_00"][7] = float("nan")  # a value that the model takes, but its score is no number
    bad["number_00"][9] = None
    reasons = {
        4: ("read", "feature 'count_2': expected int64, found a number with a fraction"),
        7: ("predict", "prediction 'score' is not finite"),
        9: ("read", "feature 'number_00': missing, and it has no default"),
    }
    with Scorer(linear) as scorer:
        whole = scorer.score(columns, on_bad_row="reject")[0]
        assert whole.column_names == ["score", "positive", "_row"]
        with pytest.raises(BadRows) as raised:
            scorer.score(bad)
        table, rejected = scorer.score(bad, on_bad_row="reject")

    assert str(raised.value) == f"row 4: {reasons[4][1]} (and 2 more)"
    assert raised.value.rows == {row: reason for row, (_, reason) in reasons.items()}
    assert rejected.to_pylist() == [
        {"_row": row, "_stage": stage, "_reason": reason} for row, (stage, reason) in reasons.items()
    ]
    good = [row for row in range(ROWS) if row not in reasons]
    assert table["_row"].to_pylist() == good
    np.testing.assert_allclose(table["score"].to_numpy(), whole["score"].to_numpy()[good], rtol=1e-5, atol=1e-5)


def test_all_rows_bad(linear: Any, columns: dict[str, np.ndarray]) -> None:
    with Scorer(linear) as scorer:
        schema = scorer.score(columns, on_bad_row="reject")[0].schema
        table, rejected = scorer.score({**columns, "number_00": [None] * ROWS}, on_bad_row="reject")
    assert (table.num_rows, table.schema) == (0, schema)
    assert rejected["_row"].to_pylist() == list(range(ROWS))


def test_what_holds_no_columns(linear: Any, columns: dict[str, np.ndarray]) -> None:
    array = np.zeros((ROWS, 2), np.float32)
    message = "^features: expected a dict of arrays, a DataFrame, a RecordBatch or a Table, got ndarray$"
    with Scorer(linear) as scorer:
        with pytest.raises(ValueError, match=message):
            scorer.score(array)
        scorer.score(columns)
        with pytest.raises(ValueError, match=message):
            scorer.score(array)


def test_on_bad_row_is_one_of_two(linear: Any, columns: dict[str, np.ndarray]) -> None:
    with (
        Scorer(linear) as scorer,
        pytest.raises(ValueError, match="on_bad_row: expected 'raise' or 'reject', got 'skip'"),
    ):
        scorer.score(columns, on_bad_row="skip")


def test_scores_that_are_not_finite_are_kept_where_the_job_keeps_them(
    model_dir_of: Callable[[Kind], str], tmp_path: Path
) -> None:
    job = job_of(KINDS["single_tensor"], model_dir_of, tmp_path)
    features = {"x": np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 3.0]], np.float32)}
    with Scorer.from_config(job, overrides=["errors.non_finite=keep"]) as scorer:
        first, second = scorer.score(features)["predictions"].to_pylist()
    assert np.isnan(first).all()
    assert np.isfinite(second).all()
    with (
        Scorer.from_config(job) as scorer,
        pytest.raises(BadRows, match=r"^row 0: prediction 'predictions' is not finite$"),
    ):
        scorer.score(features)


def test_eight_threads_at_once(linear: Any) -> None:
    columns = linear_model.make_columns(800)
    slices = [slice(100 * index, 100 * index + 100) for index in range(8)]
    with Scorer(
        linear, features={name: Feature(name, **entry) for name, entry in linear_model.FEATURES.items()}
    ) as scorer:

        def work(rows: slice) -> list[pa.Table]:
            return [scorer.score({name: values[rows] for name, values in columns.items()}) for _ in range(20)]

        expected = [work(rows)[0] for rows in slices]
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, slices))
    assert len({table["score"][0].as_py() for table in expected}) == 8
    for tables, wanted in zip(results, expected, strict=True):
        assert all(table.equals(wanted) for table in tables)


def test_threads_that_make_the_first_call_build_one_model(
    linear_model_dir: str, columns: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    estimator = linear_model.build_estimator(linear_model_dir)
    monkeypatch.setenv("LINEAR_MODEL_CALLS", str(tmp_path / "calls"))
    with Scorer(estimator) as scorer, ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(scorer.score, [columns] * 8))
    assert all(table.equals(tables[0]) for table in tables)
    assert [line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()] == ["model_fn"]


def test_a_closed_scorer_says_so(linear: Any, columns: dict[str, np.ndarray]) -> None:
    with Scorer(linear) as scorer:
        scorer.score(columns)
    with pytest.raises(ValueError, match="closed"):
        scorer.score(columns)
    scorer.close()  # closing twice is closing once


class Fahrenheit(tf.Module):
    @tf.function(input_signature=[{"celsius": tf.TensorSpec((None,), tf.float32)}])
    def __call__(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"x": features["celsius"] * 1.8 + 32.0}


def thermometer_fn(features: Any, labels: Any, mode: str) -> Any:
    value = tf.compat.v1.layers.dense(features["x"][:, None], 1)[:, 0]
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"x": features["x"], "value": value})
    loss = tf.compat.v1.losses.mean_squared_error(labels, value)
    train_op = tf.compat.v1.train.AdamOptimizer(0.1).minimize(loss, tf.compat.v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def test_transform_is_a_folder(tmp_path: Path) -> None:
    transform = Fahrenheit()
    tf.saved_model.save(transform, str(tmp_path / "transform"))
    celsius = np.linspace(-40, 100, ROWS, dtype=np.float32)
    estimator = tf.estimator.Estimator(thermometer_fn, str(tmp_path / "model"))
    estimator.train(lambda: tf.data.Dataset.from_tensors(({"x": celsius}, celsius)).repeat(), steps=5)
    expected = predicted(estimator, {"x": transform({"celsius": tf.constant(celsius)})["x"].numpy()})

    for folder in (str(tmp_path / "transform"), tmp_path / "transform"):
        with Scorer(estimator, transform=folder) as scorer:
            assert_scores(scorer.score({"celsius": celsius}), expected)
            with pytest.raises(ValueError, match=r"^features: 'celsius' is missing; there are: 'x'$"):
                scorer.score({"x": celsius})


def test_ten_thousand_calls_of_one_row(tmp_path: Path) -> None:
    """Under 1 ms a call, and no memory kept.

    A busy machine makes calls slower and never faster, so the best of five medians is the one that tells of the code.
    In a process of its own, where the memory of other tests does not come and go.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        medians, grown = pool.submit(seconds_and_memory_of_calls, str(tmp_path)).result()
    assert min(medians) < 1e-3
    assert np.median(grown) < 5


def seconds_and_memory_of_calls(folder: str) -> tuple[list[float], list[float]]:
    """Of five times 2,000 calls: the median of their seconds, and MiB more than before them all."""
    estimator = build_digits(folder, DIGITS_PARAMS)
    images = np.random.default_rng(0).random((64, 8, 8), np.float32)
    labels = np.arange(64) % 10
    estimator.train(lambda: tf.data.Dataset.from_tensors(({"input_tensor": images}, labels)), steps=1)
    features = {"input_tensor": Feature("input_tensor", "float32", "fixed", (8, 8))}
    rows = [{"input_tensor": images[index : index + 1]} for index in range(64)]
    medians: list[float] = []
    grown: list[float] = []
    with Scorer(estimator, features=features) as scorer:
        for row in rows * 16:
            scorer.score(row)
        before = resident_mib()
        for _ in range(5):
            seconds = []
            for call in range(2000):
                start = time.perf_counter()
                scorer.score(rows[call % 64])
                seconds.append(time.perf_counter() - start)
            medians.append(float(np.median(seconds)))
            grown.append(resident_mib() - before)
    return medians, grown


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MIB
