"""The command `compare`: what differs, by how much, and in which rows, whatever the files and their order."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import commands
from pipeline.compare import TOLERANCE, compare, key_columns, renamed_columns
from pipeline.compare import sides as compare_sides
from pipeline.compare.result import Comparison
from pipeline.compare.values import Differences, Tolerance
from pipeline.errors import InputError, JobError, ScoringError

ROWS = 300


def scores(rows: int = ROWS) -> pa.Table:
    """A key, a score, a class of it, probabilities and the columns that tell where a row came from."""
    random = np.random.default_rng(7)
    probabilities = random.dirichlet(np.ones(4), rows).astype(np.float32)
    return pa.table(
        {
            "trip_id": [f"trip-{number:06d}" for number in range(rows)],
            "score": random.random(rows, np.float32),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), 4),
            "classes": probabilities.argmax(axis=1),
            "label": [f"class {number}" for number in probabilities.argmax(axis=1)],
            "_shard": ["a.tfrecord"] * rows,
            "_row": np.arange(rows),
        }
    )


def changed(table: pa.Table, column: str, values: dict[int, Any]) -> pa.Table:
    """The table with other values in some rows of a column."""
    cells = table[column].to_pylist()
    for row, value in values.items():
        cells[row] = value
    return table.set_column(table.schema.get_field_index(column), column, pa.array(cells, table[column].type))


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a table: an output folder of three parts, or a file by the extension of its name."""

    def to(name: str, table: pa.Table) -> str:
        path = tmp_path / name
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        elif ".csv" in name:
            frame = pd.DataFrame(
                {
                    column: [json.dumps(cell) if isinstance(cell, list) else cell for cell in cells]
                    for column, cells in table.to_pydict().items()
                }
            )
            frame.to_csv(path, index=False)
        elif ".jsonl" in name:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        else:
            path.mkdir()
            bounds = [0, table.num_rows // 3, table.num_rows // 2, table.num_rows]
            files = []
            for number in range(3):
                part = path / f"part-{number:05d}-of-00003.parquet"
                pq.write_table(table.slice(bounds[number], bounds[number + 1] - bounds[number]), part)
                files.append({"path": part.name, "bytes": part.stat().st_size})
            (path / "_rejected").mkdir()
            pq.write_table(pa.table({"_row": [0]}), path / "_rejected" / "part-00000-of-00003.parquet")
            (path / "_manifest.json").write_text(json.dumps({"format_version": 1, "files": files}))
            (path / "_SUCCESS").write_text("run")
        return str(path)

    return to


def columns(comparison: Comparison) -> dict[str, Any]:
    """The columns of the JSON report by name."""
    return {column["name"]: column for column in json.loads(comparison.to_json())["columns"]}


def test_same_run_is_equal(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    new = write("new", scores())

    assert commands.main(["compare", new, new, "--on", "trip_id"]) == 0

    out = capsys.readouterr().out
    assert f"within tolerance: 0 of {ROWS} rows differ, 0 may" in out
    assert re.search(r"^  probabilities +0 +0 +0 +0 +0 +0 +0 +0 +1e-05$", out, re.MULTILINE)
    assert re.search(r"^  label +0 +0.0000%$", out, re.MULTILINE)
    assert "_shard" not in out


def test_order_of_rows_and_files_makes_no_difference(write: Write) -> None:
    table = scores()
    shuffled = table.take(np.random.default_rng(1).permutation(ROWS))
    other = changed(changed(table, "score", dict.fromkeys(range(40), 0.5)), "label", dict.fromkeys(range(60), "x"))
    backwards = other.take(np.arange(ROWS)[::-1])

    assert compare(write("new", table), write("old", shuffled), ["trip_id"]).exit_code == 0
    first = json.loads(compare(write("a", table), write("b", other), ["trip_id"]).to_json())
    second = json.loads(compare(write("c", shuffled), write("d.parquet", backwards), ["trip_id"]).to_json())
    for found in (first, second):
        del found["new"]["path"], found["old"]["path"]
    assert first == second
    assert first["differing"] == 60
    assert [row["key"]["trip_id"] for row in first["columns"][3]["worst"]] == [f"trip-{n:06d}" for n in range(10)]


def test_one_changed_row_in_a_million_is_found(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    rows = 1_000_000
    values = np.random.default_rng(3).random(rows, np.float32)
    keys = pa.array(np.arange(rows)).cast(pa.string())
    other = values.copy()
    other[765_432] += 0.25
    new = write("new.parquet", pa.table({"trip_id": keys, "score": values}))
    old = write("old.parquet", pa.table({"trip_id": keys, "score": other}).take(np.arange(rows)[::-1]))

    assert commands.main(["compare", new, old, "--on", "trip_id"]) == 8
    out = capsys.readouterr().out
    assert "DIFFERS: 1 of 1,000,000 rows differ, 0 may" in out
    assert re.search(r"^ +765432 +0\.\d+ +\d\.\d+ +0\.25$", out, re.MULTILINE)
    assert commands.main(["compare", new, old, "--on", "trip_id", "--max_differing", "1"]) == 0


def test_differences_are_those_of_numpy(write: Write) -> None:
    table = scores(2000)
    noise = np.random.default_rng(5).normal(0, 1e-3, 8000) * np.random.default_rng(6).integers(0, 2, 8000)
    before = np.asarray(table["probabilities"].combine_chunks().flatten())
    after = (before + noise).astype(np.float32)
    old = table.set_column(2, "probabilities", pa.FixedSizeListArray.from_arrays(pa.array(after), 4))

    found = columns(compare(write("new", table), write("old", old), ["trip_id"], atol=1e-3, rtol=1e-3))["probabilities"]

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
def test_tolerance(write: Write, atol: float | None, rtol: float | None, differing: int) -> None:
    old = pa.table({"k": [0, 1, 2, 3], "v": [1000.0, 100_000.0, -1000.0, 5.0]})
    new = pa.table({"k": [0, 1, 2, 3], "v": [1000.9, 100_000.6, -1010.0, 5.0]})
    if (atol, rtol) == (0.5, None):
        new = changed(new, "v", {2: -1000.4})

    comparison = compare(write("new.parquet", new), write("old.parquet", old), ["k"], atol=atol, rtol=rtol)

    assert comparison.differing == differing
    if atol is None and rtol is None:
        assert columns(comparison)["v"]["tolerance"] == {"absolute": TOLERANCE * 100_000, "relative": 0.0}


def test_columns_of_other_names(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    table = scores()
    renamed = table.rename_columns(["id", "p1", "probabilities", "classes", "label", "_shard", "_row"])
    new, old = (
        write("new", table),
        write("old.parquet", changed(renamed, "p1", {7: 2.0}).append_column("score", table["score"])),
    )

    code = commands.main(["compare", new, old, "--on", "trip_id", "--map", "trip_id=id", "--map", "score=p1"])

    out = capsys.readouterr().out
    assert code == 8
    assert re.search(r"^score \(p1\): the worst rows that differ\n.*\n +trip-000007 ", out, re.MULTILINE)
    assert re.search(r"^not in new +columns score$", out, re.MULTILINE)


def test_rows_on_one_side_are_counted_and_their_first_keys_named(write: Write) -> None:
    table = scores()
    new, old = table.slice(0, 290), table.slice(15)

    comparison = compare(write("new", new), write("old", old), ["trip_id"], max_differing=24)

    assert (comparison.paired, comparison.new.alone.count, comparison.old.alone.count) == (275, 15, 10)
    assert [key["trip_id"] for key in comparison.new.alone.first] == [f"trip-{row:06d}" for row in range(10)]
    assert [key["trip_id"] for key in comparison.old.alone.first] == [f"trip-{row:06d}" for row in range(290, 300)]
    assert comparison.exit_code == 8
    assert "only in new  15 rows: trip_id=trip-000000; trip_id=trip-000001" in comparison.summary()
    assert compare(write("a", new), write("b", old), ["trip_id"], max_differing=25).exit_code == 0


@pytest.mark.parametrize("twice_in", ["new", "old"])
def test_duplicate_keys_fail_and_the_rest_is_compared(write: Write, twice_in: str) -> None:
    table = changed(scores(), "score", {9: 3.0})
    sides = {"new": scores(), "old": table}
    sides[twice_in] = pa.concat_tables([sides[twice_in], sides[twice_in].slice(3, 2), sides[twice_in].slice(4, 1)])

    comparison = compare(write("new", sides["new"]), write("old", sides["old"]), ["trip_id"], max_differing=1000)

    side = getattr(comparison, twice_in)
    assert (side.duplicates.count, side.duplicate_rows) == (2, 5)
    assert [key["trip_id"] for key in side.duplicates.first] == ["trip-000003", "trip-000004"]
    assert (comparison.paired, comparison.differing) == (ROWS - 2, 1)
    assert (comparison.new.alone.count, comparison.old.alone.count) == (0, 0)
    assert comparison.exit_code == 8
    assert f"twice in {twice_in}" in comparison.summary()


def test_keys_of_two_columns(write: Write) -> None:
    table = pa.table({"_shard": ["a", "a", None], "_row": [0, 1, 0], "score": [0.1, 0.2, 0.3]})
    other = changed(table, "score", {1: 0.5}).take([2, 1, 0])

    comparison = compare(write("new.parquet", table), write("old.parquet", other), ["_shard", "_row"])

    assert comparison.paired == 3
    assert columns(comparison)["score"]["worst"] == [
        {"key": {"_shard": "a", "_row": 1}, "new": 0.2, "old": 0.5, "at": None, "difference": pytest.approx(0.3)}
    ]


def test_nan_equals_nan_and_nothing_else(write: Write) -> None:
    nan, inf = math.nan, math.inf
    new = pa.table({"k": range(8), "v": [nan, nan, 1.0, inf, inf, None, 0.0, 1e308]})
    old = pa.table({"k": range(8), "v": [nan, 1.0, nan, inf, -inf, nan, -0.0, -1e308]})

    found = columns(compare(write("new.parquet", new), write("old.parquet", old), ["k"], rtol=0.5))["v"]

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
def test_other_columns_are_equal_or_not(write: Write, values: list[Any], others: list[Any]) -> None:
    new = pa.table({"k": [0, 1, 2, 3], "v": values})
    old = pa.table({"k": [0, 1, 2, 3], "v": others})

    comparison = compare(write("new.parquet", new), write("old.parquet", old), ["k"])

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
    write: Write, values: list[Any], others: list[Any], type_: pa.DataType, differing: int, other_lengths: int
) -> None:
    new = pa.table({"k": [0, 1], "v": pa.array(values, type_)})
    old = pa.table({"k": [0, 1], "v": pa.array(others, type_)})

    found = columns(compare(write("new.parquet", new), write("old.parquet", old), ["k"]))["v"]

    assert (found["differing"], found["other_lengths"]) == (differing, other_lengths)
    if differing and not other_lengths:
        assert found["largest"] == found["worst"][0]["difference"] == 0.5
    for row in found["worst"] if other_lengths else []:
        assert (row["at"], row["difference"]) == (None, None)


@pytest.mark.parametrize("name", ["old.csv", "old.csv.gz", "old.jsonl", "old.jsonl.gz", "old.json"])
def test_sides_of_text(write: Write, tmp_path: Path, name: str) -> None:
    import gzip

    table = scores().drop_columns(["_shard", "_row"])
    other = changed(changed(table, "score", {5: 0.0}), "label", {6: "", 7: "2024-05-01"})
    path = write(name.removesuffix(".gz").replace(".json", ".jsonl").replace("jsonll", "jsonl"), other)
    target = tmp_path / name
    data = Path(path).read_bytes()
    target.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    comparison = compare(write("new", table), str(target), ["trip_id"])

    found = columns(comparison)
    assert {column: entry["differing"] for column, entry in found.items()} == {
        "score": 1, "probabilities": 0, "classes": 0, "label": 2,
    }  # fmt: skip
    assert found["probabilities"]["values"] == 4 * ROWS
    assert [row["old"] for row in found["label"]["worst"]] == [None if ".csv" in name else "", "2024-05-01"]


def test_text_takes_the_type_of_the_other_side(tmp_path: Path, write: Write) -> None:
    typed = pa.table(
        {
            "k": [7, 8, 9],
            "text": ["007", "1.50", "nan"],
            "number": pa.array([0.1, 0.2, None], pa.float32()),
            "whole": [1, 2, 3],
            "flag": [True, False, None],
            "logits": [[0.5], [1.5], [2.5]],
        }
    )
    (tmp_path / "old.csv").write_text(
        "k,text,number,whole,flag,logits\n007,007,0.1,1,true,0.5\n08,1.50,0.2,2.0,0,1.5\n9,nan,,3,,2.5\n"
    )

    comparison = compare(write("new.parquet", typed), str(tmp_path / "old.csv"), ["k"], atol=0)

    assert comparison.summary().count("DIFFERS") == 0
    assert (comparison.paired, comparison.exit_code) == (3, 0)


def test_two_sides_of_text(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('k,n,d,l,s\n007,1,1.0,"[1, 2]",a\n7,2,nan,"[3]","#b"\n')
    (tmp_path / "old.csv").write_text('k,n,d,l,s\n7,3,nan,"[3.5]","#b"\n007,1,1e0,"[1.0, 2]",a\n')

    comparison = compare(str(tmp_path / "new.csv"), str(tmp_path / "old.csv"), ["k"])

    assert comparison.paired == 2
    assert {column.name: (column.differing, column.numbers is not None) for column in comparison.columns} == {
        "n": (1, False),
        "d": (0, True),
        "l": (1, True),
        "s": (0, False),
    }


def test_json_lines_keep_text_and_take_nan(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text(
        '{"k": "2024-05-01", "v": NaN, "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "l": [1, NaN]}\n'
        '{"k": "x", "v": 1, "l": [0.5], "id": "X"}\n'
    )
    (tmp_path / "old.jsonl").write_text(
        '{"k": "x", "v": Infinity, "l": [0.5, 1], "id": "x"}\n{"k": "2024-05-01", "l": [1, null], '
        '"id": "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"}\n'
    )

    comparison = compare(str(tmp_path / "new.jsonl"), str(tmp_path / "old.jsonl"), ["k"])

    assert comparison.paired == 2
    assert {column.name: column.differing for column in comparison.columns} == {"v": 1, "id": 2, "l": 1}


def test_types_that_are_compared_with_each_other(write: Write) -> None:
    new = pa.table({"k": pa.array([1, 2], pa.int32()), "class": ["0", "1"], "flat": [0.5, 0.25], "flag": [True, False]})
    old = pa.table(
        {"k": ["1", "2"], "class": pa.array([0, 1], pa.uint8()), "flat": [[0.5], [0.25]], "flag": pa.array([1, 0])}
    )

    comparison = compare(write("new.parquet", new), write("old.parquet", old), ["k"])

    assert (comparison.paired, comparison.differing) == (2, 0)


def test_many_files_by_a_pattern_with_wildcards_in_their_names(write: Write, tmp_path: Path) -> None:
    table = scores()
    new = write("new", table)
    (tmp_path / "run_date=2024-05-01").mkdir()
    for number in range(3):
        pq.write_table(table.slice(number * 100, 100), tmp_path / "run_date=2024-05-01" / f"it's [{number}]*.parquet")

    assert compare(new, f"{tmp_path}/run_date=*/*.parquet", ["trip_id"]).exit_code == 0
    one = compare(new, f"{tmp_path}/run_date=2024-05-01/it's [1]*.parquet", ["trip_id"])
    assert (one.paired, one.new.alone.count) == (100, 200)
    assert one.old.other_columns == []


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        pytest.param(["--on", "trip"], ["--on: NEW has no column 'trip'; it has trip_id, score"], id="key of NEW"),
        pytest.param(
            ["--on", "only"], ["--on: OLD has no column 'only'; it has trip_id", "--map only=NAME"], id="key of OLD"
        ),
        pytest.param(["--on", "trip_id", "--map", "scores=score"], ["--map: NEW has no column 'scores'"], id="map, NEW"),
        pytest.param(
            ["--on", "trip_id", "--map", "score=p"], ["--map score=p: OLD has no column 'p'; it has"], id="map, OLD"
        ),
        pytest.param(["--on", "trip_id", "--map", "score"], ["--map score: expected NEW=OLD"], id="map, form"),
        pytest.param(
            ["--on", "trip_id", "--map", "score=score", "--map", "score=label"], ["'score' was mapped before"], id="map twice"
        ),
        pytest.param(
            ["--on", "trip_id", "--map", "score=score", "--map", "label=score"],
            ["'score' and 'label' are both compared with OLD's 'score'"],
            id="two with one",
        ),
        pytest.param(["--on", "trip_id,trip_id"], ["expected different names"], id="key twice"),
        pytest.param(["--on", "trip_id,"], ["--on trip_id,: expected different names"], id="empty key"),
        pytest.param(["--on", "probabilities"], ["FLOAT[] in NEW and FLOAT[] in OLD; a list is no key"], id="list"),
        pytest.param(
            ["--on", "trip_id", "--map", "score=label"],
            ["column 'score': FLOAT in NEW and VARCHAR in OLD cannot be compared"],
            id="types",
        ),
        pytest.param(["--on", "trip_id", "--atol", "-1"], ["--atol -1.0: expected a number from 0 on"], id="atol"),
        pytest.param(["--on", "trip_id", "--rtol", "nan"], ["--rtol nan"], id="rtol"),
        pytest.param(["--on", "trip_id", "--max_differing", "-1"], ["--max_differing -1"], id="max_differing"),
        pytest.param(["--on", "trip_id", "--report", "x.txt"], ["ends in .html or .json"], id="report"),
        pytest.param(["--on", "trip_id", "--report", "no/x.json"], ["there is no folder"], id="folder of report"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    write: Write, capsys: pytest.CaptureFixture[str], arguments: list[str], messages: list[str]
) -> None:
    new = write("new.parquet", scores(5).append_column("only", pa.array(range(5))))
    old = write("old.parquet", scores(5))

    assert commands.main(["compare", new, old, *arguments]) == 2

    error = capsys.readouterr().err
    for message in messages:
        assert message in error


def test_nothing_to_compare_is_refused(write: Write) -> None:
    new, old = pa.table({"k": [1], "a": [1.0], "_row": [0]}), pa.table({"k": [1], "b": [1.0], "_row": [0]})

    with pytest.raises(JobError, match=r"no column to compare: NEW has k, a, _row; OLD has k, b, _row\. --map new=old"):
        compare(write("new.parquet", new), write("old.parquet", old), ["k"])


def remove_success(folder: Path) -> None:
    (folder / "_SUCCESS").unlink()


def remove_part(folder: Path) -> None:
    (folder / "part-00001-of-00003.parquet").unlink()


def cut_part(folder: Path) -> None:
    part = folder / "part-00001-of-00003.parquet"
    part.write_bytes(part.read_bytes()[:-1])


def remove_all_parts(folder: Path) -> None:
    (folder / "_manifest.json").unlink()
    for part in folder.glob("part-*"):
        part.unlink()


def damage_manifest(folder: Path) -> None:
    (folder / "_manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(remove_success, "is not complete: there is no _SUCCESS", id="no _SUCCESS"),
        pytest.param(
            remove_part, "1 file of 3 missing or of another size than in _manifest.json: part-00001", id="part"
        ),
        pytest.param(cut_part, "1 file of 3 missing or of another size", id="cut part"),
        pytest.param(remove_all_parts, "holds no part-", id="no parts"),
        pytest.param(damage_manifest, "_manifest.json is damaged (JSONDecodeError)", id="manifest"),
    ],
)
def test_incomplete_output_folder_is_refused(
    write: Write, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], message: str
) -> None:
    new, old = write("new", scores()), write("old", scores())
    damage(Path(old))

    assert commands.main(["compare", new, old, "--on", "trip_id"]) == 3

    error = capsys.readouterr().err
    assert f"OLD: {old}" in error
    assert message in error


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        pytest.param("no.parquet", None, InputError, "there is no file and no folder", id="no file"),
        pytest.param("no-*.parquet", None, InputError, "no file matches", id="no match"),
        pytest.param("x.tfrecord", b"", JobError, "is tfrecord; compare reads .parquet", id="tfrecord"),
        pytest.param("x.txt", b"", JobError, "does not tell its format", id="unknown"),
        pytest.param("x.parquet", b"PAR1 no", InputError, "cannot be read: ", id="damaged Parquet"),
        pytest.param(
            "x.csv", b"k,v\n1,2\n1,2,secret\n", InputError, "cannot be read as CSV with a header", id="CSV row too long"
        ),
        pytest.param(
            "x.csv", b'k,v\n1,"secret"x\n', InputError, "cannot be read as CSV with a header", id="CSV quoting"
        ),
        pytest.param("x.jsonl", b'{"k": 1}\n{"k": secret}\n', InputError, "cannot be read: ", id="JSON"),
    ],
)
def test_side_that_cannot_be_read_is_refused(
    write: Write, tmp_path: Path, name: str, data: bytes | None, error: type[ScoringError], message: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    new = write("new.parquet", pa.table({"k": [1], "v": [2]}))

    with pytest.raises(error) as refused:
        compare(new, str(tmp_path / name), ["k"])

    assert message in str(refused.value)
    assert str(refused.value).startswith("OLD: ")
    assert "secret" not in str(refused.value)


def test_damaged_page_is_told_without_a_traceback(write: Write, tmp_path: Path) -> None:
    path = Path(write("old.parquet", scores(5000)))
    data = bytearray(path.read_bytes())
    data[1000 : len(data) - 4000] = bytes(len(data) - 5000)
    path.write_bytes(data)

    with pytest.raises(InputError, match="cannot be read: "):
        compare(write("new.parquet", scores(5000)), str(path), ["trip_id"])


def test_output_that_is_published_anew_meanwhile_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = write("new", scores()), write("old", scores())
    opened = compare_sides.Side.check_unchanged

    def publish_then_check(side: compare_sides.Side) -> None:
        (Path(old) / "_SUCCESS").write_text("another run")
        opened(side)

    monkeypatch.setattr(compare_sides.Side, "check_unchanged", publish_then_check)

    with pytest.raises(InputError, match=r"OLD: .* was published anew while it was read; compare again"):
        compare(new, old, ["trip_id"])


def test_output_folder_on_another_filesystem(write: Write, tmp_path: Path) -> None:
    from test_files import new_folder

    from pipeline import files

    table = scores()
    local, remote = Path(write("new", table)), new_folder("store", tmp_path)
    for path in local.rglob("*.*"):
        files.write_bytes(f"{remote}/{path.relative_to(local)}", path.read_bytes())

    with pytest.raises(InputError, match=f"OLD: {remote} is not complete: there is no _SUCCESS"):
        compare(str(local), remote, ["trip_id"])
    files.write_bytes(f"{remote}/_SUCCESS", b"run")
    assert compare(str(local), remote, ["trip_id"]).exit_code == 0
    assert compare(f"{remote}/part-*.parquet", str(local), ["trip_id"]).exit_code == 0
    with pytest.raises(InputError, match=r"NEW: no file matches memory://.*/no-\*\.csv"):
        compare(f"{remote}/no-*.csv", str(local), ["trip_id"])
    with pytest.raises(JobError, match=r"NEW: nothing reads nowhere://x; object stores need an extra"):
        compare("nowhere://x", str(local), ["trip_id"])


def test_report_as_json_says_what_the_command_says(write: Write, tmp_path: Path) -> None:
    new, old = write("new", scores()), write("old", changed(scores(), "label", {4: "other"}))
    report = tmp_path / "report.json"

    assert commands.main(["compare", new, old, "--on", "trip_id", "--report", str(report)]) == 8

    found = json.loads(report.read_text())
    assert (found["exit_code"], found["paired"], found["differing"], found["on"]) == (8, ROWS, 1, ["trip_id"])
    label = next(column for column in found["columns"] if column["name"] == "label")
    assert label["worst"] == [{"key": {"trip_id": "trip-000004"}, "new": scores()["label"][4].as_py(), "old": "other"}]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib, of the extra report")
def test_report_as_html_holds_its_plots_and_nothing_of_other_sites(write: Write, tmp_path: Path) -> None:
    table = scores().append_column("<b>$&", scores()["score"])
    new, old = write("new", table), write("old", changed(table, "score", {4: math.inf, 5: 0.0}))
    report = tmp_path / "report.html"
    arguments = ["compare", new, old, "--on", "trip_id", "--report", str(report)]

    assert commands.main(arguments) == 8

    page = report.read_text()
    assert page.count("<svg") == page.count("</svg>") == 3
    assert "distribution of score" in page
    assert "&lt;b&gt;$&amp;" in page
    assert "<b>" not in page
    assert "trip-000005" in page
    assert not re.search(r"<(script|link|img|iframe)|(?<!xmlns:)(?:src|href)=\"http", page)
    assert commands.main(arguments) == 8
    assert report.read_text() == page


def test_html_without_matplotlib_says_what_to_install(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.compare.report.find_spec", lambda name: None)
    new = write("new", scores())

    assert commands.main(["compare", new, new, "--on", "trip_id", "--report", "x.html"]) == 2

    assert "the plots need matplotlib: pip install 'estimator-score[report]'" in capsys.readouterr().err


def test_no_numbers_at_all_leave_the_histogram_empty() -> None:
    measured = Differences(Tolerance(0.0, 0.0), math.inf, -math.inf)

    measured.add(pa.array([None, math.nan], pa.float64()), pa.array([math.nan, None], pa.float64()))

    zeros, edges, counts = measured.histogram()
    assert (zeros, len(edges), len(counts), measured.quantile(500), measured.mean) == (0, 0, 0, 0.0, 0.0)


def test_histogram_counts_every_finite_difference() -> None:
    differences = np.concatenate([np.zeros(5), 10.0 ** np.random.default_rng(2).uniform(-12, 3, 1000), [math.inf]])
    measured = Differences(Tolerance(0.0, 0.0), 0.0, 1.0)

    measured.add(pa.array(differences), pa.array(np.zeros(len(differences))))

    zeros, edges, counts = measured.histogram()
    assert (zeros, counts.sum()) == (5, 1000)
    finite = differences[(differences > 0) & np.isfinite(differences)]
    assert edges[0] <= finite.min()
    assert edges[-1] >= finite.max()
    assert np.abs(np.cumsum(counts) - [(finite <= edge).sum() for edge in edges[1:]]).max() <= 10


def test_options() -> None:
    assert key_columns("a, b") == ["a", "b"]
    assert renamed_columns(["a=b", "c=d=e"]) == {"a": "b", "c": "d=e"}


def test_local_files_need_neither_tensorflow_nor_beam(write: Write) -> None:
    new = write("new", scores())
    program = (
        "import sys; from pipeline.commands import main; "
        f"code = main(['compare', {new!r}, {new!r}, '--on', 'trip_id']); "
        "print([name for name in ('tensorflow', 'apache_beam') if name in sys.modules]); sys.exit(code)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_constants_are_those_of_the_modules_that_import_beam() -> None:
    from pipeline import manifest, probe, publish

    assert (publish.SUCCESS, manifest.MANIFEST) == (compare_sides.SUCCESS, compare_sides.MANIFEST)
    assert probe.TOLERANCE == TOLERANCE
