"""The main job: lock, plan, prove, score, publish."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import machine, memory, progress
from pipeline.arrival import match_complete, wait_for_input
from pipeline.artifacts import STAGING, staging_folder
from pipeline.commit import abandon, open_folder, published_run, roll_forward
from pipeline.errors import (
    CountError,
    LeaseLost,
    OutputError,
    ScoringError,
    StorageError,
    Terminated,
    unforeseen,
    without_values,
)
from pipeline.failure import Failure, read_verdict, remove_failed, write_failed
from pipeline.graph import Run
from pipeline.handover import left_job, over
from pipeline.history import new_shards
from pipeline.job import Job
from pipeline.launch import Prepared, prepare
from pipeline.lease import Lease, acquire
from pipeline.machine_cache import break_locks
from pipeline.manifest import read_manifest
from pipeline.parts import plan_parts
from pipeline.plan import (
    Plan,
    missing_numbers,
    temporary,
    utc_now,
    write_plan,
)
from pipeline.publish import Limits, existing_output
from pipeline.report import Report
from pipeline.resume import forget, not_kept, sweep, unfinished_plan
from pipeline.rows import Part
from pipeline.runner import Asked, is_in_process, pipeline_options, processes_asked, run_pipeline
from pipeline.runner_options import with_job_options
from pipeline.scoring import close_scorers
from pipeline.skip import skip_if_complete, skipped
from pipeline.staging import listed_digests
from pipeline.stale import stale


def score(
    job: Job,
    *,
    run_date: str | None = None,
    quiet: bool = False,
    resume: bool = True,
    limit_shards: int | None = None,
    limit_rows: int | None = None,
    workers: Asked | None = None,
    no_wait: bool = False,
    beam_arguments: Sequence[str] = (),
) -> Report:
    """Score a job's shards and publish the predictions.

    Args:
      job: a checked job.
      run_date: goes into the manifest.
      quiet: show no progress.
      resume: keep what an unfinished run of this output has done, and its checkpoint.
      limit_shards, limit_rows: a trial run of the first shards, and of the first rows of each; its manifest says so.
      workers: processes of this machine that score, in place of the job's `runner.processes_per_machine`.
      no_wait: leave the run to the cluster once it was submitted; `pipeline.wait` tells how it ends.
      beam_arguments: options for Beam, such as `--runner`.

    Returns:
      The report of a run that was done, skipped or submitted.

    Raises:
      ScoringError: with the exit code of the command; nothing was published then, and an earlier output is untouched.
    """
    options = pipeline_options(with_job_options(job.runner, beam_arguments))
    asked = processes_asked(options, job.runner.processes_per_machine, workers)
    if is_in_process(options):
        processes = 1 if asked == "auto" else asked
        machine.share_cores(processes, job.model.row_wise)  # this process is going to be one of them
    else:
        from pipeline.dataflow import refuse_paths_of_this_machine  # late: a run on this machine needs none of it

        refuse_paths_of_this_machine(job, options)
    run_id = uuid.uuid4().hex
    left = left_job(options, job.name, run_id, no_wait)
    output = job.output.path
    if nothing_to_do := skip_if_complete(job, run_date):
        return nothing_to_do
    wait_for_input(job.input, (lambda _: None) if quiet else partial(print, file=sys.stderr, flush=True))
    report = Report(job.name, output, run_date=run_date)
    limited = {"shards": limit_shards, "rows": limit_rows} if limit_shards or limit_rows else None
    try:
        with _holding(output, run_id, options, quiet, left, report) as lease:
            remove_failed(output)
            finished = roll_forward(lease)
            if finished is not None and _without_runner(finished.manifest["job"]) == _without_runner(job.settings()):
                report.stale = stale(job)
                if not report.stale or job.output.if_exists != "overwrite":
                    report.warnings.append("an earlier run of this job had ended while it published; that was finished")
                    return _done(report, job, finished.manifest)
            if existing_output(output, job.output.if_exists, job.output.layout) == "skip":
                return skipped(report, job)
            open_folder(lease)
            break_locks(temporary(output, STAGING))
            _score(job, lease, report, options, asked, quiet, resume, limited)
    except OutputError:
        if job.output.if_exists == "skip" and published_run(output) is not None:
            return skipped(report, job)  # a run that is alive is about to replace it
        raise
    return report


@contextmanager
def _holding(
    output: str, run_id: str, options: PipelineOptions, quiet: bool, left: Mapping[str, Any] | None, report: Report
) -> Iterator[Lease]:
    """Hold the lock of the output; word of how the run failed is left beside the output. A run that was submitted keeps it."""
    progress.reset()
    say = (lambda message: None) if quiet else partial(print, file=sys.stderr)
    try:
        lease = acquire(output, run_id, is_in_process(options), say, left, over(output))
    except OSError as error:
        raise unforeseen(error, output) from error
    try:
        with lease.kept():
            yield lease
    except LeaseLost:
        with suppress(OSError, OutputError):
            sweep(output, run_id)
        raise
    except OutputError:
        raise  # the output is that of another run
    except (KeyboardInterrupt, Terminated) as stopped:
        stopped.args = (_how_far(lease),)
        code = 143 if isinstance(stopped, Terminated) else 130
        with suppress(OSError, LeaseLost):
            lease.check()
            write_failed(output, Failure(run_id, code, f"stopped: {stopped}"))
        raise
    except Exception as error:
        _raise_if_lost(lease, error)
        found = unforeseen(error, output)
        with suppress(OSError):  # what made the run fail may make this fail
            write_failed(output, Failure.of(run_id, found))
        if isinstance(found, StorageError):
            raise found from error
        raise
    finally:
        if report.status != "submitted":
            with suppress(OSError):
                abandon(lease)


def _raise_if_lost(lease: Lease, error: Exception) -> None:
    """Of a run that lost the output meanwhile, this is what went wrong: a folder of its own is gone, for example."""
    try:
        with suppress(OSError):
            lease.check()
    except LeaseLost as lost:
        with suppress(OSError, OutputError):
            sweep(lease.output, lease.run_id)
        raise lost from error


def _score(
    job: Job,
    lease: Lease,
    report: Report,
    options: PipelineOptions,
    asked: Asked,
    quiet: bool,
    resume: bool,
    limited: Mapping[str, int | None] | None,
) -> None:
    launched = time.monotonic()
    if not resume:
        forget(lease)
    unfinished = unfinished_plan(lease.output)
    with _launching(lease, unfinished):
        matched = match_complete(job.input, waited=True)
        most = limited["shards"] if limited else None
        prepared = prepare(job, matched[:most], staging_folder(job), unfinished.staged if unfinished else None)
    try:
        fresh, notes = new_shards(job, matched, prepared.settings)
        report.known_shards = len(matched) - len(fresh)
        if not fresh:
            forget(lease)
            report.status, report.warnings = "skipped", [*report.warnings, *notes]
            return
        shards = fresh[:most]
        rows = limited["rows"] if limited else None
        key = prepared.spec.key if rows is None else f"{prepared.spec.key}, the first {rows} rows"
        parts = plan_parts(shards, prepared.spec.job, prepared.spec.columns, key, rows, unfinished)
        with _launching(lease, unfinished):
            spec = replace(prepared.spec, processes=_processes(asked, prepared, len(parts), options))
        report.seconds["launch"] = time.monotonic() - launched
        report.of_launch(prepared.stopwatch)
        warnings = (*prepared.warnings, *missing_numbers(matched), *notes)
        plan = _plan(job, lease.run_id, report, parts, prepared, spec.processes, warnings, limited)
        write_plan(lease.output, plan)
        started = time.monotonic()
        limits = Limits(job.errors.max_bad_rows, job.errors.max_broken_shards, job.errors.rejected_path)
        with progress.shown(len(parts), quiet):
            versions = None if is_in_process(options) else prepared.versions
            _run(Run(lease, spec, prepared.schema, limits, rows, versions), options, report)
        report.seconds["run"] = time.monotonic() - started
        if lease.is_left:
            report.status = "submitted"
            return
        report.of_first_prediction(progress.current.first if spec.processes == 1 else None)
    finally:
        close_scorers()
    manifest = read_manifest(lease.output)
    if manifest is None or manifest["run_id"] != plan.run_id:
        raise CountError(f"{lease.output}: the runner ended without an error, and nothing was published; see its log")
    if unfinished is not None:
        report.not_kept = not_kept(unfinished, plan, manifest["resumed_parts"])
    _done(report, job, manifest)
    report.memory = {**report.memory, "launcher_peak_bytes": memory.peak()}


@contextmanager
def _launching(lease: Lease, unfinished: Plan | None) -> Iterator[None]:
    """Leave nothing behind of a launch that failed, unless it would have gone on with what was there before."""
    try:
        yield
    except ScoringError as error:
        error.stage = error.stage or "launch"
        if unfinished is None:
            forget(lease)
        raise


def _run(run: Run, options: PipelineOptions, report: Report) -> None:
    """Run the pipeline; the report is warned of what went wrong after the output was published."""
    try:
        report.job = run_pipeline(run, options)
    except Exception as error:
        found = read_verdict(run.lease.output, run.lease.run_id)
        if found is not None:
            raise found.to_error() from error
        if published_run(run.lease.output) != run.lease.run_id:
            run.lease.check()
            raise
        report.warnings.append(
            f"not all that is temporary could be deleted ({without_values(error)}); the next run deletes it"
        )


def _plan(
    job: Job,
    run_id: str,
    report: Report,
    parts: tuple[Part, ...],
    prepared: Prepared,
    processes: int,
    warnings: tuple[str, ...],
    limited: Mapping[str, int | None] | None,
) -> Plan:
    return Plan(
        run_id=run_id,
        run_date=report.run_date,
        name=job.name,
        started=utc_now(),
        parts=parts,
        record_format=prepared.spec.record_format,
        schema=prepared.schema,
        features=tuple(prepared.spec.columns.features),
        optional=tuple(job.input.optional),
        model=prepared.model,
        transform=_with_files(prepared),
        record=prepared.record,
        job=job.settings(),
        versions=prepared.versions,
        settings=prepared.settings,
        code=prepared.code,
        staged=prepared.staged,
        timings={f"{phase}_seconds": round(seconds, 3) for phase, seconds in report.seconds.items()},
        memory={
            "processes_per_machine": processes,
            "variable_bytes": prepared.scorer.model.variable_bytes,
            "launcher_peak_bytes": memory.peak(),
        },
        warnings=warnings,
        limited=limited,
    )


def _processes(asked: Asked, prepared: Prepared, parts: int, options: PipelineOptions) -> int:
    """How many processes are to score: as this machine holds them, where it is this one, and no more than there are parts.

    Raises:
      ModelError: so many do not fit, by what this process takes that has built one model.
    """
    if not is_in_process(options):
        assert asked != "auto"  # refused for other runners
        return asked
    now, variables, here = memory.usage(), prepared.scorer.model.variable_bytes, machine.memory()
    need = memory.Need(max(0, now.private - variables), variables, now.shared)
    if asked == "auto":
        return min(need.as_many_as_fit(here, machine.cores()), max(1, parts))
    processes = min(asked, max(1, parts))
    need.check(processes, here)
    return processes


def _without_runner(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a job that decide what its output holds."""
    return {section: value for section, value in settings.items() if section != "runner"}


def _with_files(prepared: Prepared) -> Mapping[str, Any] | None:
    """What the manifest says of the transform, with the digests of its files: by those a skip finds out that it changed."""
    copy = prepared.spec.copies.transform
    if prepared.transform is None or copy is None:
        return prepared.transform
    return {**prepared.transform, "files": listed_digests(copy)}


def _done(report: Report, job: Job, manifest: Mapping[str, Any]) -> Report:
    report.of_manifest(manifest, job.errors.rejected_path)
    return report


def _how_far(lease: Lease) -> str:
    if published_run(lease.output) == lease.run_id:
        return "the output was published before that"
    done = progress.current.parts
    kept = f"{done} {'part is' if done == 1 else 'parts are'} done and kept for the next run; " if done else ""
    return f"{kept}nothing was published"
