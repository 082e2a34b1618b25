"""The main job: plan, prove, score, publish."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import files, progress
from pipeline.errors import CountError, VerdictError
from pipeline.graph import Run
from pipeline.job import Job
from pipeline.launch import Prepared, prepare
from pipeline.manifest import read_manifest
from pipeline.plan import (
    REJECTED,
    Plan,
    check_output_outside_input,
    match_shards,
    missing_numbers,
    part_key,
    utc_now,
    write_plan,
)
from pipeline.publish import Limits, existing_output, read_verdict
from pipeline.report import Report
from pipeline.rows import Part, Shard
from pipeline.runner import pipeline_options, run_pipeline
from pipeline.scoring import close_scorers


def score(
    job: Job,
    *,
    run_date: str | None = None,
    quiet: bool = False,
    limit_shards: int | None = None,
    limit_rows: int | None = None,
    beam_arguments: Sequence[str] = (),
) -> Report:
    """Score a job's shards and publish the predictions.

    Args:
      job: a checked job.
      run_date: goes into the manifest.
      quiet: show no progress.
      limit_shards, limit_rows: a trial run of the first shards, and of the first rows of each; its manifest says so.
      beam_arguments: options for Beam, such as `--runner`.

    Returns:
      The report of a run that was done or skipped.

    Raises:
      ScoringError: with the exit code of the command; nothing was published then, and an earlier output is untouched.
    """
    options = pipeline_options(beam_arguments)
    output = job.output.path
    report = Report(job.name, output, run_date=run_date)
    if existing_output(output, job.output.if_exists) == "skip":
        report.status = "skipped"
        return report
    errors = job.errors
    limits = Limits(errors.max_bad_rows, errors.max_broken_shards, errors.rejected_path)
    launched = time.monotonic()
    check_output_outside_input(job.input.pattern, output)
    matched = match_shards(job.input)
    shards = matched[:limit_shards]
    try:
        prepared = prepare(job, shards)
        limited = {"shards": limit_shards, "rows": limit_rows} if limit_shards or limit_rows else None
        warnings = (*prepared.warnings, *missing_numbers(matched))
        plan = _plan(job, run_date, shards, prepared, warnings, limited)
        write_plan(output, plan)
        report.seconds["launch"] = time.monotonic() - launched
        started = time.monotonic()
        with progress.shown(len(shards), quiet):
            _run(Run(plan.run_id, prepared.spec, prepared.schema, limits, limit_rows), options, output)
        report.seconds["run"] = time.monotonic() - started
    finally:
        close_scorers()
    manifest = read_manifest(output)
    if manifest is None:
        raise CountError(f"{output}: the runner ended without an error, and nothing was published; look at its log")
    report.run_id, report.rows, report.shards = plan.run_id, manifest["rows"], len(shards)
    report.model, report.transform, report.record = manifest["model"], manifest["transform"], manifest["record"]
    report.warnings = [*manifest.get("warnings", ()), *_halved(manifest.get("halved_batches", 0))]
    report.rejected_path = (errors.rejected_path or files.join(output, REJECTED)) if report.rows["rejected"] else None
    return report


def _halved(batches: int) -> list[str]:
    if not batches:
        return []
    return [f"{batches} batches were too large for the memory and were scored in two halves; lower batch.rows"]


def _plan(
    job: Job,
    run_date: str | None,
    shards: Sequence[Shard],
    prepared: Prepared,
    warnings: tuple[str, ...],
    limited: Mapping[str, int | None] | None,
) -> Plan:
    rows = limited["rows"] if limited else None
    key = prepared.spec.key if rows is None else f"{prepared.spec.key}, the first {rows} rows"
    return Plan(
        run_id=uuid.uuid4().hex,
        run_date=run_date,
        name=job.name,
        started=utc_now(),
        parts=tuple(Part(index, part_key(shard, key), shard) for index, shard in enumerate(shards)),
        record_format=prepared.spec.record_format,
        schema=prepared.schema,
        features=tuple(prepared.spec.columns.features),
        optional=tuple(job.input.optional),
        model=prepared.model,
        transform=prepared.transform,
        record=prepared.record,
        job=job.settings(),
        versions=prepared.versions,
        warnings=warnings,
        limited=limited,
    )


def _run(run: Run, options: PipelineOptions, output: str) -> None:
    try:
        run_pipeline(run, options)
    except Exception as error:
        verdict = read_verdict(output)
        if verdict is not None:
            raise VerdictError(verdict.message, verdict.exit_code) from error
        raise
