"""Dataflow: what a submission needs, and a job of the service by its API."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import PipelineState, create_runner

from pipeline import files
from pipeline.errors import JobError, OutputError, ScoringError
from pipeline.flink import error_in_words
from pipeline.handover import runner_name
from pipeline.versions import installed_versions, refuse_what_beam_refused
from pipeline.wheel import write_wheel

if TYPE_CHECKING:
    from pipeline.job import Job

_ASK_EVERY = 5.0
"""Seconds; the service counts requests, of all jobs of a project."""
_LAST_WORDS = 30.0
"""Seconds until the service tells why a job has failed."""
_NO_MATTER = "work item was attempted"
"""In the messages that come behind the one which names the error."""


def refuse_unrunnable(options: PipelineOptions) -> None:
    """Raise a JobError for options with which Dataflow takes no job, or starts no worker."""
    if not is_dataflow(options):
        return
    try:
        from apache_beam.internal.gcp.auth import get_service_credentials
        from apache_beam.runners.dataflow.internal import apiclient  # noqa: F401
    except ImportError as error:
        raise JobError(
            "command line: --runner=DataflowRunner needs Google's client of Dataflow; pip install 'estimator-score[dataflow]' "
            "(not apache-beam[gcp], which cannot be installed beside TensorFlow 2.15)"
        ) from error
    google = options.view_as(GoogleCloudOptions)
    for name in ("project", "temp_location"):
        if getattr(google, name) is None:
            raise JobError(f"command line: --runner=DataflowRunner needs --{name}")
    if not _is_here(options):
        for name in ("temp_location", "staging_location"):
            path = getattr(google, name)
            if path is not None and not path.startswith("gs://"):
                raise JobError(
                    f"command line: --{name} {path} is no folder on Google Cloud Storage; write gs://BUCKET/..."
                )
    is_old = installed_versions().get("tensorflow", "").startswith("2.15.")
    if is_old and not options.view_as(WorkerOptions).sdk_container_image:
        raise JobError(
            "command line: TensorFlow 2.15 cannot be installed in Beam's own image, whose clients of Google need another "
            "protobuf; build the worker image with it, and give --sdk_container_image"
        )
    mistakes = PipelineOptionsValidator(options, create_runner("DataflowRunner")).validate()
    if mistakes:
        raise JobError("command line: " + "; ".join(dict.fromkeys(mistakes)))
    if not google.no_auth and get_service_credentials(options) is None:
        raise JobError(
            "command line: there are no credentials of Google; log in (gcloud auth application-default login)"
        )


def refuse_paths_of_this_machine(job: Job, options: PipelineOptions) -> None:
    """Raise a JobError for files that Dataflow's workers are to read or write, and cannot see."""
    if not is_dataflow(options) or _is_here(options):
        return
    paths = [("input.pattern", pattern) for pattern in job.input.pattern]
    paths += [("output.path", job.output.path), ("errors.rejected_path", job.errors.rejected_path or "gs://")]
    paths.append(("model.staging", job.model.staging or "gs://"))
    for key, path in paths:
        if files.is_local(path):
            raise JobError(
                f"{key}: {path} is on this machine, which Dataflow's workers do not see; write gs://BUCKET/..."
            )


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether the runner is Dataflow's."""
    return runner_name(options) == "DataflowRunner"


def _is_here(options: PipelineOptions) -> bool:
    """Whether the service is one on this machine, as in tests: its workers see what this process does."""
    return "//localhost" in (options.view_as(GoogleCloudOptions).dataflow_endpoint or "")


@contextmanager
def packaged(options: PipelineOptions, job_name: str) -> Iterator[None]:
    """Name the job, and stage what runs here with it, as long as the context is open.

    An image of the user's has this project in it, and Beam. Workers of Beam's own image install a wheel of it.
    """
    options.view_as(GoogleCloudOptions).job_name = job_name
    setup = options.view_as(SetupOptions)
    if options.view_as(WorkerOptions).sdk_container_image:
        if setup.sdk_location == "default":
            setup.sdk_location = "container"
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        setup.extra_packages = [write_wheel(folder), *(setup.extra_packages or ())]
        yield


@contextmanager
def refused_in_words(job_name: str) -> Iterator[None]:
    """What Google says to a submission, as an error of ours."""
    from apache_beam.runners.dataflow.internal import apiclient

    logging.getLogger(apiclient.__name__).setLevel(logging.CRITICAL + 1)  # it prints what it raises
    try:
        with _answers():
            yield
    except apiclient.DataflowJobAlreadyExistsError as error:
        raise OutputError(
            f"command line: --job_name {job_name}: Dataflow runs a job of that name already; wait until it is done, or leave "
            "--job_name out"
        ) from error


class DataflowJob:
    """A job that the service has. OSError: it does not answer."""

    @classmethod
    def of(cls, options: PipelineOptions, result: Any) -> DataflowJob:
        """The job that Beam has submitted; of a template it has none yet."""
        return cls(options, result.job_id() if result.has_job else None)

    def __init__(self, options: PipelineOptions, job_id: str | None):
        google = options.view_as(GoogleCloudOptions)
        self._clients = _Clients(options)
        self._place = {"project_id": google.project, "location": google.region, "job_id": job_id}
        self._known, self._next = PipelineState.PENDING, 0.0
        self._next_errors, self._told = 0.0, 0
        self._id = job_id
        self._url = f"https://console.cloud.google.com/dataflow/jobs/{google.region}/{job_id}?project={google.project}"

    @property
    def state(self) -> str:
        """As `PipelineState` calls it; asked for now and then."""
        if time.monotonic() >= self._next and not PipelineState.is_terminal(self._known):
            with _answers():
                found = self._clients.jobs.get_job(self._request("GetJobRequest"))
            self._known = found.current_state.name.removeprefix("JOB_STATE_")
            self._next = time.monotonic() + _ASK_EVERY
        return self._known

    def cancel(self) -> None:
        """Cancel the job, and wait a moment for its end."""
        api = self._clients.api
        request = self._request("UpdateJobRequest", job=api.Job(requested_state=api.JobState.JOB_STATE_CANCELLED))
        with _answers():
            self._clients.jobs.update_job(request)
        until = time.monotonic() + _LAST_WORDS
        while not PipelineState.is_terminal(self.state) and time.monotonic() < until:
            time.sleep(1)

    def raise_error(self) -> NoReturn:
        """Raise what made the job fail: the error in Python where a worker had one, as the service says it otherwise."""
        until = time.monotonic() + _LAST_WORDS
        while not (errors := self._errors()) and time.monotonic() < until:
            time.sleep(1)
        refuse_what_beam_refused("\n".join(errors))
        raise ScoringError(f"the job failed on Dataflow: {_in_words(errors)} ({self._url})")

    def known_as(self) -> dict[str, str]:
        """Where people find the job."""
        return {} if self._id is None else {"id": self._id, "url": self._url}

    def retried(self) -> str | None:
        """What has gone wrong since the last call, in words."""
        if time.monotonic() < self._next_errors:
            return None
        self._next_errors = time.monotonic() + _ASK_EVERY
        try:
            errors = self._errors()
        except ScoringError:  # who may not read them may run the job all the same
            return None
        new, self._told = errors[self._told :], len(errors)
        refuse_what_beam_refused("\n".join(new))
        return _in_words(new) if new else None

    def _errors(self) -> list[str]:
        importance = self._clients.api.JobMessageImportance.JOB_MESSAGE_ERROR
        request = self._request("ListJobMessagesRequest", minimum_importance=importance)
        with _answers():
            return [message.message_text for message in self._clients.messages.list_job_messages(request)]

    def _request(self, kind: str, **more: Any) -> Any:
        return getattr(self._clients.api, kind)(**self._place, **more)


def find_dataflow_job(options: PipelineOptions, name: str) -> DataflowJob | None:
    """The newest job of a name; None where the service knows none."""
    google = options.view_as(GoogleCloudOptions)
    clients = _Clients(options)
    request = clients.api.ListJobsRequest(project_id=google.project, location=google.region, name=name)
    with _answers():
        found = [job for job in clients.jobs.list_jobs(request) if job.name == name]
    newest = max(found, key=lambda job: job.create_time.timestamp() if job.create_time else 0.0, default=None)
    return None if newest is None else DataflowJob(options, newest.id)


class _Clients:
    """Google's clients, as Beam makes them."""

    def __init__(self, options: PipelineOptions):
        from apache_beam.internal.gcp.auth import get_service_credentials
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import dataflow_v1beta3 as api

        google = options.view_as(GoogleCloudOptions)
        credentials = None if google.no_auth else get_service_credentials(options)
        endpoint = google.dataflow_endpoint.strip().rstrip("/")
        made: dict[str, Any] = {
            "credentials": credentials or AnonymousCredentials(),
            "transport": "rest",
            "client_options": ClientOptions(api_endpoint=endpoint),
        }
        self.api = api
        self.jobs, self.messages = api.JobsV1Beta3Client(**made), api.MessagesV1Beta3Client(**made)


@contextmanager
def _answers() -> Iterator[None]:
    """An OSError where the service gives no answer, as where a store does; a ScoringError where it refuses."""
    from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError, ServerError, TooManyRequests
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        yield
    except (
        ServerError,
        TooManyRequests,
        NotFound,
        RetryError,
        TransportError,
    ) as error:  # a new job may not be found yet
        raise OSError(
            f"Dataflow gives no answer: {error.message if isinstance(error, GoogleAPICallError) else error}"
        ) from error
    except GoogleAPICallError as error:
        raise ScoringError(f"Dataflow refused: {error.message}") from error
    except GoogleAuthError as error:
        raise ScoringError(f"Google's credentials: {error}; log in (gcloud auth application-default login)") from error


def _worth(text: str) -> int:
    """Which of several messages names the error itself."""
    return 1 if "Traceback" in text else -1 if _NO_MATTER in text else 0


def _in_words(errors: list[str]) -> str:
    if not errors:
        return "it told no reason"
    text = max(reversed(errors), key=_worth)
    return error_in_words(text) if "Traceback" in text else text.strip()
