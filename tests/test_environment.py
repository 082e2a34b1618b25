"""scripts/environment.sh: which interpreter is found, and what is said when there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "environment.sh"
NO_ENSUREPIP = "exit 1"
SHIM = "echo 'pyenv: command not found' >&2; exit 127"

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def machine(tmp_path: Path):
    """Makes fake interpreters (path -> version, and what it does after telling it), and looks for one among them."""

    def look(interpreters: dict[str, tuple[str, str]], python: str | None = None) -> subprocess.CompletedProcess[str]:
        for name, (version, ending) in interpreters.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{f'echo {version}' if version else ':'}\n{ending}\n")
            path.chmod(0o755)
        folders = ":".join(str(tmp_path / folder) for folder in ("first on path", "path"))
        environment = {"PATH": f"{folders}:{tmp_path}/tools", "HOME": str(tmp_path)}
        if python is not None:
            environment["PYTHON"] = python.format(root=tmp_path)
        command = f'. "{SCRIPT}" && find_python 3.11 3.12 3.13 3.10 && echo "$python"'
        return subprocess.run(
            [shutil.which("bash") or "bash", "-eu", "-c", command, "./run_local.sh"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return look


@pytest.mark.parametrize(
    ("interpreters", "found"),
    [
        pytest.param({"path/python3.11": ("3.11", "")}, "path/python3.11", id="3.11"),
        pytest.param({"path/python3.12": ("3.12", ""), "path/python3.11": ("3.11", "")}, "path/python3.11", id="order"),
        pytest.param({"path/python3": ("3.13", "")}, "path/python3", id="python3"),
        pytest.param({"path/python": ("3.10", ""), "path/python3": ("3.9", "")}, "path/python", id="python"),
        pytest.param(
            {"first on path/python3.12": ("", SHIM), "path/python3.12": ("3.12", "")},
            "path/python3.12",
            id="behind a shim",
        ),
        pytest.param(
            {"path/python3.11": ("3.11", NO_ENSUREPIP), "path/python3.10": ("3.10", "")},
            "path/python3.10",
            id="without ensurepip",
        ),
        pytest.param(
            {"path/python3.12": ("", SHIM), ".pyenv/versions/3.12.1/bin/python": ("3.12", "")},
            ".pyenv/versions/3.12.1/bin/python",
            id="pyenv",
        ),
    ],
)
def test_python_is_found(machine, tmp_path: Path, interpreters: dict[str, tuple[str, str]], found: str) -> None:
    result = machine(interpreters)

    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, str(tmp_path / found), "")


def test_given_python_is_the_only_one(machine, tmp_path: Path) -> None:
    interpreters = {"path/python3.11": ("3.11", ""), "own/python": ("3.12", "")}

    assert machine(interpreters, "{root}/own/python").stdout.strip() == str(tmp_path / "own/python")


@pytest.mark.parametrize(
    ("interpreters", "python", "messages"),
    [
        pytest.param(
            {}, None, ["Looked for python3.11 python3.12 python3.13 python3.10 python3 python on PATH"], id="none"
        ),
        pytest.param({"path/python3": ("3.9", "")}, None, ["path/python3: Python 3.9\n"], id="too old"),
        pytest.param({"path/python3": ("3.14", "")}, None, ["path/python3: Python 3.14\n"], id="too new"),
        pytest.param({"path/python3.12": ("", SHIM)}, None, ["path/python3.12: does not run\n"], id="shim"),
        pytest.param(
            {"path/python3": ("3.11", NO_ENSUREPIP)},
            None,
            ["path/python3: Python 3.11 without venv and ensurepip", "apt install python3-venv"],
            id="without ensurepip",
        ),
        pytest.param(
            {"path/python3.11": ("3.11", ""), "own/python": ("3.8", "")},
            "{root}/own/python",
            ["own/python was given, and only that was looked at", "own/python: Python 3.8"],
            id="given, too old",
        ),
        pytest.param({"path/python3.11": ("3.11", "")}, "python9", ["python9: does not run"], id="given, not there"),
    ],
)
def test_no_python_tells_where_it_was_looked_for(
    machine, interpreters: dict[str, tuple[str, str]], python: str | None, messages: list[str]
) -> None:
    result = machine(interpreters, python)

    assert result.returncode == 2
    assert result.stdout == ""
    for message in [
        "Needed is one of the versions 3.11 3.12 3.13 3.10",
        *messages,
        "PYTHON=/path/to/python ./run_local.sh",
    ]:
        assert message in result.stderr
