"""The manifests of configs/flink fit each other, the command line, and the versions that are installed and tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from flink_cluster import FLINK

from pipeline.commands import _parser
from pipeline.errors import BudgetError, CountError, JobError, ModelError, OutputError
from pipeline.flink import flink_of, refuse_unrunnable
from pipeline.runner_options import beam_parser

pytestmark = pytest.mark.any_tensorflow

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "configs" / "flink"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "session_cluster.yaml").read_text())


@pytest.fixture(scope="module")
def pod_of_task_manager(cluster: dict[str, Any]) -> dict[str, Any]:
    return cluster["spec"]["taskManager"]["podTemplate"]["spec"]


@pytest.fixture(scope="module")
def pool(pod_of_task_manager: dict[str, Any]) -> dict[str, Any]:
    (pool,) = (each for each in pod_of_task_manager["containers"] if each["name"] == "worker-pool")
    return pool


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "score_job.yaml").read_text())


@pytest.fixture(scope="module")
def launcher(job: dict[str, Any]) -> dict[str, Any]:
    (launcher,) = job["spec"]["template"]["spec"]["containers"]
    return launcher


@pytest.fixture(scope="module")
def options(launcher: dict[str, Any]) -> PipelineOptions:
    """What of the launcher's arguments goes to Beam."""
    known, rest = _parser().parse_known_args(launcher["args"])
    assert (known.command, launcher["command"]) == ("score", ["estimator-score"])
    _, unknown = beam_parser().parse_known_args(rest)
    assert unknown == []
    return PipelineOptions(rest)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_a_manifest_opens_with_the_command_that_applies_it(path: Path) -> None:
    comment = path.read_text().partition("\n\n")[0]
    assert re.search(rf"^#     kubectl (?:apply|create) -f configs/flink/{re.escape(path.name)}$", comment, re.M)


def test_the_launcher_finds_the_cluster_and_its_workers(
    cluster: dict[str, Any], pool: dict[str, Any], options: PipelineOptions
) -> None:
    refuse_unrunnable(options)
    flink = flink_of(options, "job")
    assert flink is not None
    assert flink._url == f"http://{cluster['metadata']['name']}-rest:8081"
    (port,) = pool["ports"]
    told = options.get_all_options()
    assert (told["environment_type"], told["environment_config"]) == ("EXTERNAL", f"localhost:{port['containerPort']}")
    assert pool["args"] == ["--worker_pool"]
    assert "command" not in pool  # the image's own starts the pool


def test_flink_is_the_tested_one(cluster: dict[str, Any], options: PipelineOptions) -> None:
    version = options.view_as(FlinkRunnerOptions).flink_version
    assert version == FLINK.rpartition(".")[0]
    assert cluster["spec"]["image"] == f"flink:{version}"
    assert cluster["spec"]["flinkVersion"] == f"v{version.replace('.', '_')}"


def test_both_sides_have_the_image_of_this_version(pool: dict[str, Any], launcher: dict[str, Any]) -> None:
    (version,) = re.findall(r'version="([^"]+)"', (ROOT / "setup.py").read_text())
    assert pool["image"] == launcher["image"] == f"registry.example.com/estimator-score:{version}"


def test_the_job_server_that_is_named_is_that_of_the_pinned_beam() -> None:
    (named,) = re.findall(
        r"beam-runners-flink-([\d.]+)-job-server-([\d.]+)\.jar", (FOLDER / "score_job.yaml").read_text()
    )
    pinned = {
        re.search(r"^apache-beam(?:\[[^]]*\])?==([\d.]+)", path.read_text(), re.M)[1]  # type: ignore[index]
        for path in (ROOT / "constraints").iterdir()
    }
    assert [named] == [(FLINK.rpartition(".")[0], beam) for beam in pinned]


def test_both_sides_see_files_under_the_same_paths(
    pod_of_task_manager: dict[str, Any], pool: dict[str, Any], job: dict[str, Any], launcher: dict[str, Any]
) -> None:
    assert pool["volumeMounts"] == launcher["volumeMounts"]
    assert pod_of_task_manager["volumes"] == job["spec"]["template"]["spec"]["volumes"]


def test_what_a_retry_cannot_mend_is_not_tried_again(job: dict[str, Any]) -> None:
    first = job["spec"]["podFailurePolicy"]["rules"][0]
    assert first["action"] == "FailJob"
    errors = (JobError, BudgetError, CountError, ModelError, OutputError)
    assert first["onExitCodes"]["values"] == [error.exit_code for error in errors]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_resources_are_named(cluster: dict[str, Any], pool: dict[str, Any], launcher: dict[str, Any]) -> None:
    for container in (pool, launcher):
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert container["resources"]["limits"] == {"memory": container["resources"]["requests"]["memory"]}
    for manager in ("jobManager", "taskManager"):
        assert set(cluster["spec"][manager]["resource"]) == {"cpu", "memory"}
