"""A run that is left to a cluster (`--no_wait`): where its job can be asked for, by `wait` and by the next run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from pipeline.errors import JobError, OutputError, ScoringError
from pipeline.failure import read_verdict
from pipeline.lease import Holder, holder_of

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

_PLACE = {
    "DataflowRunner": ("project", "region", "dataflow_endpoint", "no_auth", "impersonate_service_account"),
    "FlinkRunner": ("flink_master",),
}
"""Options that lead to a job of a runner, none of them a secret."""
_ENDED = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")


class Job(Protocol):
    """A job of a cluster."""

    @property
    def state(self) -> str:
        """As `PipelineState` calls it."""
        ...

    def cancel(self) -> None: ...

    def raise_error(self) -> NoReturn: ...


def job_name(options: PipelineOptions, name: str, run_id: str) -> str:
    """How a cluster is to call the job of a run: by the name in the job file and the beginning of the run id.

    Dataflow takes the name of the command line, where there is one: of one name it runs one job at a time.
    """
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    ours = f"{name}-{run_id[:8]}"
    if runner_name(options) != "DataflowRunner":
        return ours
    given = options.view_as(GoogleCloudOptions).job_name
    letters = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50]
    return given or f"{letters if letters[:1].isalpha() else f'job-{letters}'}-{run_id[:8]}"


def left_job(options: PipelineOptions, name: str, run_id: str, no_wait: bool) -> dict[str, Any] | None:
    """What the lock says of the job of a run that is going to be left; None where the launcher waits for it.

    A template is left in any case: Dataflow starts its job when this process is done.

    Raises:
      JobError: `no_wait`, and the run would end with this process.
    """
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    if not no_wait and not options.view_as(GoogleCloudOptions).template_location:
        return None
    runner = runner_name(options)
    _refuse_to_leave(options, runner)
    found = {key: options.get_all_options()[key] for key in _PLACE.get(runner, ())}
    place = {key: value for key, value in found.items() if value not in (None, False)}
    return {"runner": runner, "name": job_name(options, name, run_id), "options": place}


def find_job(job: Mapping[str, Any]) -> Job | None:
    """The job of a run that was left; None where nobody can be asked, or who is asked knows no such job.

    Raises:
      OSError: no answer.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions.from_dictionary(dict(job["options"]))
    if job["runner"] == "DataflowRunner":
        from pipeline.dataflow import find_dataflow_job

        return find_dataflow_job(options, job["name"])
    if job["runner"] == "FlinkRunner":
        from pipeline.flink import find_flink_job

        return find_flink_job(job["options"]["flink_master"], job["name"])
    return None


def is_over(state: str) -> bool:
    """Whether a job in this state does nothing any more."""
    return state in _ENDED


def over(output: str) -> str | None:
    """The run that has the lock of an output, if it was left to a cluster and has ended there; None where that is not known.

    Raises:
      OutputError: it is at work.
    """
    holder = holder_of(output)
    if holder is None or "job" not in holder.content:
        return None
    if read_verdict(output, holder.run_id) is not None:
        return holder.run_id
    state = _state(holder)
    if state is None:
        return None
    if is_over(state):
        return holder.run_id
    job = holder.content["job"]
    raise OutputError(
        f"output.path: {output} is locked by {holder}, which is {state} on {job['runner']}; wait for it (estimator-score wait "
        f"{output}), or cancel that job"
    )


def _state(holder: Holder) -> str | None:
    try:
        job = find_job(holder.content["job"])
        return None if job is None else job.state
    except (OSError, ScoringError):  # out of reach, or not for us to ask: the lock itself tells in time
        return None


def _refuse_to_leave(options: PipelineOptions, runner: str) -> None:
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, PortableOptions

    portable, flink = options.view_as(PortableOptions), options.view_as(FlinkRunnerOptions)
    if runner == "DataflowRunner":
        return
    if portable.environment_type == "LOOPBACK":
        raise JobError("command line: --no_wait: with --environment_type=LOOPBACK the workers run in this process")
    if runner == "FlinkRunner" and flink.flink_submit_uber_jar and not flink.flink_master.startswith("["):
        return
    if runner == "PortableRunner" and portable.job_endpoint not in (None, "embed"):
        return
    if runner in ("FlinkRunner", "SparkRunner", "PortableRunner"):
        more = " or give --flink_submit_uber_jar," if runner == "FlinkRunner" else ""
        raise JobError(
            f"command line: --no_wait: the job server that Beam starts for {runner} ends with this command;{more} start one "
            "yourself and name it: --runner=PortableRunner --job_endpoint=HOST:PORT"
        )
    raise JobError(f"command line: --no_wait is for clusters, and {runner} runs in this process; leave it out")


def runner_name(options: PipelineOptions) -> str:
    """The runner's class."""
    from apache_beam.options.pipeline_options import StandardOptions

    return (options.view_as(StandardOptions).runner or "").rpartition(".")[2]
