"""Runs of `score` as processes of their own, with a fault at a chosen call, started by `run_server.py`."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

QUICK_LEASE = {"TOUCHED_EVERY": 0.3, "LOST_AFTER": 1.5}
"""In place of half a minute. S3 tells times in whole seconds."""


class Fault(NamedTuple):
    """What befalls a run before the `at`-th call of a name: it is killed or stopped, or the call fails with an errno.

    name: as `faults.in_short` has it. kind: kill, stop, or such as EIO.
    """

    name: str
    at: int
    kind: str = "kill"

    def __str__(self) -> str:
        return f"{self.kind} before {self.name} ({self.at})"


@dataclass(frozen=True)
class Run:
    """A process that was started. said: all it wrote to the terminal. calls: the file with its calls that change files."""

    server: RunServer
    pid: int
    said_path: Path
    calls_path: Path

    def wait(self) -> int | str:
        """The exit code, minus the number of the signal that ended it, or `stopped`."""
        return self.server.ask({"wait": self.pid})

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wake(self) -> int | str:
        """Let a process go on that was stopped, and wait for its end."""
        self.signal(signal.SIGCONT)
        return self.wait()

    @property
    def said(self) -> str:
        return self.said_path.read_text()

    @property
    def calls(self) -> list[str]:
        return self.calls_path.read_text().splitlines()


@dataclass
class RunServer:
    """The process that starts runs. folder: for what they say."""

    folder: Path
    _process: subprocess.Popen[str] = field(init=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        script = Path(__file__).with_name("run_server.py")
        environment = {**os.environ, "PYTHONPATH": str(script.parent.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, request: Mapping[str, Any]) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018  both were asked for
        print(json.dumps(request), file=stdin, flush=True)
        return json.loads(stdout.readline())

    def start(
        self,
        output: str,
        arguments: list[str],
        fault: Fault | None = None,
        lease: Mapping[str, float] = QUICK_LEASE,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a command that changes files at `output`."""
        number = next(self._numbers)
        said, calls = self.folder / f"{number}.said", self.folder / f"{number}.calls"
        for path in (said, calls):
            path.touch()
        request = {
            "output": output, "arguments": arguments, "fault": fault and fault._asdict(), "lease": dict(lease),
            "environment": {**os.environ, **(environment or {})}, "said": str(said), "calls": str(calls),
        }  # fmt: skip
        return Run(self, self.ask(request), said, calls)
