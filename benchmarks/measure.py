"""What a command takes of the machine: it is run in a process of its own, and nothing of this one is counted."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_BETWEEN = """\
import json, os, subprocess, sys, time
started = time.monotonic()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
found = [time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]
open(sys.argv[1], "w").write(json.dumps(found))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A child's peak memory starts with that of the process that forks it, so a small one stands between it and this."""


class Usage(NamedTuple):
    """Of a process and the processes that it waited for. peak_bytes: resident memory of the largest of them."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_measured(command: Sequence[str], scratch: Path, python: str = sys.executable) -> Usage:
    """Run a command of Python, such as `-m pipeline fit`, from the folder of the project (Linux).

    scratch: a folder for a small file. python: the interpreter.

    Raises:
      RuntimeError: the command failed; with what it said.
    """
    found = scratch / "usage.json"
    between = [sys.executable, "-c", _BETWEEN, str(found), python, *command]
    done = subprocess.run(between, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr}")
    return Usage(*json.loads(found.read_text()))


def read_once(files: Iterable[Path]) -> None:
    """Bring files into the page cache: a machine may give it back between two runs, and the first would wait for the disk."""
    block = bytearray(1 << 20)
    for path in {path.stat().st_ino: path for path in files}.values():
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def report(title: str, command: str, packages: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    """A page of Markdown: the command, the machine, versions and date, and a table whose first row is the header."""
    return "\n".join([*preamble(title, command, packages), "", *markdown(table), ""])


def preamble(title: str, command: str, packages: Sequence[str]) -> list[str]:
    """Lines of Markdown that a page opens with."""
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in packages)])
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return [f"# {title}", "", f"    {command}", "", f"{date}; {_machine()}; {versions}."]


def markdown(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first row is the header."""
    header, *rows = [f"| {' | '.join(cells)} |" for cells in table]
    return [header, f"|{'---|' * len(table[0])}", *rows]


def _machine() -> str:
    """Its class, and not its name."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {models[0] if models else platform.machine()}, {int(memory) / 2**20:.0f} GiB of memory"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _version(name: str) -> str:
    return metadata.version(name)
