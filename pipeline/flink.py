"""What Beam does not ask of a Flink cluster: why tasks fail, while they are run again, and the end of a job, for certain."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, NoReturn

import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from pipeline.errors import JobError, ScoringError, without_values

_TIMEOUT = 10.0
_IN_PROCESS = ("[local]", "[auto]")
"""Masters for which Beam starts a cluster of its own in the job server."""
_TRACE = "Traceback (most recent call last):\n"


def refuse_unrunnable(options: PipelineOptions) -> None:
    """Raise a JobError for options with which workers cannot start on the cluster that they name."""
    flink, portable = options.view_as(FlinkRunnerOptions), options.view_as(PortableOptions)
    if _runner_name(options) != "FlinkRunner" or flink.flink_master in _IN_PROCESS:
        return
    if portable.environment_type is None:
        raise JobError(
            "command line: without --environment_type each TaskManager starts Docker for its workers; write "
            "--environment_type=EXTERNAL --environment_config=localhost:50000 for a worker pool beside each, or "
            "--environment_type=DOCKER"
        )
    if portable.environment_type == "LOOPBACK":
        raise JobError(
            "command line: --environment_type=LOOPBACK runs the workers in this process, which a cluster does not "
            "reach; write --environment_type=EXTERNAL --environment_config=localhost:50000"
        )


def flink_of(options: PipelineOptions, job_name: str) -> Flink | None:
    """The cluster that the options name, if it is one of Flink's; the job is going to have this name there."""
    flink = options.view_as(FlinkRunnerOptions)
    if _runner_name(options) != "FlinkRunner" or flink.flink_master in _IN_PROCESS:
        return None
    options.view_as(GoogleCloudOptions).job_name = job_name
    return Flink(_url(flink.flink_master), job_name)


def _url(master: str) -> str:
    master = master.strip().rstrip("/")
    return master if re.match("https?://", master) else f"http://{master}"


def _runner_name(options: PipelineOptions) -> str:
    return (options.view_as(StandardOptions).runner or "").rpartition(".")[2]


_ENDS = {"FINISHED": "DONE", "CANCELED": "CANCELLED", "FAILED": "FAILED"}
"""How a job comes to its end, as Flink and as Beam call it."""


class Failure(NamedTuple):
    """A task, or a job, that failed: when, in milliseconds, and the trace, Java's around Python's."""

    time: int
    text: str


class Flink:
    """One job of a cluster, by the REST interface of its JobManager. OSError: it does not answer."""

    def __init__(self, url: str, job_name: str):
        self._url, self._job_name = url, job_name
        self._job: str | None = None
        self._told = 0

    def last_failure(self) -> Failure | None:
        """What failed last; None if nothing has."""
        if self._found() is None:
            return None
        exceptions = self._get(f"jobs/{self._job}/exceptions")
        entries = exceptions.get("exceptionHistory", {}).get("entries", ())
        if entries:
            last = max(entries, key=lambda entry: entry["timestamp"])
            return Failure(last["timestamp"], last["stacktrace"])
        if exceptions.get("root-exception"):
            return Failure(exceptions["timestamp"], exceptions["root-exception"])
        return None

    def new_failure(self) -> str | None:
        """What has failed since the last call."""
        failure = self.last_failure()
        if failure is None or failure.time <= self._told:
            return None
        self._told = failure.time
        return failure.text

    def job_id(self) -> str | None:
        """What the cluster calls the job; None: it knows no such job."""
        return self._found()

    def cancel(self) -> bool:
        """Ask for the end of the job; False: the cluster knows no such job.

        Beam asks for it at an address that Flink does not have, where it submits an uber jar.
        """
        if self._found() is None:
            return False
        response = requests.patch(f"{self._url}/v1/jobs/{self._job}", params={"mode": "cancel"}, timeout=_TIMEOUT)
        response.raise_for_status()
        return True

    def has_ended(self) -> bool:
        """Whether the job has come to an end, good or bad."""
        return self._found() is None or self._get(f"jobs/{self._job}")["state"] in _ENDS

    def state(self) -> str | None:
        """As Beam calls it; None: the cluster knows no such job."""
        return None if self._found() is None else _ENDS.get(self._get(f"jobs/{self._job}")["state"], "RUNNING")

    def _found(self) -> str | None:
        if self._job is None:
            named = [job["jid"] for job in self._get("jobs/overview")["jobs"] if job["name"] == self._job_name]
            self._job = named[0] if named else None
        return self._job

    def _get(self, path: str) -> Any:
        response = requests.get(f"{self._url}/v1/{path}", timeout=_TIMEOUT)
        response.raise_for_status()
        return response.json()


class FlinkJob:
    """A job that was left to the cluster, found again by its name."""

    def __init__(self, flink: Flink):
        self._flink = flink

    @property
    def state(self) -> str:
        """As Beam calls it."""
        return self._flink.state() or "UNKNOWN"

    def cancel(self) -> None:
        self._flink.cancel()

    def raise_error(self) -> NoReturn:
        """Raise what made the job fail."""
        failure = self._flink.last_failure()
        raise ScoringError(f"the job failed on the cluster: {error_in_words(failure.text if failure else '')}")


def find_flink_job(master: str, name: str) -> FlinkJob | None:
    """The job of that name; None where the cluster knows none. OSError: it does not answer."""
    flink = Flink(_url(master), name)
    return None if flink.state() is None else FlinkJob(flink)


def python_trace(text: str) -> str | None:
    """The last trace of Python in one of Java; None where there is none."""
    _, found, rest = text.rpartition(_TRACE)
    if not found:
        return None
    return _TRACE + re.split(r"^(?:\s+at |Caused by: )", rest, maxsplit=1, flags=re.MULTILINE)[0].rstrip()


def error_in_words(text: str) -> str:
    """The root cause of what Flink tells, in one line and without values of rows."""
    trace = python_trace(text)
    if trace is None:
        causes = re.findall(r"^(?:Caused by: )?([\w.$]+(?:Exception|Error)\b.*)$", text, re.MULTILINE)
        return causes[-1] if causes else "it told no reason; see the log of the JobManager"
    lacking = re.search(r"^ModuleNotFoundError: No module named '([\w.]+)'", trace, re.MULTILINE)
    if lacking:
        return f"a worker has no Python module {lacking[1]!r}; install there what this launcher has"
    return without_values(RuntimeError(trace))
