"""`output.layout: mirror`: each file lies in the folder of its shard, below the output."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import linear_job
import pyarrow.dataset as ds
import pytest

from pipeline.commands import main
from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.layout import folders_of
from pipeline.rows import Shard

ROWS = 3
DAYS = ("day=2024-03-01", "day=2024-03-02")


@pytest.fixture
def folder(tmp_path: Path, linear_model_dir: str) -> Path:
    """A folder with two days of two shards each under `in`, and a job that mirrors them into `out`."""
    for day in DAYS:
        (tmp_path / "in" / day).mkdir(parents=True)
        linear_job.write_shards(tmp_path / "in" / day, 2, ROWS)
    write_job(tmp_path, linear_model_dir)
    return tmp_path


def write_job(folder: Path, model_dir: str, **output: Any) -> Path:
    settings = linear_job.job_settings(folder, model_dir)
    settings["input"]["pattern"] = str(folder / "in/*/*.tfrecord")
    settings["output"] |= {"layout": "mirror", **output}
    return linear_job.write_job(folder, settings)


def score(folder: Path) -> dict[str, Any]:
    assert main(["score", "--config", str(folder / "job.yaml"), "--quiet"]) == 0
    manifest: dict[str, Any] = json.loads((folder / "out/_manifest.json").read_bytes())
    return manifest


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def folders_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir())


def mirrored(count: int, *days: str) -> list[str]:
    return [f"{day}/part-{index:05d}-of-{count:05d}.parquet" for index, day in enumerate(days)]


def test_files_lie_in_the_folders_of_their_shards(folder: Path) -> None:
    manifest = score(folder)
    expected = mirrored(4, DAYS[0], DAYS[0], DAYS[1], DAYS[1])
    assert [file["path"] for file in manifest["files"]] == expected
    assert files_below(folder / "out") == sorted(["_SUCCESS", "_manifest.json", *expected])
    assert folders_below(folder / "out") == list(DAYS)
    table = ds.dataset(folder / "out", partitioning="hive").to_table()
    shards, days = table["_shard"].to_pylist(), table["day"].to_pylist()
    assert len(shards) == 4 * ROWS
    assert {Path(shard).parent.name for shard in shards} == set(DAYS)
    assert [f"day={day}" for day in days] == [Path(shard).parent.name for shard in shards]


def test_other_commands_find_the_files(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    score(folder)
    out = str(folder / "out")
    assert main(["inspect", out]) == 0
    assert "complete (_SUCCESS and _manifest.json are of one run, all files are there)" in capfd.readouterr().out
    assert main(["compare", out, out, "--on", "_shard,_row"]) == 0
    (folder / "out" / mirrored(1, DAYS[1])[0].replace("00000-of-00001", "00002-of-00004")).unlink()
    main(["inspect", out])
    assert "not complete: 1 of 4 files missing" in capfd.readouterr().out
    assert main(["compare", out, out, "--on", "_shard,_row"]) == 3
    assert main(["check", "--config", str(folder / "job.yaml")]) == 0
    assert "layout      mirror, 2 folders" in capfd.readouterr().out


def test_overwriting_leaves_no_empty_folder(folder: Path, linear_model_dir: str) -> None:
    write_job(folder, linear_model_dir, if_exists="overwrite")
    deep = folder / "in" / DAYS[0] / "hour=1"
    deep.mkdir()
    linear_job.write_shards(deep, 1, ROWS)
    job = json.loads((folder / "job.yaml").read_text(encoding="utf-8"))
    job["input"]["pattern"] = str(folder / "in/**/*.tfrecord")
    linear_job.write_job(folder, job)
    score(folder)
    assert folders_below(folder / "out") == [DAYS[0], f"{DAYS[0]}/hour=1", DAYS[1]]
    (folder / "out" / DAYS[1] / "notes.txt").write_text("of somebody else", encoding="utf-8")
    job["input"]["pattern"] = str(folder / "in/*2/*.tfrecord")
    job["output"]["layout"] = "flat"
    linear_job.write_job(folder, job)
    score(folder)
    flat = [f"part-{index:05d}-of-00002.parquet" for index in range(2)]
    assert files_below(folder / "out") == sorted(["_SUCCESS", "_manifest.json", f"{DAYS[1]}/notes.txt", *flat])
    assert folders_below(folder / "out") == [DAYS[1]]


def test_shards_of_two_folders_are_not_joined(folder: Path, linear_model_dir: str) -> None:
    write_job(folder, linear_model_dir, rows_per_file=1000)
    assert [(file["path"], file["rows"]) for file in score(folder)["files"]] == [
        (path, 2 * ROWS) for path in mirrored(2, *DAYS)
    ]


def test_a_file_of_another_writer_in_a_folder_below(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    strange = folder / "out" / DAYS[0] / "part-00000-of-00009.parquet"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"")
    assert main(["score", "--config", str(folder / "job.yaml"), "--quiet"]) == 7
    assert f"holds {DAYS[0]}/part-00000-of-00009.parquet, which no _manifest.json there names" in capfd.readouterr().err
    assert strange.exists()


def test_rejected_rows_stay_together(folder: Path, linear_model_dir: str) -> None:
    job = write_job(folder, linear_model_dir)
    settings = json.loads(job.read_text(encoding="utf-8"))
    for day in DAYS:
        shard = folder / "in" / day / "rows-00000.tfrecord"
        data = bytearray(shard.read_bytes())
        data[-5] ^= 1  # in the last record
        shard.write_bytes(data)
    linear_job.write_job(folder, settings | {"errors": {"max_bad_rows": 2}})
    manifest = score(folder)
    assert [file["path"] for file in manifest["rejected_files"]] == [
        "_rejected/part-00000-of-00004.parquet",
        "_rejected/part-00002-of-00004.parquet",
    ]
    assert folders_below(folder / "out") == ["_rejected", *DAYS]


def layout_of(patterns: Sequence[str], paths: Sequence[str], output: str = "/out") -> dict[str, str]:
    job = Job.model_validate(
        {
            "name": "mirror",
            "input": {"pattern": list(patterns), "format": "csv"},
            "features": {"x": {"dtype": "float32"}},
            "model": {"model_fn": "a:b", "model_dir": "/m"},
            "output": {"path": output, "layout": "mirror"},
        }
    )
    return folders_of([Shard(path, 1) for path in paths], job)


@pytest.mark.any_tensorflow
@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["/in/*/*.csv"], {"/in/a/x.csv": "a"}),
        (["/in/**/*.csv"], {"/in/a/b/x.csv": "a/b", "/in/x.csv": ""}),
        (["/in//./a*/*.csv"], {"/in/ab/x.csv": "ab"}),
        (["/in/day=1/x.csv"], {"/in/day=1/x.csv": ""}),
        (["/in/day=1/*.csv", "/in/day=2/*.csv"], {"/in/day=1/x.csv": "day=1", "/in/day=2/x.csv": "day=2"}),
        (["/in/*/x.csv", "/in/a/*.csv"], {"/in/a/x.csv": "a", "/in/b/x.csv": "b"}),
        (["/one/*.csv", "/other/*.csv"], {"/one/x.csv": "one", "/other/x.csv": "other"}),
        (["gs://bucket/in/*/x.csv"], {"gs://bucket/in/a/x.csv": "a"}),
        (["gs://bucket/a/*.csv", "gs://bucket/b/*.csv"], {"gs://bucket/a/x.csv": "a", "gs://bucket/b/x.csv": "b"}),
    ],
)
def test_the_folder_below_which_shards_are_mirrored(patterns: list[str], expected: dict[str, str]) -> None:
    assert layout_of(patterns, list(expected)) == expected


@pytest.mark.any_tensorflow
@pytest.mark.parametrize(
    ("patterns", "path", "message"),
    [
        (["gs://one/*.csv", "gs://other/*.csv"], "gs://one/x.csv", "have no folder in common"),
        (["/in/*.csv", "gs://other/*.csv"], "/in/x.csv", "have no folder in common"),
        (["/in/*/*.csv"], "/in/_old/x.csv", r"/in/_old/x.csv lies in '_old', and readers leave folders out"),
        (["/in/*/*.csv"], "/in/.a/x.csv", r"lies in '.a'"),
    ],
)
def test_folders_that_cannot_be_mirrored(patterns: list[str], path: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        layout_of(patterns, [path])


@pytest.mark.any_tensorflow
def test_a_mirrored_file_that_would_be_a_shard_of_the_next_run() -> None:
    with pytest.raises(JobError, match=r"/in/out/y/a/b is at or under input.pattern"):
        layout_of(["/in/*/*/*/*/part-*"], ["/in/y/a/b/part-1"], "/in/out")


FOLDERS_ELSEWHERE: dict[str, Callable[[str], str]] = {
    "up": lambda name: f"../{name}",
    "up from below": lambda name: f"a/../../{name}",
    "absolute": lambda name: f"/elsewhere/{name}",
    "of our own": lambda name: f"_temporary/{name}",
}


@pytest.mark.any_tensorflow
@pytest.mark.parametrize("elsewhere", FOLDERS_ELSEWHERE.values(), ids=FOLDERS_ELSEWHERE)
def test_what_a_manifest_names_elsewhere_is_not_ours(elsewhere: Callable[[str], str]) -> None:
    from pipeline.manifest import named_files

    name = "part-00000-of-00001.parquet"
    files = [{"path": name}, {"path": f"day=1/{name}"}, {"path": elsewhere(name)}]
    mirrored = {"files": files, "job": {"output": {"layout": "mirror"}}}
    assert named_files("/out", mirrored, None) == [f"/out/{name}", f"/out/day=1/{name}"]
    assert named_files("/out", {"files": files}, None) == [f"/out/{name}"]
