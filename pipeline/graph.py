"""The pipeline, whole: the only place where stages are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from pipeline.lease import Lease
from pipeline.publish import Limits
from pipeline.scoring import ScoringSpec
from pipeline.stages import BatchRows, Predict, Publish, ReadPlan, ReadShards, WriteParts


@dataclass(frozen=True)
class Run:
    """A planned run: what scores, into which schema, and what it puts up with.

    versions: of the launcher, where workers may have others, as on a cluster.
    """

    lease: Lease
    spec: ScoringSpec
    schema: pa.Schema
    limits: Limits
    limit_rows: int | None = None
    versions: Mapping[str, str] | None = None


def build(p: beam.Pipeline, run: Run) -> None:
    """Add a run to a pipeline."""
    job, columns, lease = run.spec.job, run.spec.columns, run.lease
    (
        p
        | "Plan" >> ReadPlan(lease, run.versions)  # the parts, frozen at launch: a shard each, unless told otherwise
        | "Read" >> ReadShards(job.input, columns, job.batch, job.errors.keep_record, run.limit_rows, lease)
        | "Batch" >> BatchRows(job.batch)  # by rows and bytes, never across parts
        | "Predict" >> Predict(run.spec, lease)  # training's transform and the Estimator in one session
        | "Write" >> WriteParts(lease, run.schema, run.spec.record_format)  # a file a part, not yet under its name
        | "Publish" >> Publish(lease, run.limits)  # reconcile, move, manifest, _SUCCESS last
    )
