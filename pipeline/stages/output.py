"""From predictions to an output that is complete, or not there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from pipeline import files, progress
from pipeline.commit import clean, published_run
from pipeline.errors import LeaseLost
from pipeline.failure import raise_verdict, verdict
from pipeline.lease import Lease
from pipeline.plan import read_plan, temporary
from pipeline.publish import Limits, publish
from pipeline.rows import Part, PartBatch
from pipeline.write import PartWriter


@dataclass
class WriteParts(beam.PTransform):
    """One Parquet file a part, under a temporary name, with its result beside it. Input: PartBatch; output: part index."""

    lease: Lease
    schema: pa.Schema
    record_format: str

    def expand(self, batches: beam.PCollection[PartBatch]) -> beam.PCollection[int]:
        return batches | "WritePart" >> beam.ParDo(_WritePart(self)).with_output_types(int)


class _WritePart(beam.DoFn):
    def __init__(self, stage: WriteParts):
        self._stage = stage
        self._writer: PartWriter | None = None

    def start_bundle(self) -> None:
        self._writer = None

    def process(self, batch: PartBatch) -> Iterator[int]:
        stage, lease = self._stage, self._stage.lease
        if self._writer is None:
            attempt = uuid.uuid4().hex
            self._writer = PartWriter(
                lease.output, batch.part, stage.schema, stage.record_format, attempt, lease.run_id
            )
        with verdict(lease, "write", batch.shard):
            if batch.last:
                self._check_lease(batch.part)
            result = self._writer.write(batch)
        if result is None:
            return
        self._writer = None
        progress.current.add(parts=1)
        yield batch.part.index

    def _check_lease(self, part: Part) -> None:
        lease = self._stage.lease
        try:
            lease.check()
        except LeaseLost:
            assert self._writer is not None
            self._writer.abort()
            for folder in (temporary(lease.output, part.key), temporary(lease.output)):
                files.delete_empty_folder(folder)
            raise

    def finish_bundle(self) -> None:
        if self._writer is not None:
            with verdict(self._stage.lease, "write"):
                self._writer.close()


@dataclass
class Publish(beam.PTransform):
    """Reconcile the results of all parts, move them to their names, then manifest and `_SUCCESS`. Input: part indices."""

    lease: Lease
    limits: Limits

    def expand(self, parts: beam.PCollection[int]) -> beam.PCollection[int]:
        return (
            parts
            | "Finished" >> beam.combiners.Count.Globally()
            | "Move" >> beam.Map(_publish, self.lease, self.limits)
        )


def _publish(finished: int, lease: Lease, limits: Limits) -> int:
    output = lease.output
    try:
        if published_run(output) == lease.run_id:  # a retry of this bundle: the plan may be gone with `_temporary`
            clean(lease)
            return finished
        with lease.kept(), verdict(lease, "publish"):
            lease.check()
            raise_verdict(lease)
            manifest = publish(lease, read_plan(output), limits)
    except (LeaseLost, FileNotFoundError):
        if published_run(output) != lease.run_id:
            raise
        with suppress(LeaseLost, FileNotFoundError):  # another attempt at this bundle, at the same time, was faster
            clean(lease)
        return finished
    for file in manifest["files"]:
        FileSystems.report_sink_lineage(files.join(output, file["path"]))
    return finished
