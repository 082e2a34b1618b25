"""Kinds of features: what `tf.io.parse_example` makes of them in training reaches the model, from records and from columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from record_bench import (
    Bench,
    close,
    differences,
    manifest,
    predictions_of,
    refusal,
    rejected,
    score,
    to_example,
    write_rows,
)
from zoo import feature_kinds

from pipeline import Scorer
from pipeline.features import Feature, from_tensorflow, to_tensorflow
from pipeline.graph_input import parse_order
from transforms.fit import unfit

ROWS = 40


def make_rows() -> list[dict[str, Any]]:
    """Distinct rows; some lack each of the features that have any number of values."""
    random = np.random.default_rng(3)

    def numbers(count: int) -> list[float]:
        return random.uniform(0.1, 1, count).astype(np.float32).tolist()

    rows = []
    for number in range(ROWS):
        indices = sorted(random.choice(12, int(random.integers(0, 5)), replace=False).tolist())
        cells = int(random.integers(0, 4))
        rows.append(
            {
                "id": number,
                "note": None if number % 3 == 0 else f"note {number}",
                "bias": numbers(1)[0],
                "steps": numbers(number % 4) or None,
                "points": [numbers(2) for _ in range((number + 1) % 3)] or None,
                "words": [f"w{'x' * (number % 5)}"] * (number % 2) or None,
                "index": indices or None,
                "value": numbers(len(indices)) or None,
                "row": sorted(random.integers(0, 4, cells).tolist()) or None,
                "column": list(range(cells)) or None,
                "cell": numbers(cells) or None,
                "flat": numbers(1 + number % 3),
                "lengths": [1, number % 3],
                "extra": numbers(number % 2) or None,
            }
        )
    return rows


ALL = make_rows()
SHARDS = [ALL[:25], ALL[25:]]
PRESENT = {
    "bias": "bias", "steps": "steps", "points": "points", "words": "words", "weights": "value", "grid": "cell",
}  # fmt: skip


def parse(records: Any) -> Any:
    return tf.io.parse_example(records, feature_kinds.raw_spec())


def parse_ragged(records: Any) -> Any:
    return tf.io.parse_example(records, feature_kinds.ragged_spec())


def trained(folder: Path, parsing: Callable[[Any], Any]) -> Bench:
    records = [[to_example(row) for row in shard] for shard in SHARDS]
    return Bench(folder, feature_kinds, records, parsing, [row["bias"] for row in ALL])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return trained(tmp_path_factory.mktemp("kinds"), parse)


def write(bench: Bench, folder: Path, extension: str) -> None:
    if extension == "tfrecord":
        bench.write_records(folder)
    else:
        write_rows(folder, SHARDS, extension)


@pytest.mark.parametrize("extension", ["tfrecord", "parquet", "csv", "jsonl"])
def test_scores_are_those_of_predict(bench: Bench, extension: str, tmp_path: Path) -> None:
    write(bench, tmp_path, extension)
    job = bench.job(tmp_path, extension, features=feature_kinds.RAW_SPEC)

    scored = predictions_of(score(job))

    assert differences(scored, bench.predict()) == []
    assert close(scored, bench.predict(batch=ROWS)) == []
    assert scored["inputs"].std(axis=0).min() > 0.01
    present = {name: ROWS - sum(row[field] is None for row in ALL) for name, field in PRESENT.items()}
    assert {name: found["present"] for name, found in manifest(job)["features"].items()} == present


def test_an_export_scores_as_the_checkpoint(bench: Bench, tmp_path: Path) -> None:
    write(bench, tmp_path, "tfrecord")
    receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(feature_kinds.raw_spec())

    assert close(predictions_of(score(bench.export_job(tmp_path, receiver))), bench.predict()) == []


@pytest.mark.parametrize("extension", ["tfrecord", "parquet"])
def test_fields_may_have_other_names_in_the_files(bench: Bench, extension: str, tmp_path: Path) -> None:
    rename = {"index": "i", "value": "v", "steps": "s", "row": "r"}
    shards = [[{rename.get(name, name): value for name, value in row.items()} for row in shard] for shard in SHARDS]
    if extension == "tfrecord":
        renamed = [[to_example(row) for row in shard] for shard in shards]
        for number, records in enumerate(renamed):
            with tf.io.TFRecordWriter(str(tmp_path / f"rows-{number}.tfrecord")) as writer:
                for record in records:
                    writer.write(record)
    else:
        write_rows(tmp_path, shards, extension)
    source = {"pattern": str(tmp_path / f"rows-*.{extension}"), "rename": rename, "optional": ["steps", "weights"]}
    job = bench.job(tmp_path, extension, features=feature_kinds.RAW_SPEC, input=source)

    assert differences(predictions_of(score(job)), bench.predict()) == []


def test_classes_that_only_records_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = trained(tmp_path, parse_ragged)
    bench.write_records(tmp_path)
    job = bench.job(tmp_path, features="zoo.feature_kinds:ragged_spec")
    scored = predictions_of(score(job))
    assert differences(scored, bench.predict()) == []
    assert refusal(job, capsys) == (0, "")

    write_rows(tmp_path, SHARDS, "parquet")
    job = bench.job(tmp_path, "parquet", features="zoo.feature_kinds:ragged_spec")
    code, message = refusal(job, capsys)
    assert code == 2
    assert "features: matrix: a RaggedFeature with partitions is read from TFRecord alone" in message


BAD = {
    "steps of a half": ({"points": [0.5, 0.5, 0.5]}, "feature 'points': expected steps of shape (2,) = 2 values each, found 3 values"),
    "an index without its value": (
        {"index": [1, 2], "value": [0.5]},
        "feature 'weights': expected as many indices as values, found 2 values of 'index' and 1 value of 'value'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("extension", ["tfrecord", "parquet"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_costs_itself_alone(bench: Bench, extension: str, kind: str, tmp_path: Path) -> None:
    changed, reason = BAD[kind]
    # The row behind it makes up for the difference, so that only a look at each row tells.
    shard = [
        *SHARDS[0][:3],
        SHARDS[0][3] | changed,
        SHARDS[0][4] | {"index": [1], "value": [0.5, 0.25]},
        *SHARDS[0][5:],
    ]
    if kind != "an index without its value":
        shard[4] = SHARDS[0][4]
    if extension == "tfrecord":
        with tf.io.TFRecordWriter(str(tmp_path / "rows-0.tfrecord")) as writer:
            for row in shard:
                writer.write(to_example(row))
    else:
        write_rows(tmp_path, [[row | {"points": np.ravel(row["points"] or []).tolist()} for row in shard]], extension)
    job = bench.job(tmp_path, extension, features=feature_kinds.RAW_SPEC, errors={"max_bad_rows": 2})

    table = score(job)

    bad = [3, 4] if kind == "an index without its value" else [3]
    found = rejected(job)
    assert [(row, stage) for row, stage, _ in found] == [(row, "read") for row in bad]
    assert found[0][2] == reason
    assert table["id"].to_pylist() == [row["id"] for row in shard if row["id"] not in bad]


def test_scorer_takes_them_from_arrays(bench: Bench) -> None:
    spec = feature_kinds.raw_spec()
    fields = {
        name: [row[name] for row in ALL] for name in ALL[0] if name not in ("id", "note", "flat", "lengths", "extra")
    }
    with Scorer(bench.estimator, features=spec) as scorer:
        table = scorer.score(fields)
    assert close({"value": table["value"].to_numpy()}, {"value": bench.predict(batch=ROWS)["value"]}) == []


def test_parity_record_keeps_them(bench: Bench, tmp_path: Path) -> None:
    from pipeline.commands import main

    for extension in ("tfrecord", "parquet"):
        folder = tmp_path / extension
        folder.mkdir()
        rows = [row | {"id": number, "bias": row["bias"] + number} for number in range(3) for row in ALL]
        if extension == "tfrecord":
            with tf.io.TFRecordWriter(str(folder / "rows-0.tfrecord")) as writer:
                for row in rows:
                    writer.write(to_example(row))
        else:
            write_rows(folder, [rows], extension)
        model = {"record": str(folder / "record")}
        job = bench.job(folder, extension, features=feature_kinds.RAW_SPEC, model=model)
        without = bench.job(folder, extension, features=feature_kinds.RAW_SPEC)
        job.write_text(without.read_text().replace('"model_dir"', f'"record": "{folder / "record"}", "model_dir"'))
        assert main(["record", "--config", str(job), "--rows", "100"]) == 0
        score(job)
        assert manifest(job)["record"]["state"] == "verified"


def test_model_that_minds_the_padding_is_refused(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.write_records(tmp_path)
    model = {"estimator": "zoo.feature_kinds:build_unmasked"}
    code, message = refusal(bench.job(tmp_path, features=feature_kinds.RAW_SPEC, model=model), capsys)
    assert code == 6
    assert "depends on the other rows of the batch" in message
    assert "padding to the longest row" in message


@pytest.mark.any_tensorflow
def test_fit_takes_none_of_them() -> None:
    spec = from_tensorflow(feature_kinds.ragged_spec(), "here")
    assert {name for name, key, _ in unfit(spec) if key == "kind"} == spec.keys() - {"bias"}


def test_order_is_that_of_the_op() -> None:
    spec = feature_kinds.ragged_spec() | {
        "a": tf.io.VarLenFeature(tf.string),
        "z": tf.io.RaggedFeature(tf.int64),
        "index": tf.io.VarLenFeature(tf.int64),
    }
    features = from_tensorflow(spec, "here")
    with tf.Graph().as_default():
        wanted = list(tf.io.parse_example(tf.compat.v1.placeholder(tf.string, [None]), spec))
    assert parse_order(features) == wanted
    assert from_tensorflow(to_tensorflow(features), "here") == features


def test_nested_steps_are_taken_from_lists_of_them() -> None:
    from pipeline.decode import decode_column
    from pipeline.decode_text import decode_json

    feature = Feature("p", "float32", "sequence", (2,))
    rows = [[[1.0, 2.0], [3.0, 4.0]], [], None, [[1.0]], [5.0, 6.0]]
    decoded = decode_json(rows, feature)
    assert decoded.values.to_pylist() == [[1.0, 2.0, 3.0, 4.0], [], [], [], [5.0, 6.0]]
    assert list(decoded.bad) == [3]
    nested = decode_column(pa.array(rows[:4]), feature)
    assert nested.values.to_pylist() == [[1.0, 2.0, 3.0, 4.0], [], [], []]
    assert nested.bad == {3: "expected steps of shape (2,) = 2 values each, found shape (1, 1)"}


MISTAKES = {
    "no index": ({"kind": "sparse", "value_key": "v", "size": 3}, "kind sparse needs index_key, as tf.io.SparseFeature has it"),
    "sizes": ({"kind": "sparse", "index_key": ["i", "j"], "value_key": "v", "size": 3}, "index_key names 2 fields and size has 1 numbers"),
    "shape of sparse": ({"kind": "sparse", "index_key": "i", "value_key": "v", "size": 3, "shape": [3]}, "kind sparse has no shape"),
    "size of fixed": ({"size": 3}, "kind fixed has no size; leave it out, or write kind: sparse"),
    "default of a sequence": ({"kind": "sequence", "shape": [2], "default": [1, 2]}, "a sequence is padded with one"),
    "list of an example": ({"kind": "varlen", "feature_list": True}, "a tf.Example has no feature lists"),
}  # fmt: skip


@pytest.mark.any_tensorflow
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_refused(name: str, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry, message = MISTAKES[name]
    code, told = refusal(bench.job(tmp_path, features={"x": {"dtype": "float32", **entry}}), capsys)
    assert code == 2
    assert "features.x: " in told
    assert message in told
