"""The program that starts runs of `score`, each a process of its own that may be killed, stopped, or meet errors.

It imports once what a run needs and forks a process for each, so that a run takes a second or two. It opens no session
and starts no thread itself. Requests and answers are lines of JSON; `tests/runs.py` asks.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pipeline.tf_estimator  # makes tf.estimator exist

import apache_beam.runners.portability.fn_api_runner.fn_runner  # noqa: F401
import fragile_model  # noqa: F401
import pyarrow.parquet  # noqa: F401
from faults import DISK, Calls, in_short, requests_of, watched

import pipeline.run  # noqa: F401
from pipeline import commands, files, lease

LONGEST_RUN = 90
"""Seconds; a run that hangs is ended by a signal that no other run ends by."""


class Moment(Calls):
    """The `at`-th call of a name, before which something happens. All calls are written to a log as they come."""

    def __init__(self, request: dict[str, Any]):
        super().__init__()
        self._folder, self._log = request["output"], os.open(request["calls"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        fault = request["fault"] or {"name": "", "at": 0, "kind": ""}
        self._wanted, self._kind = (fault["name"], fault["at"]), fault["kind"]
        self._seen: Counter[str] = Counter()
        self._counting = threading.Lock()

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        name = in_short(name, self._folder)
        with self._counting:
            self._seen[name] += 1
            is_it = (name, self._seen[name]) == self._wanted
            os.write(self._log, f"{name}\n".encode())
        if is_it:
            self._strike()
        return call()

    def _strike(self) -> None:
        if self._kind in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if self._kind == "kill" else signal.SIGSTOP)
        else:
            code = getattr(errno, self._kind)
            call, path = self._wanted[0].split(" ")[:2]
            raise OSError(code, os.strerror(code), *([] if call == "write" else [path]))


def run(request: dict[str, Any]) -> None:
    """What a forked process does: run a command, with its own output and faults, and end."""
    signal.alarm(LONGEST_RUN)
    os.environ.update(request["environment"])
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    for name, seconds in request["lease"].items():
        setattr(lease, name, seconds)
    output = request["output"]
    targets = DISK if files.is_local(output) else requests_of(output.partition(":")[0])
    sys.argv = ["estimator-score", *request["arguments"]]
    code = 1
    try:
        with watched(Moment(request), targets, writes=files.is_local(output)):
            commands.run_and_exit()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer each request: `wait` with how a process ended or that it was stopped, any other with a new process."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            status = os.waitpid(request["wait"], os.WUNTRACED)[1]
            answer = "stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                run(request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
