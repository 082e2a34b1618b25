"""Many mutants, read by processes of their own, and what came of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
WORKER = (sys.executable, "-m", "fuzz.worker")
_PER_SEED = 10**6


@dataclass
class Report:
    """counts: mutants, broken, undecided (by the other reader); rows scored and rejected. findings: by mutant."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[str]] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in sorted(self.counts.items()))
        lines = [f"{counts}; the slowest took {self.slowest[0]:.2f} s ({self.slowest[1]})"]
        lines += [f"  {name}: {finding}" for name, found in self.findings.items() for finding in found]
        return "\n".join(lines)


def names_of(record_format: str, seed: int, count: int) -> list[str]:
    """Names of the mutants of a seed."""
    return [f"{record_format}:{seed * _PER_SEED + number}" for number in range(count)]


def run(names: Sequence[str], command: Sequence[str] = WORKER) -> Report:
    """Read mutants of one format; a process that ends before its time is followed by another one for the rest."""
    report, left = Report(), list(names)
    while left:
        last, stage, status, said = _run_some(left, command, report)
        if not last:
            raise RuntimeError(f"the process for mutants ended with {status} before the first one: {said}")
        left = left[left.index(last) + 1 :]
        if stage == "start":
            report.counts["mutants"] += 1
            report.findings[last] = [f"the process ended with {status}: {said}"]
        elif stage == "read":  # the other reader did not survive it, and cannot tell
            report.counts.update(mutants=1, undecided=1)
        elif status:
            raise RuntimeError(f"the process for mutants ended with {status} after {last}: {said}")
    return report


def _run_some(names: Sequence[str], command: Sequence[str], report: Report) -> tuple[str, str, int, str]:
    """Let one process read mutants. Returns the last one that it told of, how far it came, its status, and its last words."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    last, stage = "", ""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as wanted:
        wanted.write("\n".join(names))
        wanted.seek(0)
        with subprocess.Popen(
            command, cwd=TESTS.parent, env=environment, stdin=wanted, stdout=subprocess.PIPE, stderr=said, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith("{"):
                    continue
                told = json.loads(line)
                stage = next(key for key in ("start", "read", "done") if key in told)
                last = told[stage]
                if stage == "done":
                    _add(report, told)
        said.seek(0)
        return last, stage, process.returncode, said.read()[-2000:]


def _add(report: Report, told: dict[str, Any]) -> None:
    report.counts["mutants"] += 1
    for key in ("broken", "undecided", "scored", "rejected"):
        report.counts[key] += int(told[key])
    report.slowest = max(report.slowest, (told["seconds"], told["done"]))
    if told["findings"]:
        report.findings[told["done"]] = told["findings"]
