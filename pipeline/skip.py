"""A run that has nothing to do, because its output is there already: it is told without Beam and without TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.commit import is_begun
from pipeline.failure import remove_failed
from pipeline.lease import is_locked
from pipeline.plan import check_output_outside_input
from pipeline.publish import existing_output
from pipeline.report import Report
from pipeline.stale import stale

if TYPE_CHECKING:
    from pipeline.job import Job


def skip_if_complete(job: Job, run_date: str | None) -> Report | None:
    """The report of a run that leaves the output as it is (`if_exists: skip`); None where there is something to do.

    Raises:
      JobError: the output is at or under the input.
      OutputError: there is an output, and `if_exists` is fail.
    """
    output = job.output.path
    check_output_outside_input(job.input.pattern, output)
    if (
        is_locked(output)
        or is_begun(output)
        or existing_output(output, job.output.if_exists, job.output.layout) != "skip"
    ):
        return None
    return skipped(Report(job.name, output, run_date=run_date), job)


def skipped(report: Report, job: Job) -> Report:
    """The end of a run whose output is complete; its report tells what has changed since."""
    report.status = "skipped"
    report.stale = stale(job)
    remove_failed(job.output.path)
    return report
