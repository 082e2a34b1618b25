"""Worker processes of this machine: each takes its share of the parts on Beam's in-process runner, and none outlives the run.

Beam's own multi-process mode is the model of this. What it lacks: it waits forever for a worker that was killed, leaves
workers behind where the launcher is killed, gives them no pipeline options, and prints what failed, values of rows included.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    EmbeddedGrpcWorkerHandler,
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.transforms import environments

from pipeline import progress
from pipeline.errors import ScoringError
from pipeline.threads import let_break

URN = "estimator:env:worker_process:v1"
_GRACE = 10.0
"""Seconds in which a worker whose work is done ends by itself."""
_STREAMS = ("beam_control_read", "read_grpc_client_inputs")
"""Beam's threads that read what a worker sends. Their streams break where it is killed, and it is told what killed it."""


class WorkerProcesses:
    """The worker processes of one run: this one, with the model that it has built, and others that it starts.

    `environment` is what the runner starts them by. When the context ends, none of the others is left.

    Args:
      options: Beam's, which hold for the filesystems of the others too.
      on_loss: is told of a process that ended and should not have.
    """

    def __init__(self, options: PipelineOptions, on_loss: Callable[[ScoringError], None]):
        self.environment = _Environment(uuid.uuid4().hex, environments.python_sdk_capabilities())
        self.workers = 0
        self._on_loss = on_loss
        self._options = options.get_all_options(drop_default=True)
        self._started: list[subprocess.Popen[bytes]] = []
        self._starting = threading.Lock()
        self._ended = False

    def __enter__(self) -> WorkerProcesses:
        _running[self.environment.run] = self
        let_break(*_STREAMS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del _running[self.environment.run]
        self._kill()

    def start(self, control_address: str, worker_id: str) -> subprocess.Popen[bytes]:
        """Start a worker of the runner that listens there."""
        shown = None if os.environ.get("ESTIMATOR_SCORE_TRACEBACK") else subprocess.DEVNULL
        with self._starting:
            if self._ended:
                raise ScoringError("the run has ended")
            process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=shown,  # Beam prints the trace of an error, which may hold values of rows
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                start_new_session=True,  # Ctrl-C on the terminal is for the launcher alone
            )
            self._started.append(process)
        assert process.stdin is not None
        told = {"control": control_address, "worker_id": worker_id, "options": self._options}
        with suppress(BrokenPipeError):  # it is gone already, which is found out by those who wait for it
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        return process

    def lose(self, returncode: int) -> None:
        """A process ended that should not have: the run fails, and no other one goes on."""
        if self._ended:
            return
        if returncode == -signal.SIGKILL:
            why = "was killed, as the kernel does where memory runs out: lower runner.processes_per_machine (--workers)"
        else:
            why = f"ended with {returncode}; ESTIMATOR_SCORE_TRACEBACK=1 shows what it says"
        self._kill()
        self._on_loss(ScoringError(f"a worker process {why}. Finished parts are kept for the next run"))

    def _kill(self) -> None:
        """End every process that is still there, and wait until it is gone. None is started afterwards."""
        with self._starting:
            self._ended = True
        for process in self._started:
            process.kill()
        for process in self._started:
            process.wait()


_running: dict[str, WorkerProcesses] = {}


@environments.Environment.register_urn(URN, bytes)
class _Environment(environments.Environment):
    """Names the `WorkerProcesses` of a run in its pipeline."""

    def __init__(
        self,
        run: str,
        capabilities: Iterable[str] = (),
        artifacts: Iterable[Any] = (),
        resource_hints: Mapping[str, bytes] | None = None,
    ):
        super().__init__(capabilities, artifacts, resource_hints)
        self.run = run

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        return URN, self.run.encode()

    @staticmethod
    def from_runner_api_parameter(
        payload: bytes, capabilities: Any, artifacts: Any, resource_hints: Any, context: Any
    ) -> _Environment:
        return _Environment(payload.decode(), capabilities, artifacts, resource_hints)


class _ProcessHandler(GrpcWorkerHandler):
    """A process that was started, as the runner sees it."""

    process: subprocess.Popen[bytes]

    def __init__(self, processes: WorkerProcesses, state: Any, provision_info: Any, grpc_server: Any):
        super().__init__(state, provision_info, grpc_server)
        self._processes = processes
        self._closing = False

    def start_worker(self) -> None:
        self.process = self._processes.start(self.control_address, self.worker_id)
        threading.Thread(target=self._watch, name="watch_worker", daemon=True).start()

    def stop_worker(self) -> None:
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        self._closing = True
        super().close()

    def _watch(self) -> None:
        """Count what the worker has done, and when it is gone let nobody wait for it."""
        assert self.process.stdout is not None
        seen = (0, 0)
        for line in self.process.stdout:
            rows, parts = map(int, line.split())
            progress.current.add(rows=rows - seen[0], parts=parts - seen[1])
            seen = (rows, parts)
        returncode = self.process.wait()
        if self._closing:
            return
        self._processes.lose(returncode)
        while not self._closing:
            for instruction, future in list(self.control_conn._futures_by_id.items()):
                if not future.is_done():
                    gone = beam_fn_api_pb2.InstructionResponse(instruction_id=instruction, error="the worker is gone")
                    future.set(gone)
            threading.Event().wait(0.1)


@WorkerHandler.register_environment(URN, bytes)
def _handler(payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> WorkerHandler:
    """The first worker is this process, by a handler of Beam's own."""
    processes = _running[payload.decode()]
    processes.workers += 1
    if processes.workers == 1:
        return EmbeddedGrpcWorkerHandler(b"{}", state, provision_info, grpc_server)
    return _ProcessHandler(processes, state, provision_info, grpc_server)
