"""The command `check`: proves a job without running it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.arrival import match_complete
from pipeline.history import new_shards
from pipeline.job import Job
from pipeline.launch import prepare
from pipeline.layout import folders_of
from pipeline.plan import check_output_outside_input, missing_numbers
from pipeline.publish import existing_output
from pipeline.report import record_in_words
from pipeline.scoring import ScoringSpec, close_scorers
from pipeline.skew import find_skew
from pipeline.text import counted


def check(job: Job) -> str:
    """Load everything a run loads, score one batch, hold the first rows against the transform, and tell what the output will be.

    Raises:
      ScoringError: what the run would be refused for.
    """
    if job.runner.options:
        from pipeline.runner import pipeline_options
        from pipeline.runner_options import with_job_options

        pipeline_options(with_job_options(job.runner, ()))
    check_output_outside_input(job.input.pattern, job.output.path)
    shards = match_complete(job.input)
    folders = set(folders_of(shards, job).values())
    prepared = prepare(job, shards)
    close_scorers()
    skew = find_skew(prepared.spec, shards)
    new, notes = new_shards(job, shards, prepared.settings)
    exists = existing_output(job.output.path, "skip", job.output.layout) == "skip"
    step = prepared.model["step"]
    lines = [
        f"job         {job.name}",
        f"shards      {len(shards):,}, {sum(shard.bytes for shard in shards):,} bytes, {prepared.spec.record_format}",
        *([f"new         {len(new):,} of them; earlier runs have scored the others"] if job.input.only_new else []),
        *_input(prepared.spec),
        f"features    {', '.join(prepared.spec.columns.features) or 'known to the model alone'}",
        *([f"partitions  {_listed(prepared.spec.columns.partitions)}"] if job.input.partitions else []),
        f"checkpoint  {prepared.model['checkpoint']}" + (f", step {step}" if step is not None else ""),
        f"assets      {', '.join(prepared.model['assets']) or 'none'}",
        *(f"  {name}: {path}" for name, path in job.model.assets.items()),
        *([f"env         {', '.join(job.env)}"] if job.env else []),
        f"record      {record_in_words(prepared.record)}",
        f"transform   {prepared.transform['path'] if prepared.transform else 'none'}",
        f"output      {job.output.path}" + (f" (exists; if_exists: {job.output.if_exists})" if exists else ""),
        *([f"layout      mirror, {counted(len(folders), 'folder')}"] if job.output.layout == "mirror" else []),
        f"skew        {skew.lines[0]}",
        *(f"  {line}" for line in skew.lines[1:]),
        "columns",
        *(f"  {field.name}: {field.type}" for field in prepared.schema),
        *(
            f"warning     {warning}"
            for warning in (*prepared.warnings, *skew.warnings, *missing_numbers(shards), *notes)
        ),
        "the job can run",
    ]
    return "\n".join(lines)


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {dtype}" for name, dtype in columns.items())


def _input(spec: ScoringSpec) -> list[str]:
    """What a record is and what parses it, where that is another way than `tf.io.parse_example`."""
    record = [f"record is   {spec.columns.record}"] if spec.columns.record != "example" else []
    function = spec.job.model.serving_input_fn
    return record + ([f"input       {function}"] if function else [])
