"""`runner:` of a job file: options of Beam as values, refused where Beam would, and never before the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bad_inputs
import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)
from bad_inputs import Bench, example, make_rows, tfrecord
from pydantic import ValidationError

from pipeline.errors import JobError
from pipeline.job.runner import SECRETS, Runner
from pipeline.runner import pipeline_options, processes_asked
from pipeline.runner_options import with_job_options

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

FLINK = {"flink_master": "flink:8081", "parallelism": 4, "environment_type": "DOCKER"}


def options_of(runner: dict[str, Any], *arguments: str) -> PipelineOptions:
    return pipeline_options(with_job_options(Runner.model_validate(runner), arguments))


def test_nothing_said_changes_nothing() -> None:
    assert with_job_options(Runner(), ["--streaming", "--runner=X"]) == ["--streaming", "--runner=X"]
    assert with_job_options(Runner(processes_per_machine=4), []) == []


def test_options_reach_beam_with_their_types() -> None:
    options = options_of({"name": "FlinkRunner", "options": FLINK})
    assert options.view_as(StandardOptions).runner == "FlinkRunner"
    flink = options.view_as(FlinkRunnerOptions)
    assert (flink.flink_master, flink.parallelism) == ("flink:8081", 4)
    assert options.view_as(PortableOptions).environment_type == "DOCKER"


@pytest.mark.parametrize(
    ("name", "value", "arguments"),
    [
        ("streaming", True, ["--streaming"]),
        ("streaming", False, []),
        ("use_public_ips", True, ["--use_public_ips"]),
        ("use_public_ips", False, ["--no_use_public_ips"]),
        ("no_use_public_ips", False, ["--use_public_ips"]),
        ("no_pipeline_type_check", True, ["--no_pipeline_type_check"]),
        ("no_pipeline_type_check", False, []),
        ("experiments", ["a", "b=1"], ["--experiments=a", "--experiments=b=1"]),
        ("experiments", "a", ["--experiments=a"]),
        ("extra_packages", ["a.whl"], ["--extra_packages=a.whl"]),
        ("job_name", "-dashes and blanks", ["--job_name=-dashes and blanks"]),
        ("num_workers", 3, ["--num_workers=3"]),
        ("flink_submit_uber_jar", True, ["--flink_submit_uber_jar"]),
    ],
)
def test_a_value_as_the_command_line_has_it(name: str, value: Any, arguments: list[str]) -> None:
    assert with_job_options(Runner(options={name: value}), []) == arguments


def test_lists_and_flags_are_read_by_beam() -> None:
    options = options_of({"options": {"experiments": ["a", "b"], "use_public_ips": False, "extra_packages": ["x.whl"]}})
    assert options.view_as(DebugOptions).experiments[:2] == ["a", "b"]
    assert options.view_as(WorkerOptions).use_public_ips is False
    assert options.view_as(SetupOptions).extra_packages == ["x.whl"]


@pytest.mark.parametrize(
    ("arguments", "master", "parallelism"),
    [
        (["--flink_master=other:1"], "other:1", 4),
        (["--flink_master", "other:1", "--parallelism", "2"], "other:1", 2),
        (["--runner", "SparkRunner"], "flink:8081", 4),
    ],
    ids=["with =", "two words", "runner"],
)
def test_the_command_line_goes_before(arguments: list[str], master: str, parallelism: int) -> None:
    options = options_of({"name": "FlinkRunner", "options": FLINK}, *arguments)
    flink = options.view_as(FlinkRunnerOptions)
    assert (flink.flink_master, flink.parallelism) == (master, parallelism)
    assert options.view_as(StandardOptions).runner == ("SparkRunner" if "--runner" in arguments else "FlinkRunner")


def test_the_command_line_replaces_a_list_and_an_opposite_flag() -> None:
    runner = {"options": {"experiments": ["a"], "use_public_ips": True, "region": "eu"}}
    options = options_of(runner, "--experiment=b", "--no_use_public_ips")
    assert "a" not in options.view_as(DebugOptions).experiments
    assert options.view_as(WorkerOptions).use_public_ips is False
    assert options.view_as(GoogleCloudOptions).region == "eu"


def test_processes_are_asked_of_the_runner_that_the_job_names() -> None:
    options = options_of({"name": "FlinkRunner", "options": FLINK})
    assert processes_asked(options, 4, None) == 4
    told = options_of({"name": "FlinkRunner", "options": {**FLINK, "sdk_worker_parallelism": 2}})
    assert processes_asked(told, 4, None) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flnk_master": "x"}, "runner.options.flnk_master: Beam has no such option; did you mean 'flink_master'?"),
        ({"colour": "x"}, "runner.options.colour: Beam has no such option; see its documentation"),
        ({"streaming": "yes"}, "runner.options.streaming: expected true or false, got text ('yes')"),
        ({"streaming": 1}, "runner.options.streaming: expected true or false, got a whole number (1)"),
        ({"enable_streaming_engine": False}, "runner.options.enable_streaming_engine: is what Beam does anyway"),
        ({"parallelism": "four"}, "runner.options.parallelism: expected a whole number, got text ('four')"),
        ({"parallelism": True}, "runner.options.parallelism: expected a whole number, got true"),
        ({"flink_master": ["a", "b"]}, "runner.options.flink_master: takes one value, got a list"),
    ],
    ids=["mistyped", "unknown", "text for a flag", "number for a flag", "no opposite", "text", "flag", "list"],
)
def test_what_beam_does_not_take(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError) as refused:
        with_job_options(Runner(options=options), [])
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *((secret, "hunter2", f"would be shown with the job; set {variable} in") for secret, variable in SECRETS.items()),
        ("runner", "FlinkRunner", "is written as runner.name"),
        ("--flink-master", "x", "is no name of an option; write flink_master: value"),
        ("flink_conf", {"a": 1}, "expected text, a number, true or false, or a list of these, got a mapping"),
        ("experiments", [], "or a list of these, got an empty list"),
        ("region", None, "or a list of these, got nothing"),
    ],
)  # fmt: skip
def test_what_is_seen_without_beam(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Runner(options={name: value})
    assert message in str(refused.value.errors()[0]["ctx"]["error"])
    assert "hunter2" not in str(refused.value.errors()[0]["ctx"]["error"])


def test_it_changes_neither_parts_nor_an_output(bench: Bench, tmp_path: Path) -> None:
    bench.shard(tfrecord([example(row) for row in make_rows(3)]))
    first = bench.score(runner={"options": {"experiments": ["a"]}})
    assert first.manifest is not None
    assert first.manifest["job"]["runner"] == {"options": {"experiments": ["a"]}}
    runner = {"name": "DirectRunner", "options": {"streaming": False}}
    again = bench.score(runner=runner, output={"if_exists": "skip"})
    assert (again.code, again.report["status"], again.report["stale"]) == (0, "skipped", [])
    other = bench.score(output={"if_exists": "overwrite"})
    assert other.manifest is not None
    assert other.manifest["settings"] == first.manifest["settings"]


@pytest.mark.parametrize("command", ["score", "check"])
def test_a_wrong_option_ends_the_command(command: str, bench: Bench) -> None:
    bench.shard(tfrecord([example(row) for row in make_rows(3)]))
    bench.score("--frobnicate", runner={"options": {"flnk_master": "x"}})  # writes the job file
    outcome = bench.command(command, "--config", str(bench.folder / "job.yaml"))
    assert outcome.code == 2
    assert "error: runner.options.flnk_master: Beam has no such option" in outcome.error
    assert bench.has_no_output
