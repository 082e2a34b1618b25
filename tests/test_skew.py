"""Skew in plain words: each kind of transform on rows like those it was fitted on, and on rows with a planted skew.

What is expected is counted in Python: words in the vocabulary's own file, means and shares of the rows that are written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  first of all

import bad_inputs
import numpy as np
import pytest
from bad_inputs import FEATURES, TEXT_MARK, Bench, example, make_rows, tfrecord
from saved_transforms import DATA, TAXI, every_folder
from skewed import Row, percent, skew_of, told
from transform_cases import TAXI_SPEC
from zoo import transformed

from pipeline.skew import Skew

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

# TensorFlow Transform


def taxi_rows() -> list[Row]:
    """The rows that the transform was fitted on, ten times."""
    rows = [{**row, "words": row["words"] or None} for row in TAXI["rows"]]
    fitted = [
        {**row, "company": "Blue", "miles": 4.0, "words": ["rain"]} if index > 17 else row
        for index, row in enumerate(rows)
    ]
    return fitted * 10


def words_of(folder: str, asset: str) -> set[str]:
    return set((DATA / folder / "transform_fn" / "assets" / asset).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
@every_folder
def test_tensorflow_transform_on_rows_like_those_it_was_fitted_on(folder: str, kind: str, tmp_path: Path) -> None:
    skew = skew_of(tmp_path, taxi_rows(), TAXI_SPEC, {"transform": {"path": str(DATA / folder)}}, kind)
    assert skew.warnings == ()
    assert skew.lines[0] == "the first 200 rows, of 2 of 2 shards"
    empty = sum(row["words"] is None for row in taxi_rows())
    words = sum(len(row["words"] or []) for row in taxi_rows())
    facts = told(skew)
    assert (
        facts["company"]
        == f"none missing; vocabulary of {len(words_of(folder, 'company'))}: all of 200 values are in it"
    )
    assert facts["words"] == f"{percent(empty, 200)} missing; vocabulary of 5: all of {words} values are in it"
    assert facts["tips"] == "none missing"
    assert facts["fare"].startswith("none missing; buckets with 3 boundaries from ")
    assert facts["miles"].startswith("none missing; z-score by mean ")


def skewed_taxi_rows() -> list[Row]:
    rows = taxi_rows()
    for index, row in enumerate(rows):
        change: Row = {"miles": row["miles"] + 40.0, "company": f"{TEXT_MARK} {index}" if index % 10 else "Blue"}
        change |= {"fare": 31337.5} if index % 5 else {"fare": -7.75}
        change |= {"words": [TEXT_MARK, "rain", TEXT_MARK]} if row["words"] else {}
        rows[index] = {**row, **change}
    return rows


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
@every_folder
def test_tensorflow_transform_names_each_planted_skew(folder: str, kind: str, tmp_path: Path) -> None:
    rows = skewed_taxi_rows()
    skew = skew_of(tmp_path, rows, TAXI_SPEC, {"transform": {"path": str(DATA / folder)}}, kind)
    fitted = [0.7 * i + (i % 3) for i in range(20)]  # as tests/data/make_transforms.py has it
    mean, deviation = np.mean(fitted), np.std(fitted)
    off = (np.mean([row["miles"] for row in rows]) - mean) / deviation
    unknown = sum(row["company"] not in words_of(folder, "company") for row in rows)
    words = [word for row in rows for word in row["words"] or []]
    unknown_words = sum(word not in words_of(folder, "words") for word in words)
    facts = told(skew)
    assert f"{percent(unknown, 200)} of 200 values are not in it and share 2 hash buckets" in facts["company"]
    assert (
        f"{percent(unknown_words, len(words))} of {len(words)} values are not in it and share 1 hash bucket"
        in facts["words"]
    )
    assert (
        f"z-score by mean {mean:.4g} and deviation {deviation:.4g}: the mean here is {off:.2g} deviations above"
        in facts["miles"]
    )
    assert facts["fare"].endswith(": 20% of 200 values below the first, 80% above the last")
    assert {warning.partition(":")[0] for warning in skew.warnings} == {"company", "fare", "miles", "words"}
    assert all(warning.endswith(" (skew)") for warning in skew.warnings)
    everything = "\n".join((*skew.lines, *skew.warnings))
    for value in (TEXT_MARK, "31337", "7.75", *words_of(folder, "company"), *words_of(folder, "words")):
        assert value not in everything


# A Python function


def function_rows() -> list[Row]:
    """Rows whose company and words are all in the vocabulary, every tenth row without a company."""
    known = transformed.VOCABULARY.read_text(encoding="utf-8").splitlines()
    random = np.random.default_rng(1)
    return [
        {
            "miles": float(random.normal(3.3, 7.1)),
            "fare": float(random.uniform(3, 9)),
            "pair": random.normal(size=2).tolist(),
            "company": None if index % 10 == 0 else known[index % len(known)],
            "words": [known[index % len(known)]] * (index % 3) or None,
            "readings": [1.5] * (index % 4) or None,
        }
        for index in range(200)
    ]


FUNCTION = {"transform": {"function": "zoo.transformed:preprocess"}, "features": transformed.RAW_SPEC}


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
def test_function_on_rows_like_those_of_training(kind: str, tmp_path: Path) -> None:
    rows = function_rows()
    skew = skew_of(tmp_path, rows, transformed.RAW_SPEC, FUNCTION, kind)
    known = transformed.VOCABULARY.read_text(encoding="utf-8").splitlines()
    keys = [row["company"] or "none" for row in rows]
    outside = sum(key not in known for key in keys)  # the default is no company
    share = f"{outside / 2:g}% of 200 values are not in it and get 11" if outside else "all of 200 values are in it"
    facts = told(skew)
    size = len(known)
    assert facts["company"] == f'10% missing, the default is "none"; vocabulary of {size}: {share}'
    words = sum(len(row["words"] or []) for row in rows)
    missing = sum(row["words"] is None for row in rows) / 2
    assert facts["words"] == f"{missing:g}% missing; vocabulary of {size}: all of {words} values are in it"
    scaled = np.mean([(row["miles"] - 3.3) / 7.1 for row in rows])
    assert facts["miles"] == f"none missing; less 3.3, divided by 7.1: the mean becomes {scaled:.2g}"
    assert facts["readings"] == "25% missing"
    assert skew.warnings == ()


def test_function_on_rows_with_a_planted_skew(tmp_path: Path) -> None:
    rows = [{**row, "company": TEXT_MARK, "words": None, "fare": float("nan")} for row in function_rows()]
    skew = skew_of(tmp_path, rows, transformed.RAW_SPEC, FUNCTION, "parquet")
    assert set(skew.warnings) == {
        f"company: vocabulary of {len(transformed.VOCABULARY.read_text().splitlines())}: "
        "100% of 200 values are not in it and get 11 (skew)",
        "words: missing in every row (skew)",
        "fare: 100% of 200 values are NaN (skew)",
    }
    assert told(skew)["words"] == "missing in every row"
    assert "the same in every row" in told(skew)["company"]
    assert TEXT_MARK not in "\n".join((*skew.lines, *skew.warnings))


def test_default_of_a_parsing_spec(tmp_path: Path) -> None:
    spec = {**transformed.RAW_SPEC, "codes": {"dtype": "int64", "kind": "ragged"}}
    rows = [
        {**row, "codes": [1], "pair": None if index % 2 else row["pair"]} for index, row in enumerate(function_rows())
    ]
    function = {"function": "zoo.transformed:preprocess_codes"}
    facts = told(skew_of(tmp_path, rows, spec, {"transform": function, "features": "zoo.transformed:parsing_spec"}))
    assert facts["company"].startswith('10% missing, the default is "none"; vocabulary of ')
    assert facts["pair"] == "50% missing, which get the default"


def only_once(features: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("it kept a table of the graph that it was called in first")


def test_function_that_cannot_be_called_once_more(tmp_path: Path) -> None:
    job = {"transform": {"function": "test_skew:only_once"}, "features": {"x": {"dtype": "float32"}}}
    skew = skew_of(tmp_path, [{"x": 1.0}] * 30, job["features"], job)
    assert skew.lines[0].endswith("; the graph of the transform cannot be followed")
    assert told(skew) == {"x": "none missing; the same in every row"}


# No transform, and rows that tell little


def test_without_a_transform_missing_values_are_told(tmp_path: Path) -> None:
    spec = {
        "x": {"dtype": "float32"},
        "hour": {"dtype": "int64", "default": 7},
        "tips": {"dtype": "float32"},
        "words": {"dtype": "string", "kind": "ragged"},
        "pixels": {"dtype": "float32", "shape": [2]},
    }
    rows = [
        {
            "x": float("nan") if index % 8 == 0 else float(index),
            "hour": None if index % 4 == 0 else index,
            "tips": None,
            "words": ["a"],
            "pixels": [1.0, 2.0],
        }
        for index in range(40)
    ]
    for kind in ("tfrecord", "parquet"):
        files = {name: entry for name, entry in spec.items() if name != "tips"}
        skew = skew_of(tmp_path / kind, rows, files, {"features": spec, "input": {"optional": ["tips"]}}, kind)
        assert told(skew) == {
            "x": "none missing; 12.5% of 40 values are NaN",
            "hour": "25% missing, the default is 7",
            "tips": "missing in every row, as input.optional allows",
            "words": "none missing",
            "pixels": "none missing; the same in every row",
        }
        assert skew.warnings == ()


def test_a_column_of_files_that_is_never_filled_is_a_warning(tmp_path: Path) -> None:
    spec = {"x": {"dtype": "float32"}, "hour": {"dtype": "int64", "default": 7}}
    skew = skew_of(tmp_path, [{"x": 1.0, "hour": None}] * 30, spec, {"features": spec}, "parquet")
    assert skew.warnings == ("hour: missing in every row (skew)",)


def test_without_rows_there_is_nothing_to_tell(tmp_path: Path) -> None:
    spec = {"x": {"dtype": "float32"}}
    for kind in ("tfrecord", "parquet"):
        assert skew_of(tmp_path / kind, [], spec, {"features": spec}, kind) == Skew(("no row to look at",))


def test_few_rows_give_no_warning_and_no_mean(tmp_path: Path) -> None:
    transform = {"transform": {"path": str(DATA / "taxi_tft")}}
    skew = skew_of(tmp_path, skewed_taxi_rows()[:6], TAXI_SPEC, transform)
    assert skew.warnings == ()
    assert "the mean" not in told(skew)["miles"]


def test_equal_values_do_not_show_in_their_mean(tmp_path: Path) -> None:
    transform = {"transform": {"path": str(DATA / "taxi_tft")}}
    rows = [{**row, "miles": 81.25} for row in taxi_rows()]
    assert told(skew_of(tmp_path, rows, TAXI_SPEC, transform))["miles"].endswith(
        ": the mean here is more than 3 deviations of that"
    )


# The command


def test_check_tells_skew_and_warns(bench: Bench) -> None:
    rows = make_rows(30)
    bench.shard(tfrecord([example({**row, "words": []}) for row in rows]))
    bench.score("--limit_rows", "1", output={"path": "elsewhere"})  # writes the job file
    outcome = bench.command("check", "--config", str(bench.folder / "job.yaml"))
    assert outcome.code == 0, outcome.error
    assert "\nskew        the first 30 rows, of 1 of 1 shard\n" in outcome.said
    assert "\n  words: missing in every row\n" in outcome.said
    assert f"\n  {', '.join(name for name in FEATURES if name != 'words')}: none missing\n" in outcome.said
    assert "\nwarning     words: missing in every row (skew)\n" in outcome.said
    assert "\nthe job can run\n" in outcome.said
