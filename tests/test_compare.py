"""The command `compare`: what differs, by how much, and in which rows, whatever their order."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from compare_tables import ROWS, Write, changed, columns, scores

from pipeline import commands
from pipeline.compare import TOLERANCE, compare


def test_same_run_is_equal(write_side: Write, capsys: pytest.CaptureFixture[str]) -> None:
    new = write_side("new", scores())

    assert commands.main(["compare", new, new, "--on", "trip_id"]) == 0

    out = capsys.readouterr().out
    assert f"within tolerance: 0 of {ROWS} rows differ, 0 may" in out
    assert re.search(r"^  probabilities +0 +0 +0 +0 +0 +0 +0 +0 +1e-05$", out, re.MULTILINE)
    assert re.search(r"^  label +0 +0.0000%$", out, re.MULTILINE)
    assert "_shard" not in out


def test_order_of_rows_and_files_makes_no_difference(write_side: Write) -> None:
    table = scores()
    shuffled = table.take(np.random.default_rng(1).permutation(ROWS))
    other = changed(changed(table, "score", dict.fromkeys(range(40), 0.5)), "label", dict.fromkeys(range(60), "x"))
    backwards = other.take(np.arange(ROWS)[::-1])

    assert compare(write_side("new", table), write_side("old", shuffled), ["trip_id"]).exit_code == 0
    first = json.loads(compare(write_side("a", table), write_side("b", other), ["trip_id"]).to_json())
    second = json.loads(compare(write_side("c", shuffled), write_side("d.parquet", backwards), ["trip_id"]).to_json())
    for found in (first, second):
        del found["new"]["path"], found["old"]["path"]
    assert first == second
    assert first["differing"] == 60
    assert [row["key"]["trip_id"] for row in first["columns"][3]["worst"]] == [f"trip-{n:06d}" for n in range(10)]


def test_one_changed_row_in_a_million_is_found(write_side: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 1_000_000
    values = np.random.default_rng(3).random(rows, np.float32)
    keys = pa.array(np.arange(rows)).cast(pa.string())
    other = values.copy()
    other[765_432] += 0.25
    new = write_side("new.parquet", pa.table({"trip_id": keys, "score": values}))
    old = write_side("old.parquet", pa.table({"trip_id": keys, "score": other}).take(np.arange(rows)[::-1]))

    assert commands.main(["compare", new, old, "--on", "trip_id"]) == 8
    out = capsys.readouterr().out
    assert "DIFFERS: 1 of 1,000,000 rows differ, 0 may" in out
    assert re.search(r"^ +765432 +0\.\d+ +\d\.\d+ +0\.25$", out, re.MULTILINE)
    assert commands.main(["compare", new, old, "--on", "trip_id", "--max_differing", "1"]) == 0


def test_differences_are_those_of_numpy(write_side: Write) -> None:
    table = scores(2000)
    noise = np.random.default_rng(5).normal(0, 1e-3, 8000) * np.random.default_rng(6).integers(0, 2, 8000)
    before = np.asarray(table["probabilities"].combine_chunks().flatten())
    after = (before + noise).astype(np.float32)
    old = table.set_column(2, "probabilities", pa.FixedSizeListArray.from_arrays(pa.array(after), 4))

    found = columns(compare(write_side("new", table), write_side("old", old), ["trip_id"], atol=1e-3, rtol=1e-3))[
        "probabilities"
    ]

    difference = np.abs(before.astype(float) - after)
    beyond = (difference > 1e-3 + 1e-3 * np.abs(after)).reshape(-1, 4).any(axis=1)
    assert found["values"] == 8000
    assert found["differing"] == beyond.sum() > 0
    assert found["share"] == beyond.sum() / 2000
    assert found["largest"] == difference.max()
    assert found["mean"] == pytest.approx(difference.mean(), rel=1e-5)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        exact = np.quantile(difference, share, method="inverted_cdf")
        assert exact <= found[name] <= exact * 1.008, name
    worst = np.argsort(-difference.reshape(-1, 4).max(axis=1))[:10]
    assert [row["key"]["trip_id"] for row in found["worst"]] == [f"trip-{row:06d}" for row in worst]
    assert [row["at"] for row in found["worst"]] == [[int(difference.reshape(-1, 4)[row].argmax())] for row in worst]
    assert found["worst"][0]["difference"] == difference.max()


@pytest.mark.parametrize(
    ("atol", "rtol", "differing"),
    [
        pytest.param(None, None, 1, id="default: 1e-5 of the largest"),
        pytest.param(0.5, None, 2, id="atol alone"),
        pytest.param(None, 1e-3, 1, id="rtol alone"),
        pytest.param(0.9, 1e-2, 0, id="both"),
        pytest.param(0, 0, 3, id="exact"),
    ],
)
def test_tolerance(write_side: Write, atol: float | None, rtol: float | None, differing: int) -> None:
    old = pa.table({"k": [0, 1, 2, 3], "v": [1000.0, 100_000.0, -1000.0, 5.0]})
    new = pa.table({"k": [0, 1, 2, 3], "v": [1000.9, 100_000.6, -1010.0, 5.0]})
    if (atol, rtol) == (0.5, None):
        new = changed(new, "v", {2: -1000.4})

    comparison = compare(write_side("new.parquet", new), write_side("old.parquet", old), ["k"], atol=atol, rtol=rtol)

    assert comparison.differing == differing
    if atol is None and rtol is None:
        assert columns(comparison)["v"]["tolerance"] == {"absolute": TOLERANCE * 100_000, "relative": 0.0}


def test_columns_of_other_names(write_side: Write, capsys: pytest.CaptureFixture[str]) -> None:
    table = scores()
    renamed = table.rename_columns(["id", "p1", "probabilities", "classes", "label", "_shard", "_row"])
    new, old = (
        write_side("new", table),
        write_side("old.parquet", changed(renamed, "p1", {7: 2.0}).append_column("score", table["score"])),
    )

    code = commands.main(["compare", new, old, "--on", "trip_id", "--map", "trip_id=id", "--map", "score=p1"])

    out = capsys.readouterr().out
    assert code == 8
    assert re.search(r"^score \(p1\): the worst rows that differ\n.*\n +trip-000007 ", out, re.MULTILINE)
    assert re.search(r"^not in new +columns score$", out, re.MULTILINE)


def test_rows_on_one_side_are_counted_and_their_first_keys_named(write_side: Write) -> None:
    table = scores()
    new, old = table.slice(0, 290), table.slice(15)

    comparison = compare(write_side("new", new), write_side("old", old), ["trip_id"], max_differing=24)

    assert (comparison.paired, comparison.new.alone.count, comparison.old.alone.count) == (275, 15, 10)
    assert [key["trip_id"] for key in comparison.new.alone.first] == [f"trip-{row:06d}" for row in range(10)]
    assert [key["trip_id"] for key in comparison.old.alone.first] == [f"trip-{row:06d}" for row in range(290, 300)]
    assert comparison.exit_code == 8
    assert "only in new  15 rows: trip_id=trip-000000; trip_id=trip-000001" in comparison.summary()
    assert compare(write_side("a", new), write_side("b", old), ["trip_id"], max_differing=25).exit_code == 0


@pytest.mark.parametrize("twice_in", ["new", "old"])
def test_duplicate_keys_fail_and_the_rest_is_compared(write_side: Write, twice_in: str) -> None:
    table = changed(scores(), "score", {9: 3.0})
    sides = {"new": scores(), "old": table}
    sides[twice_in] = pa.concat_tables([sides[twice_in], sides[twice_in].slice(3, 2), sides[twice_in].slice(4, 1)])

    comparison = compare(
        write_side("new", sides["new"]), write_side("old", sides["old"]), ["trip_id"], max_differing=1000
    )

    side = getattr(comparison, twice_in)
    assert (side.duplicates.count, side.duplicate_rows) == (2, 5)
    assert [key["trip_id"] for key in side.duplicates.first] == ["trip-000003", "trip-000004"]
    assert (comparison.paired, comparison.differing) == (ROWS - 2, 1)
    assert (comparison.new.alone.count, comparison.old.alone.count) == (0, 0)
    assert comparison.exit_code == 8
    assert f"twice in {twice_in}" in comparison.summary()


def test_keys_of_two_columns(write_side: Write) -> None:
    table = pa.table({"_shard": ["a", "a", None], "_row": [0, 1, 0], "score": [0.1, 0.2, 0.3]})
    other = changed(table, "score", {1: 0.5}).take([2, 1, 0])

    comparison = compare(write_side("new.parquet", table), write_side("old.parquet", other), ["_shard", "_row"])

    assert comparison.paired == 3
    assert columns(comparison)["score"]["worst"] == [
        {"key": {"_shard": "a", "_row": 1}, "new": 0.2, "old": 0.5, "at": None, "difference": pytest.approx(0.3)}
    ]


def test_nan_equals_nan_and_nothing_else(write_side: Write) -> None:
    nan, inf = math.nan, math.inf
    new = pa.table({"k": range(8), "v": [nan, nan, 1.0, inf, inf, None, 0.0, 1e308]})
    old = pa.table({"k": range(8), "v": [nan, 1.0, nan, inf, -inf, nan, -0.0, -1e308]})

    found = columns(compare(write_side("new.parquet", new), write_side("old.parquet", old), ["k"], rtol=0.5))["v"]

    assert (found["values"], found["nan_mismatches"], found["differing"]) == (4, 2, 4)
    assert (found["largest"], found["mean"], found["p50"], found["p99"]) == ("Infinity", "Infinity", 0.0, "Infinity")
    assert [row["key"]["k"] for row in found["worst"]] == [1, 2, 4, 7]
    assert found["worst"][0] == {"key": {"k": 1}, "new": "NaN", "old": 1.0, "at": None, "difference": "NaN"}


@pytest.mark.parametrize(
    ("values", "others"),
    [
        pytest.param(["a", "b", None, "é"], ["a", "B", None, "é"], id="string"),
        pytest.param([1, 2, 2**62, 4], [1, 3, 2**62, 4], id="int64"),
        pytest.param([True, False, None, True], [True, True, None, True], id="bool"),
        pytest.param([b"\xff", b"x", b"", b"z"], [b"\xff", b"y", b"", b"z"], id="binary"),
        pytest.param([["a"], ["b", "c"], [], None], [["a"], ["b", "d"], [], None], id="list of strings"),
        pytest.param([[1], [2], [3], [4]], [[1], [], [3], [4]], id="list of int64"),
        pytest.param([1, None, 3, 4], [1, 0, 3, 4], id="missing"),
    ],
)
def test_other_columns_are_equal_or_not(write_side: Write, values: list[Any], others: list[Any]) -> None:
    new = pa.table({"k": [0, 1, 2, 3], "v": values})
    old = pa.table({"k": [0, 1, 2, 3], "v": others})

    comparison = compare(write_side("new.parquet", new), write_side("old.parquet", old), ["k"])

    (column,) = comparison.columns
    assert (column.differing, column.numbers) == (1, None)
    assert [row["key"] for row in column.worst] == [{"k": 1}]
    assert columns(comparison)["v"]["share"] == 0.25


@pytest.mark.parametrize(
    ("values", "others", "type_", "differing", "other_lengths"),
    [
        pytest.param([[1.0, 2.0], []], [[1.0, 2.5], []], pa.list_(pa.float64()), 1, 0, id="list"),
        pytest.param([[1.0, 2.0], None], [[1.0], None], pa.list_(pa.float32()), 1, 1, id="other length"),
        pytest.param([[1.0], None], [[1.0], [2.0]], pa.list_(pa.float32()), 1, 1, id="missing list"),
        pytest.param(
            [[[1.0], [2.0]], [[3.0], [4.0]]],
            [[[1.0], [2.0]], [[3.0], [4.5]]],
            pa.list_(pa.list_(pa.float32(), 1), 2),
            1,
            0,
            id="fixed size, nested",
        ),
        pytest.param(
            [[[1.0, 2.0], []], [[5.0]]], [[[1.0], [2.0]], [[5.0]]], pa.list_(pa.list_(pa.float64())), 1, 1, id="ragged"
        ),
        pytest.param([[1.0, None], [2.0]], [[1.0, math.nan], [2.0]], pa.list_(pa.float64()), 0, 0, id="NaN inside"),
    ],
)
def test_lists(
    write_side: Write, values: list[Any], others: list[Any], type_: pa.DataType, differing: int, other_lengths: int
) -> None:
    new = pa.table({"k": [0, 1], "v": pa.array(values, type_)})
    old = pa.table({"k": [0, 1], "v": pa.array(others, type_)})

    found = columns(compare(write_side("new.parquet", new), write_side("old.parquet", old), ["k"]))["v"]

    assert (found["differing"], found["other_lengths"]) == (differing, other_lengths)
    if differing and not other_lengths:
        assert found["largest"] == found["worst"][0]["difference"] == 0.5
    for row in found["worst"] if other_lengths else []:
        assert (row["at"], row["difference"]) == (None, None)


def test_types_that_are_compared_with_each_other(write_side: Write) -> None:
    new = pa.table({"k": pa.array([1, 2], pa.int32()), "class": ["0", "1"], "flat": [0.5, 0.25], "flag": [True, False]})
    old = pa.table(
        {"k": ["1", "2"], "class": pa.array([0, 1], pa.uint8()), "flat": [[0.5], [0.25]], "flag": pa.array([1, 0])}
    )

    comparison = compare(write_side("new.parquet", new), write_side("old.parquet", old), ["k"])

    assert (comparison.paired, comparison.differing) == (2, 0)
