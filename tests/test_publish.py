"""Publishing: whole or not at all, within the budgets, over an older output, and killed at any step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from published import listing, new_plan, publish_plan, run, table, write_part
from test_files import KINDS, new_folder

from pipeline import files
from pipeline.errors import BudgetError
from pipeline.manifest import read_manifest
from pipeline.publish import Limits
from pipeline.results import find_result


@pytest.fixture(params=KINDS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_folder(request.param, tmp_path)


def test_a_published_output(output: str) -> None:
    manifest = run(output, "r1", 2, rejected=1)

    assert listing(output) == [
        "_SUCCESS",
        "_manifest.json",
        "_rejected/part-00000-of-00002.parquet",
        "_rejected/part-00001-of-00002.parquet",
        "part-00000-of-00002.parquet",
        "part-00001-of-00002.parquet",
    ]
    assert files.read_bytes(files.join(output, "_SUCCESS")) == b"r1"
    assert read_manifest(output) == manifest
    assert table(output, "part-00001-of-00002.parquet").to_pylist() == [
        {"score": row / 2, "_shard": "in/1.csv", "_row": row} for row in range(3)
    ]
    assert table(output, "_rejected/part-00001-of-00002.parquet").column("_row").to_pylist() == [3]


def test_manifest(output: str) -> None:
    plan = new_plan(
        "r1",
        2,
        features=("x", "y"),
        optional=("y",),
        model={"estimator": "m:build", "checkpoint": "m/model.ckpt-7", "step": 7, "digest": "d", "assets": {}},
        transform={"path": "t", "fingerprint": "f"},
        record={"state": "unverified", "max_difference": None},
        job={"name": "digits"},
        versions={"tensorflow": "2.21.0"},
        settings={"checkpoint": "c"},
        code={"m.py": "s"},
        timings={"launch_seconds": 1.5},
        memory={"processes_per_machine": 1, "variable_bytes": 7, "launcher_peak_bytes": 8},
        warnings=("noticed at launch",),
    )
    write_part(output, replace(plan, run_id="r0"), 0, scored=1500, rejected=1, present={"x": 1501})
    write_part(output, plan, 1, scored=1200, state="tail_lost")

    manifest = publish_plan(output, plan, Limits(1, 0.5))

    digests = {}
    for name in ("part-00000-of-00002.parquet", "part-00001-of-00002.parquet", "_rejected/part-00000-of-00002.parquet"):
        data = files.read_bytes(files.join(output, name))
        digests[name] = {"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    finished, seconds = manifest.pop("finished"), manifest["timings"].pop("total_seconds")
    (peak,) = manifest["memory"].pop("workers_peak_bytes")  # that of this process; r0 was another run
    assert 2**26 < peak < 2**36
    assert finished.endswith("Z")
    milliseconds = (pd.Timestamp(finished) - pd.Timestamp(plan.started)) // pd.Timedelta(milliseconds=1)
    assert seconds == milliseconds / 1000
    assert manifest == {
        "format_version": 1,
        "name": "digits",
        "run_id": "r1",
        "run_date": "2026-11-22",
        "started": "2026-11-22T03:00:00.000Z",
        "rows": {"read": 2701, "scored": 2700, "rejected": 1},
        "files": [
            {"rows": 1500, **digests["part-00000-of-00002.parquet"]},
            {"rows": 1200, **digests["part-00001-of-00002.parquet"]},
        ],
        "rejected_files": [{"rows": 1, **digests["_rejected/part-00000-of-00002.parquet"]}],
        "schema": [
            {"name": "score", "type": "float"},
            {"name": "_shard", "type": "string"},
            {"name": "_row", "type": "int64"},
        ],
        "shards": [
            {
                "path": "in/0.csv", "bytes": 0, "modified": "1970-01-02T00:00:00.500000Z", "etag": None, "read": 1501,
                "scored": 1500, "rejected": 1, "state": "done", "rows_lost": 0,
            },
            {
                "path": "in/1.csv", "bytes": 10, "modified": "1970-01-02T00:00:00.500000Z", "etag": None, "read": 1200,
                "scored": 1200, "rejected": 0, "state": "tail_lost", "rows_lost": None,
            },
        ],
        "features": {"x": {"present": 1501, "missing": 1200}, "y": {"present": 0, "missing": 2701}},
        "model": {"estimator": "m:build", "checkpoint": "m/model.ckpt-7", "step": 7, "digest": "d", "assets": {}},
        "transform": {"path": "t", "fingerprint": "f"},
        "record": {"state": "unverified", "max_difference": None},
        "job": {"name": "digits"},
        "versions": {"tensorflow": "2.21.0"},
        "settings": {"checkpoint": "c"},
        "code": {"m.py": "s"},
        "timings": {"launch_seconds": 1.5},
        "memory": {"processes_per_machine": 1, "variable_bytes": 7, "launcher_peak_bytes": 8},
        "resumed_parts": 1,
        "halved_batches": 0,
        "limited": None,
        "warnings": [
            "noticed at launch",
            "in/1.csv: tail_lost: the gzip stream ends early",
            "in/1.csv: none of its 1200 rows has a value for the feature x, unlike other shards",
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda pattern: pq.ParquetDataset(sorted(Path().glob(pattern))).read().to_pandas(), id="pyarrow"),
        pytest.param(
            lambda pattern: pd.concat(pd.read_parquet(path) for path in sorted(Path().glob(pattern))), id="pandas"
        ),
        pytest.param(
            lambda pattern: duckdb.execute(f"SELECT * FROM '{pattern}' ORDER BY _shard, _row").df(), id="duckdb"
        ),
    ],
)
def test_the_parts_are_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], pd.DataFrame]
) -> None:
    run(str(tmp_path), "r1", 3, scored=2, rejected=1)
    run_of_no_rows = str(tmp_path / "empty")
    run(run_of_no_rows, "r2", 1, scored=0)
    monkeypatch.chdir(tmp_path)

    frame = read("part-*.parquet")

    assert list(frame.columns) == ["score", "_shard", "_row"]
    assert frame["score"].tolist() == [0.0, 0.5] * 3
    assert frame["_shard"].tolist() == [f"in/{index}.csv" for index in range(3) for _ in range(2)]
    assert frame["_row"].tolist() == [0, 1] * 3
    monkeypatch.chdir(run_of_no_rows)
    assert len(read("part-*.parquet")) == 0


@pytest.mark.parametrize(
    ("rejected", "limit", "allowed"),
    [
        pytest.param(0, 0, True, id="none of none"),
        pytest.param(1, 0, False, id="one of none"),
        pytest.param(29, 29, True, id="count reached"),
        pytest.param(30, 29, False, id="count passed"),
        pytest.param(29, 0.29, True, id="fraction reached"),
        pytest.param(30, 0.29, False, id="fraction passed"),
        pytest.param(1, 1, True, id="1 is one row"),
        pytest.param(2, 1, False, id="1 is not all rows"),
        pytest.param(100, 1.0, True, id="1.0 is all rows"),
    ],
)
def test_row_budget(output: str, rejected: int, limit: float, allowed: bool) -> None:
    plan = new_plan("r1", 1)
    write_part(output, plan, 0, scored=100 - rejected, rejected=rejected)
    if allowed:
        assert publish_plan(output, plan, Limits(limit))["rows"]["rejected"] == rejected
        return

    with pytest.raises(BudgetError) as error:
        publish_plan(output, plan, Limits(limit))

    assert error.value.exit_code == 4
    folder = files.join(output, "_rejected")
    assert str(error.value) == (
        f"{rejected} of 100 rows were rejected, more than errors.max_bad_rows: {limit} allows\n"
        "nothing was published; parts that are whole are kept, and are not scored again\n"
        f"rejected rows: {folder}"
    )
    assert table(folder, "part-00000-of-00001.parquet").num_rows == rejected
    assert not {"_SUCCESS", "_manifest.json", "part-00000-of-00001.parquet"} & set(listing(output))


@pytest.mark.parametrize(
    ("broken", "limit", "allowed"),
    [(0, 0, True), (1, 0, False), (1, 1, True), (2, 1, False), (2, 0.5, True), (3, 0.5, False), (4, 1.0, True)],
)
def test_shard_budget(output: str, broken: int, limit: float, allowed: bool) -> None:
    plan = new_plan("r1", 4)
    for index in range(4):
        write_part(output, plan, index, state="tail_lost" if index < broken else "done")
    if allowed:
        manifest = publish_plan(output, plan, Limits(0, limit))
        assert [shard["state"] for shard in manifest["shards"]] == ["tail_lost"] * broken + ["done"] * (4 - broken)
        assert manifest["rows"]["scored"] == 12
        return

    with pytest.raises(BudgetError) as error:
        publish_plan(output, plan, Limits(1.0, limit))

    assert str(error.value).startswith(
        f"{broken} of 4 shards are broken, more than errors.max_broken_shards: {limit} allows: "
        "in/0.csv (tail_lost: the gzip stream ends early)"
    )
    assert "rejected rows" not in str(error.value)
    assert [find_result(output, part) is not None for part in plan.parts] == [False] * broken + [True] * (4 - broken)


def test_an_unreadable_shard_under_budget_is_an_empty_part(output: str) -> None:
    plan = new_plan("r1", 2)
    write_part(output, plan, 0)
    write_part(output, plan, 1, scored=0, state="unreadable")

    manifest = publish_plan(output, plan, Limits(0, 1))

    assert (manifest["shards"][1]["state"], manifest["shards"][1]["rows_lost"]) == ("unreadable", None)
    assert table(output, "part-00001-of-00002.parquet").num_rows == 0


def test_both_budgets_are_told_at_once(output: str) -> None:
    with pytest.raises(BudgetError, match=r"(?s)2 of 8 rows .*\n2 of 2 shards .*rejected rows: "):
        run(output, "r1", 2, Limits(), rejected=1, state="tail_lost")


def test_a_larger_budget_needs_no_row_scored_again(output: str) -> None:
    plan = new_plan("r1", 2)
    write_part(output, plan, 0, rejected=2)
    write_part(output, plan, 1)
    with pytest.raises(BudgetError):
        publish_plan(output, plan, Limits(1))

    manifest = publish_plan(output, replace(plan, run_id="r2"), Limits(2))

    assert manifest["resumed_parts"] == 2
    assert "_rejected/_refused.json" not in listing(output)
    assert table(output, "_rejected/part-00000-of-00002.parquet").num_rows == 2


def test_what_a_refused_run_left_is_gone_after_the_next(output: str) -> None:
    with pytest.raises(BudgetError):
        run(output, "r1", 3, Limits(), rejected=1)
    assert "_rejected/part-00002-of-00003.parquet" in listing(output)

    run(output, "r2", 3)

    assert [name for name in listing(output) if name.startswith("_rejected")] == []


def test_a_refused_run_leaves_an_earlier_output_as_it_was(output: str) -> None:
    run(output, "r1", 2, rejected=1)
    before = {name: files.read_bytes(files.join(output, name)) for name in listing(output)}

    with pytest.raises(BudgetError, match=r"rejected rows: .*/_rejected/r2$"):
        run(output, "r2", 2, Limits(), rejected=2)

    after = {name: files.read_bytes(files.join(output, name)) for name in listing(output)}
    assert {name: after[name] for name in before} == before
    assert table(output, "_rejected/r2/part-00001-of-00002.parquet").num_rows == 2
    run(output, "r3", 1)
    assert listing(output) == ["_SUCCESS", "_manifest.json", "part-00000-of-00001.parquet"]


def test_rejected_path_of_the_job(tmp_path: Path) -> None:
    output, rejected = str(tmp_path / "out"), str(tmp_path / "bad")
    limits = Limits(1.0, 0, rejected)

    manifest = run(output, "r1", 2, limits, rejected=1)

    assert manifest["rejected_files"][1]["path"] == f"{rejected}/part-00001-of-00002.parquet"
    assert listing(rejected) == ["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"]
    run(output, "r2", 1, limits, rejected=1)
    assert listing(rejected) == ["part-00000-of-00001.parquet"]


def test_overwrite_leaves_nothing_of_a_run_with_more_shards_and_all_that_is_foreign(output: str) -> None:
    run(output, "r1", 5, rejected=1)
    foreign = ["README.md", "part-of-the-story.txt", "_rejected/notes.txt", "other/part-00004-of-00005.parquet"]
    for name in foreign:
        files.write_bytes(files.join(output, name), b"mine")

    run(output, "r2", 2, scored=7)

    assert set(listing(output)) == {
        *foreign, "_SUCCESS", "_manifest.json", "part-00000-of-00002.parquet", "part-00001-of-00002.parquet",
    }  # fmt: skip
    assert table(output, "part-00001-of-00002.parquet").num_rows == 7


def test_a_manifest_cannot_have_other_files_deleted(output: str) -> None:
    manifest = run(output, "r1", 1, rejected=1)
    targets = ["../precious.parquet", "precious.parquet", "sub/part-00000-of-00001.parquet"]
    for name in targets:
        files.write_bytes(files.join(output, name), b"mine")
    manifest["files"] += [{"path": name} for name in targets]
    manifest["rejected_files"] += [{"path": files.join(output, "sub", "part-00000-of-00001.parquet")}]
    files.write_bytes(files.join(output, "_manifest.json"), json.dumps(manifest).encode())

    run(output, "r2", 2)

    assert all(files.read_bytes(files.join(output, name)) == b"mine" for name in targets)


def test_many_parts(tmp_path: Path) -> None:
    sizes: Sequence[int] = range(40)
    plan = new_plan("r1", len(sizes))
    for index, size in enumerate(sizes):
        write_part(str(tmp_path), plan, index, scored=size)

    manifest = publish_plan(str(tmp_path), plan)

    assert [file["rows"] for file in manifest["files"]] == list(sizes)
    assert [pq.read_metadata(tmp_path / file["path"]).num_rows for file in manifest["files"]] == list(sizes)
