"""`model.serving_input_fn`: the model gets what its export would give it, from raw records and from raw tensors by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
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
from zoo import serving_input

from pipeline import Scorer

ROWS = 40
WHOLE = ("amount", "count", "word", "pair", "tags")


def make_rows() -> list[dict[str, Any]]:
    random = np.random.default_rng(11)
    return [
        {
            "id": number,
            "note": f"note {number}",
            "amount": float(np.float32(random.uniform(0.1, 2))),
            "count": int(random.integers(0, 9)),
            "word": "w" * (number % 6),
            "pair": random.uniform(0.1, 1, 2).astype(np.float32).tolist(),
            "tags": [("red", "green", "blue")[each] for each in random.integers(0, 3, number % 4)] or None,
        }
        for number in range(ROWS)
    ]


ALL = make_rows()
GAPS = [row | {"count": None, "word": None} if number % 5 == 0 else row for number, row in enumerate(ALL)]
CUT = 23


def parse(records: Any) -> Any:
    return serving_input.preprocess(tf.io.parse_example(records, serving_input.parsing_spec()))


def parse_without_tags(records: Any) -> Any:
    spec = {name: feature for name, feature in serving_input.parsing_spec().items() if name != "tags"}
    return serving_input.preprocess(tf.io.parse_example(records, spec))


def parse_bare(records: Any) -> Any:
    return serving_input.stacked(parse(records))


def records_of(rows: list[dict[str, Any]]) -> list[list[bytes]]:
    return [[to_example(row) for row in shard] for shard in (rows[:CUT], rows[CUT:])]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    labels = [row["amount"] for row in ALL]
    return Bench(tmp_path_factory.mktemp("serving"), serving_input, records_of(ALL), parse, labels)


def serving_job(bench: Bench, folder: Path, function: str, extension: str = "tfrecord", **sections: Any) -> Path:
    model = {"serving_input_fn": f"zoo.serving_input:{function}"}
    return bench.job(folder, extension, **{"model": model, **sections})


def write(bench: Bench, folder: Path, extension: str, rows: list[dict[str, Any]]) -> None:
    if extension == "tfrecord":
        bench.shards = records_of(rows)
        bench.write_records(folder)
    else:
        bench.shards = records_of(rows)
        write_rows(folder, [rows[:CUT], rows[CUT:]], extension)


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], list[dict[str, Any]]]] = {
    "parsing": (parse, GAPS),
    "by_name": (parse, ALL),
    "bare": (parse_bare, GAPS),
    "mapping": (parse_without_tags, GAPS),
}
"""Function of the model -> what its training would have done to the records, and rows for it."""


@pytest.mark.parametrize(
    ("function", "extension"),
    [
        *(("parsing", extension) for extension in ("tfrecord", "parquet", "csv")),
        *(("by_name", extension) for extension in ("tfrecord", "parquet", "jsonl")),
        ("bare", "tfrecord"),
        ("mapping", "tfrecord"),
    ],
)
def test_scores_are_those_of_predict(bench: Bench, function: str, extension: str, tmp_path: Path) -> None:
    parsing, rows = FUNCTIONS[function]
    write(bench, tmp_path, extension, rows)
    job = serving_job(bench, tmp_path, function, extension)

    table = score(job)

    scored = predictions_of(table)
    assert differences(scored, bench.predict(parse=parsing)) == []
    assert close(scored, bench.predict(batch=ROWS, parse=parsing)) == []
    assert [str(note) for note in table["note"].to_pylist()] == [row["note"] for row in rows]
    features = {} if function == "mapping" else {name: sum(row[name] is not None for row in rows) for name in WHOLE}
    assert {name: found["present"] for name, found in manifest(job)["features"].items()} == features


def test_an_export_by_the_function_scores_as_the_checkpoint(bench: Bench, tmp_path: Path) -> None:
    write(bench, tmp_path, "tfrecord", GAPS)
    job = bench.export_job(tmp_path, serving_input.parsing)

    assert close(predictions_of(score(job)), bench.predict()) == []


def test_examples_are_made_by_features_where_the_function_does_not_tell_them(bench: Bench, tmp_path: Path) -> None:
    write(bench, tmp_path, "parquet", ALL)
    job = serving_job(bench, tmp_path, "mapping", "parquet", features=serving_input.SPEC_BY_NAME)

    assert differences(predictions_of(score(job)), bench.predict(parse=parse_without_tags)) == []


def test_its_vocabulary_file_is_one_of_the_job(bench: Bench, tmp_path: Path) -> None:
    write(bench, tmp_path, "tfrecord", ALL)
    job = serving_job(bench, tmp_path, "with_vocabulary")

    score(job)

    vocabulary = str(Path(serving_input.__file__).with_name("vocabulary.txt"))
    assert list(manifest(job)["model"]["assets"]) == [vocabulary]


def test_bad_rows_are_told_by_feature_and_stage(bench: Bench, tmp_path: Path) -> None:
    bad = {
        "missing": (to_example(ALL[0] | {"amount": None}), "read", "feature 'amount': missing, and it has no default"),
        "list": (to_example(ALL[0] | {"pair": [1.5]}), "read", "feature 'pair': expected shape (2,) = 2 values, found 1 value"),
        "no example": (b"\xff", "read", "the record is not a tf.Example"),
        "preprocessing": (to_example(ALL[0] | {"word": "hunter2" * 9}), "transform", "InvalidArgumentError in Assert"),
    }  # fmt: skip
    shard = [to_example(row) for row in ALL]
    shard[4:4] = [record for record, _, _ in bad.values()]
    with tf.io.TFRecordWriter(str(tmp_path / "rows-0.tfrecord")) as writer:
        for record in shard:
            writer.write(record)

    table = score(serving_job(bench, tmp_path, "asserting", errors={"max_bad_rows": 4}))

    found = rejected(tmp_path / "job.yaml")
    assert [(row, stage) for row, stage, _ in found] == [(4 + n, stage) for n, (_, stage, _) in enumerate(bad.values())]
    for (_, _, reason), (_, _, wanted) in zip(found, bad.values(), strict=True):
        assert reason.startswith(wanted)
        assert "hunter2" not in reason
    assert table["id"].to_pylist() == [row["id"] for row in ALL]


@pytest.mark.parametrize("function", ["parsing", "by_name"])
def test_scorer_of_the_job(bench: Bench, function: str, tmp_path: Path) -> None:
    write(bench, tmp_path, "tfrecord", ALL)
    job = serving_job(bench, tmp_path, function, output={"passthrough": []})
    with Scorer.from_config(str(job)) as scorer:
        table = scorer.score({name: [row[name] for row in ALL] for name in WHOLE})
    wanted = bench.predict(batch=ROWS, parse=FUNCTIONS[function][0])["value"]
    assert close({"value": table["value"].to_numpy()}, {"value": wanted}) == []


def test_scorer_that_can_make_no_record_says_so(bench: Bench, tmp_path: Path) -> None:
    write(bench, tmp_path, "tfrecord", ALL)
    with pytest.raises(Exception, match="so a Scorer can make none"):
        Scorer.from_config(str(serving_job(bench, tmp_path, "mapping", output={"passthrough": []})))


@pytest.mark.parametrize("function", ["parsing", "mapping"])
def test_check_and_explain(bench: Bench, function: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.commands import main

    write(bench, tmp_path, "tfrecord", GAPS)
    job = serving_job(bench, tmp_path, function)
    assert main(["check", "--config", str(job)]) == 0
    told = capsys.readouterr().out
    assert f"input       zoo.serving_input:{function}" in told
    assert ("amount" in told) == (function == "parsing")
    assert main(["explain", "--config", str(job), "--row", "rows-0.tfrecord:3"]) == 0
    assert "\ntransformed\n  x: " in capsys.readouterr().out


BAD_FUNCTIONS = {
    "fixed_batch": "has the shape (16,); its first dimension has to be the batch",
    "no_batch": "the receiver tensor 'amount' has the shape (); its first dimension has to be the batch",
    "unknown_length": "the receiver tensor 'values' has the shape (None, None), which does not tell how many values a row",
    "features_alone": "returned a dict; it has to return a tf.estimator.export.ServingInputReceiver",
    "needs_arguments": "needs the arguments spec, and is called with none; name a function without arguments",
    "failing": "ValueError",
}


@pytest.mark.parametrize("function", BAD_FUNCTIONS)
def test_function_that_cannot_work(
    bench: Bench, function: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(bench, tmp_path, "tfrecord", ALL)
    code, told = refusal(serving_job(bench, tmp_path, function), capsys)
    assert code == (6 if function == "failing" else 2)
    assert f"model.serving_input_fn: zoo.serving_input:{function}" in told
    assert BAD_FUNCTIONS[function] in told


FEATURES = {"amount": {"dtype": "float32"}}
MISTAKES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "transform": ("parsing", "tfrecord", {"transform": {"path": "."}}, "transform: does not go with model.serving_input_fn"),
    "features": ("parsing", "tfrecord", {"features": FEATURES}, "features: does not go with model.serving_input_fn"),
    "model.features": (
        "parsing", "tfrecord", {"model": {"serving_input_fn": "a:b", "features": ["x"]}},
        "model.features: does not go with model.serving_input_fn",
    ),
    "record": (
        "parsing", "tfrecord", {"model": {"serving_input_fn": "a:b", "require_record": True}},
        "model.require_record: a parity record does not go with model.serving_input_fn",
    ),
    "features by name": (
        "by_name", "parquet", {"features": FEATURES},
        "takes amount, count, word, pair, tags by name, and its placeholders tell dtype and shape; leave features out",
    ),
    "dtype of no example": (
        "mapping", "parquet", {"features": serving_input.SPEC_BY_NAME | {"x": {"dtype": "int32"}}},
        "features: x: rows become tf.Examples for model.serving_input_fn: zoo.serving_input:mapping",
    ),
    "some features": ("parsing", "parquet", {"features": FEATURES}, "parses tags, count, pair, word too"),
    "unknown features": ("mapping", "parquet", {}, "in a way that does not tell the features, and the rows are parquet"),
    "by name of bytes": ("by_name", "tfrecord", {"input": {"record": "bytes"}, "output": {"passthrough": []}}, "takes amount"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_refused(name: str, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    function, extension, sections, message = MISTAKES[name]
    write(bench, tmp_path, extension, ALL)
    code, told = refusal(serving_job(bench, tmp_path, function, extension, **sections), capsys)
    assert code == 2
    assert message in told
