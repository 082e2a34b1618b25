"""What a command imports and how long it takes before there is work to do: in processes of their own."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import pipeline.tf_estimator  # makes tf.estimator exist

import pytest
from linear_job import job_settings, write_shards

import pipeline.run
from pipeline.commands import main
from pipeline.job.file import load_job

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "apache_beam", "pandas", "pyarrow.parquet")
PROGRAM = """
    import json, sys, time
    from pipeline.commands import main
    try:
        code = main(sys.argv[1:])
    except SystemExit as ended:
        code = ended.code
    imported = [name for name in {heavy} if name in sys.modules]
    print(json.dumps([code, imported, time.process_time()]))
"""


class Ended(NamedTuple):
    """The end of a command. imported: the heavy modules. seconds: of CPU time, from the start of the process."""

    code: int
    imported: list[str]
    seconds: float
    said: str
    error: str


def run(*arguments: str) -> Ended:
    program = textwrap.dedent(PROGRAM).replace("{heavy}", repr(HEAVY))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    *said, last = done.stdout.splitlines()
    return Ended(*json.loads(last), "\n".join(said), done.stderr)


@pytest.fixture
def job(linear_model_dir: str, tmp_path: Path) -> dict[str, Any]:
    """A job over one shard, with a model of its own."""
    shutil.copytree(linear_model_dir, tmp_path / "model")
    write_shards(tmp_path, 1, 5)
    return job_settings(tmp_path, str(tmp_path / "model"), "startup")


def write(job: dict[str, Any], folder: Path) -> str:
    (folder / "job.yaml").write_text(json.dumps(job))
    return str(folder / "job.yaml")


@pytest.mark.parametrize("command", [[], ["score"], ["check"], ["compare"]], ids=lambda names: " ".join(names) or "all")
def test_help_answers_at_once(command: list[str]) -> None:
    ended = run(*command, "--help")
    assert (ended.code, ended.imported) == (0, [])
    assert "usage: estimator-score" in ended.said
    assert ended.seconds < 1


@pytest.mark.parametrize("command", ["score", "check"])
@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("input", "patern", "x", "input.patern: unknown key; did you mean 'pattern'?"),
        ("batch", "rows", "many", "batch.rows"),
        ("model", "estimator", "no reference", "model.estimator"),
    ],
    ids=["unknown key", "wrong type", "no reference"],
)
def test_a_refused_job_file_answers_at_once(
    command: str, section: str, key: str, value: str, message: str, job: dict[str, Any], tmp_path: Path
) -> None:
    job[section] = {**job.get(section, {}), key: value}
    ended = run(command, "--config", write(job, tmp_path))
    assert (ended.code, ended.imported) == (2, [])
    assert message in ended.error
    assert ended.seconds < 1


class TestSkip:
    @pytest.fixture
    def config(self, job: dict[str, Any], tmp_path: Path) -> str:
        """A job that is done, and that leaves its output as it is."""
        job["output"]["if_exists"] = "skip"
        config = write(job, tmp_path)
        assert main(["score", "--config", config, "--quiet"]) == 0
        return config

    def test_needs_neither_tensorflow_nor_beam(self, config: str) -> None:
        ended = run("score", "--config", config)
        assert (ended.code, ended.imported) == (0, [])
        assert ended.said.endswith("is complete already (output.if_exists: skip); nothing was scored")
        assert ended.seconds < 2

    def test_tells_of_another_checkpoint_all_the_same(self, config: str, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        for path in folder.glob("model.ckpt-20.*"):
            shutil.copy(path, path.with_name(path.name.replace("-20", "-21")))
        (folder / "model.ckpt-21.data-00000-of-00001").open("ab").write(b"more")  # the digest is of sizes
        (folder / "checkpoint").write_text("model_checkpoint_path: 'model.ckpt-' \"21\"  # two pieces\n")
        ended = run("score", "--config", config)
        assert (ended.code, ended.imported) == (0, [])
        assert f"stale       checkpoint: {folder}/model.ckpt-21 in place of {folder}/model.ckpt-20" in ended.said

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            (b'model_checkpoint_path: "model.ckpt-20', "is damaged"),
            (b'model_checkpoint_path: "\xff"', "is damaged"),
            (b'path: "model.ckpt-20"', "is damaged"),
            (b"", "names 'no checkpoint'"),
        ],
        ids=["cut short", "no text", "another field", "empty"],
    )
    def test_tells_of_a_damaged_state_file(self, state: bytes, message: str, config: str, tmp_path: Path) -> None:
        (tmp_path / "model" / "checkpoint").write_bytes(state)
        ended = run("score", "--config", config)
        assert (ended.code, ended.imported) == (0, [])
        assert f"stale       checkpoint: {tmp_path}/model/checkpoint {message}" in ended.said

    def test_tells_of_the_best_checkpoint(self, config: str, tmp_path: Path) -> None:
        import tensorflow as tf

        with tf.Graph().as_default(), tf.compat.v1.summary.FileWriter(str(tmp_path / "model" / "eval")) as writer:
            measured = tf.compat.v1.Summary.Value(tag="auc", simple_value=0.75)
            writer.add_summary(tf.compat.v1.Summary(value=[measured]), 20)
        best = "model.checkpoint={best: {metric: auc, mode: max}}"
        ended = run("score", "--config", config, "--set", best)
        assert (ended.code, ended.imported) == (0, [])
        assert [line for line in ended.said.splitlines() if "stale" in line] == [
            "stale       job file: model.checkpoint was changed"
        ]

    def test_an_output_that_is_in_the_way_is_told_of_without_beam(self, config: str) -> None:
        ended = run("score", "--config", config, "--set", "output.if_exists=fail")
        assert (ended.code, ended.imported) == (7, [])
        assert "holds an output already" in ended.error

    def test_options_of_beam_are_looked_at(self, config: str) -> None:
        ended = run("score", "--config", config, "--frobnicate")
        assert ended.code == 2
        assert "neither this command nor Beam knows '--frobnicate'" in ended.error


def test_times_are_told(job: dict[str, Any], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert run("score", "--config", write(job, tmp_path), "--quiet", "--report", str(report)).code == 0
    told = json.loads(report.read_text())
    clock, cpu = told["seconds"], told["cpu_seconds"]
    assert clock.keys() == {"launch", "build", "replay", "probe", "run", "first_prediction"}
    assert cpu.keys() == {"build", "replay", "probe", "first_prediction"}
    assert 0 < clock["build"] + clock["replay"] + clock["probe"] < clock["launch"] < clock["first_prediction"]
    assert cpu["build"] + cpu["probe"] < cpu["first_prediction"]
    timings = json.loads((tmp_path / "out" / "_manifest.json").read_text())["timings"]
    assert timings.keys() == {"total_seconds", "launch_seconds", "build_seconds", "replay_seconds", "probe_seconds"}
    assert timings["build_seconds"] == pytest.approx(clock["build"], abs=1e-3)


def test_a_launch_takes_little_for_a_shard(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 0.3 ms of CPU time each: the slope between two numbers of shards."""

    class LaunchedError(Exception):
        pass

    def end(*arguments: Any, **options: Any) -> None:
        raise LaunchedError

    monkeypatch.setattr(pipeline.run, "run_pipeline", end)
    record = (tmp_path / "rows-00000.tfrecord").read_bytes()
    seconds = {}
    gc.collect()
    gc.freeze()  # to collect what all tests before this one left takes as long as a launch
    for count in (200, 4000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"rows-{number:05d}-of-{count:05d}.tfrecord").write_bytes(record)
        job["input"]["pattern"] = str(folder / "*.tfrecord")
        job["output"]["path"] = str(tmp_path / f"out-{count}")
        loaded = load_job(write(job, tmp_path), None, [])
        start = time.process_time()
        with pytest.raises(LaunchedError):
            pipeline.run.score(loaded, quiet=True)
        seconds[count] = time.process_time() - start
        plan = json.loads((tmp_path / f"out-{count}" / "_temporary" / "plan.json").read_text())
        assert len(plan["parts"]) == count
    assert (seconds[4000] - seconds[200]) / 3800 < 0.3e-3
