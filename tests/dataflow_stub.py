"""A stand-in for the API of Dataflow, as far as a launcher uses it: Google cannot be had where tests run.

It takes jobs as the service does and keeps what it was sent. What the service would do with them is a test's to say, or
`runs`: a process of its own takes the staged pipeline, with the staged files in place as Beam's boot program leaves them,
and the staged wheels before all else on its path, and runs it by Beam's own worker. Neither containers, nor the installation
of packages, nor the service's way to split, retry and scale are shown by that.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from apache_beam.portability.api import beam_runner_api_pb2 as api
from google.cloud.dataflow_v1beta3 import JobState

IMAGE = "--sdk_container_image=region-docker.pkg.dev/a-project/scoring/worker:1"
TRACE = """\
Error message from worker: Traceback (most recent call last):
  File "apache_beam/runners/worker/sdk_worker.py", line 313, in _execute
    response = task()
  File "trainer/model.py", line 9, in model_fn
    raise ValueError(row)
ValueError: 4711 [while running 'Predict/Score-ptransform-32']
"""
AFTER = (
    "The job failed because a work item has failed 4 times. The work item was attempted on these workers: a, b, c, d"
)
_ROOT = Path(__file__).resolve().parent.parent
_WORKER = """
import logging, sys
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

logging.disable(logging.CRITICAL)
with open(sys.argv[1], "rb") as file:
    pipeline = beam_runner_api_pb2.Pipeline.FromString(file.read())
for environment in pipeline.components.environments.values():
    environment.urn, environment.payload = "beam:env:embedded_python:v1", b""
    del environment.dependencies[:]
FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()
"""
_ACTIVE = ("JOB_STATE_PENDING", "JOB_STATE_QUEUED", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING")


class DataflowStub(ThreadingHTTPServer):
    """The service, for one project and region.

    jobs: what was submitted, and what became of it, the last one last. requests: method and path of all that was asked.
    state: of a job that was just submitted. runs: whether it is run. refuses: an HTTP code that all submissions get.
    """

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("localhost", 0), _Handler)
        self.folder = folder
        self.jobs: list[dict[str, Any]] = []
        self.messages: dict[str, list[dict[str, str]]] = {}
        self.requests: list[str] = []
        self.state, self.runs, self.refuses = "JOB_STATE_RUNNING", False, 0
        self._workers: list[subprocess.Popen[str]] = []
        self._numbers = itertools.count(1)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def options(self) -> list[str]:
        """With these a command submits to this service, and stages beside it."""
        staging = self.folder / "staging"
        staging.mkdir(exist_ok=True)
        return [
            "--runner=DataflowRunner", "--project=a-project", "--region=a-region", f"--temp_location={staging}",
            f"--dataflow_endpoint=http://localhost:{self.server_port}", "--no_auth",
        ]  # fmt: skip

    def take(self, job: dict[str, Any]) -> dict[str, Any]:
        """A submission; gives the job that is active under this name, if there is one."""
        for active in self.jobs:
            if active["name"] == job["name"] and active["currentState"] in _ACTIVE:
                return active
        number = next(self._numbers)
        job |= {
            "id": f"2026-11-22-{number}",
            "currentState": self.state,
            "createTime": f"2026-11-22T03:00:{number:02d}Z",
        }
        self.jobs.append(job)
        self.messages[job["id"]] = []
        if self.runs:
            threading.Thread(target=self._run, args=(job,), daemon=True).start()
        return job

    def end(self, job: dict[str, Any], state: str, *errors: str) -> None:
        """Let a job come to its end."""
        for text in errors:
            self.tell(job, text)
        job["currentState"] = f"JOB_STATE_{state}"

    def tell(self, job: dict[str, Any], text: str) -> None:
        """Let the service say that something went wrong."""
        message = {"messageText": text, "messageImportance": "JOB_MESSAGE_ERROR", "time": "2026-11-22T03:01:00Z"}
        self.messages[job["id"]].append(message)

    def _run(self, job: dict[str, Any]) -> None:
        worker = self._workers_process(job)
        self._workers.append(worker)
        said = worker.communicate()[1]
        if job["currentState"] == "JOB_STATE_RUNNING":
            self.end(job, "FAILED" if worker.returncode else "DONE", *([said] if worker.returncode else []))

    def _workers_process(self, job: dict[str, Any]) -> subprocess.Popen[str]:
        home = self.folder / f"worker of {job['id']}"
        staged = home / "staged"
        staged.mkdir(parents=True)
        path = staged_pipeline_path(job)
        wheels = []
        for name, source in staged_files(path):
            shutil.copy(source, staged / name)
            wheels += [str(staged / name)] if name.endswith(".whl") else []
        before = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
        if not wheels:
            before.insert(0, str(_ROOT))  # as a worker image has it
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*wheels, *before]),
            "SEMI_PERSISTENT_DIRECTORY": str(home),
        }
        command = [sys.executable, "-c", _WORKER, str(path)]
        return subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True)

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self.shutdown()
        self.server_close()


def staged_pipeline_path(job: dict[str, Any]) -> Path:
    """Where the pipeline of a submitted job lies."""
    return Path(job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"])


def read_pipeline(path: Path) -> api.Pipeline:
    return api.Pipeline.FromString(path.read_bytes())


def staged_files(path: Path) -> Iterator[tuple[str, Path]]:
    """Name on a worker, and place, of each file that was staged beside a pipeline."""
    for environment in read_pipeline(path).components.environments.values():
        for dependency in environment.dependencies:
            name = api.ArtifactStagingToRolePayload.FromString(dependency.role_payload).staged_name
            yield name, path.parent / name


@contextmanager
def dataflow(folder: Path) -> Iterator[DataflowStub]:
    """A service for as long as the context is open; `folder` gets what is staged."""
    stub = DataflowStub(folder)
    try:
        yield stub
    finally:
        stub.close()


class _Handler(BaseHTTPRequestHandler):
    server: DataflowStub

    def do(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        server.requests.append(f"{self.command} {url.path}")
        found = re.fullmatch(r"/v1b3/projects/a-project/locations/a-region/jobs(?:/([\w-]+))?(/messages)?", url.path)
        if found is None:
            return self._answer(404, _error(404, "no such address"))
        job = next((job for job in server.jobs if job["id"] == found[1]), None)
        if self.command == "POST":
            if server.refuses:
                return self._answer(server.refuses, _error(server.refuses, "the account may not do that"))
            return self._answer(200, server.take(json.loads(body)))
        if found[1] is None:
            names = parse_qs(url.query).get("name", [None])
            return self._answer(200, {"jobs": [_brief(job) for job in server.jobs if job["name"] == names[0]]})
        if job is None:
            return self._answer(404, _error(404, "no such job"))
        if found[2]:
            return self._answer(200, {"jobMessages": server.messages[job["id"]]})
        if self.command == "PUT":
            job["currentState"] = JobState(json.loads(body)["requestedState"]).name
        return self._answer(200, _brief(job))

    do_GET = do_POST = do_PUT = do  # noqa: N815

    def _answer(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        return


def _brief(job: dict[str, Any]) -> dict[str, Any]:
    return {key: job[key] for key in ("id", "name", "currentState", "createTime", "clientRequestId") if key in job}


def _error(code: int, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
