"""Beam options and runners: `DirectRunner` means Beam's in-process runner, with no download."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Literal

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.worker import sdk_worker

from pipeline.errors import JobError, ScoringError
from pipeline.failure import verdict
from pipeline.graph import Run, build
from pipeline.job.runner import SECRETS
from pipeline.lease import Lease
from pipeline.machine import cores
from pipeline.processes import WorkerProcesses
from pipeline.runner_options import beam_parser
from pipeline.threads import in_thread

Asked = int | Literal["auto"]
"""How many processes of a machine hold a copy of the model: a number, 0 for one a core, or as many as fit."""

IN_PROCESS = "FnApiRunner"
"""Beam's DirectRunner downloads Prism first where it can, and changes the engine with the shape of the pipeline."""

ONE_A_MACHINE = "no_use_multiple_sdk_containers"
"""The experiment by which Dataflow starts one process on a machine in place of one a core."""


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options, which hold for the filesystems of this process from now on.

    One that Beam does not know is an error, where Beam itself would warn and go on.

    Raises:
      JobError: naming the option.
    """
    try:
        known, unknown = beam_parser().parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise JobError(f"command line: {error}") from error
    if unknown:
        raise JobError(f"command line: neither this command nor Beam knows {unknown[0]!r}; see --help")
    for option, variable in SECRETS.items():
        if getattr(known, option) is not None:
            raise JobError(f"command line: --{option} would be shown with the job; set {variable} in the environment")
    options = PipelineOptions(list(arguments))
    standard = options.view_as(StandardOptions)
    if standard.runner in (None, "DirectRunner"):
        standard.runner = IN_PROCESS
    if standard.runner != IN_PROCESS:
        from pipeline import dataflow, flink

        flink.refuse_unrunnable(options)
        dataflow.refuse_unrunnable(options)
    FileSystems.set_options(options)
    return options


def is_in_process(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine, under this process."""
    return options.view_as(StandardOptions).runner == IN_PROCESS


def processes_asked(options: PipelineOptions, in_job: Asked | None, workers: Asked | None) -> Asked:
    """How many processes of a machine are to hold a copy of the model; `options` tell a cluster's runner of it from now on.

    Args:
      options: Beam's; those that say it themselves go before the job file.
      in_job: `runner.processes_per_machine`.
      workers: the option `--workers`, which goes before both.

    Raises:
      JobError: the runner cannot be told so, or is told two things.
    """
    runner = (options.view_as(StandardOptions).runner or "").rpartition(".")[2]
    given = {flag.partition("=")[0].removeprefix("--") for flag in options._flags or ()}
    if runner == IN_PROCESS:
        direct = options.view_as(DirectOptions)
        if given.isdisjoint(("direct_num_workers", "direct_running_mode")):
            return workers or in_job or 1
        if workers is not None:
            raise JobError(
                "command line: --workers says what --direct_num_workers and --direct_running_mode say; keep one"
            )
        return (direct.direct_num_workers or cores()) if direct.direct_running_mode == "multi_processing" else 1
    if workers is not None:
        raise JobError(f"command line: --workers is for this machine; for {runner} set runner.processes_per_machine")
    key = "runner.processes_per_machine"
    if in_job == "auto":
        raise JobError(f"{key}: auto goes by the memory of this machine, and {runner} has others; write a number")
    if runner == "DataflowRunner":
        debug = options.view_as(DebugOptions)
        if in_job is not None and in_job > 1:
            raise JobError(
                f"{key}: Dataflow runs one process a core, or 1 a machine, and not {in_job}: leave it out and choose a "
                "machine with as many cores, or write 1"
            )
        if in_job == 1:
            debug.add_experiment(ONE_A_MACHINE)
        return 1 if debug.lookup_experiment(ONE_A_MACHINE) else 0
    if runner in ("FlinkRunner", "SparkRunner", "PortableRunner"):
        portable = options.view_as(PortableOptions)
        if in_job is not None and "sdk_worker_parallelism" not in given:
            portable.sdk_worker_parallelism = in_job
        number = str(portable.sdk_worker_parallelism)  # Beam takes any text
        if not number.isdecimal():
            raise JobError(f"command line: --sdk_worker_parallelism: expected a whole number, got {number!r}")
        return int(number)
    if in_job is not None and in_job > 1:
        raise JobError(f"{key}: {runner} runs one process a machine, and not {in_job}; leave it out")
    return 1


def run_pipeline(run: Run, options: PipelineOptions) -> dict[str, str]:
    """Build the pipeline, run it, and wait until it is done. Errors of the stages are raised as the runner raises them.

    Gives what a cluster calls the job, see `pipeline.cluster.run_on_cluster`. In process, `run.spec.processes` of them score: this one, and others started by it where it is more than 1.
    """
    if not is_in_process(options):
        from pipeline.cluster import run_on_cluster  # late: a run on this machine needs none of it

        with _without_traces(), run.spec.code.staged(options):  # LOOPBACK: workers run in this process
            return run_on_cluster(run, options)
    direct = options.view_as(DirectOptions)
    if direct.direct_running_mode == "multi_processing":
        direct.direct_running_mode, direct.direct_num_workers = "in_memory", 1
    with _without_traces():
        if run.spec.processes == 1:
            _run(beam.Pipeline(options=options), run)
            return {}
        direct.direct_num_workers = run.spec.processes
        with WorkerProcesses(options, partial(_tell, run.lease)) as processes:
            _run(beam.Pipeline(FnApiRunner(processes.environment), options), run)
    return {}


@contextmanager
def _without_traces() -> Iterator[None]:
    """Keep Beam's worker from printing the trace of what a stage raised, which may hold values of rows.

    It writes to stderr whatever the level of its log is; the runner gets the trace as well.
    """
    if os.environ.get("ESTIMATOR_SCORE_TRACEBACK"):
        yield
        return
    vars(sdk_worker)["print"] = lambda *_, **__: None
    try:
        yield
    finally:
        vars(sdk_worker).pop("print", None)  # another run of this process may have been faster


def _tell(lease: Lease, lost: ScoringError) -> None:
    """Leave the verdict that a worker is lost, by which the others stop and the launcher knows what happened."""
    with suppress(ScoringError), verdict(lease, "predict"):
        raise lost


def _run(p: beam.Pipeline, run: Run) -> None:
    build(p, run)
    in_thread(lambda: p.run().wait_until_finish()).result()
