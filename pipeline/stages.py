"""The stages as PTransforms: each adds labels, metrics and a worker's life cycle to plain functions, and nothing else.

What flows from `ReadShards` to `WriteParts` is `pipeline.rows.PartBatch`. The four stages between the two shuffles fuse
on every runner we know; where one cuts them, `WriteParts` refuses batches that are missing or out of order.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from pipeline import files, progress
from pipeline.batch import Regrouper
from pipeline.commit import clean, published_run
from pipeline.errors import BrokenShard, CountError, LeaseLost
from pipeline.failure import raise_verdict, verdict
from pipeline.job import Batch, Input
from pipeline.lease import Lease
from pipeline.plan import read_plan, temporary
from pipeline.predict import RowScorer
from pipeline.publish import Limits, publish
from pipeline.read import as_planned, first_rows, read_input
from pipeline.rows import ROW, Chunk, Columns, Part, PartBatch, ShardEnd, origins_of, with_origin
from pipeline.scoring import ScoringSpec, open_scorer
from pipeline.write import PartWriter, find_result

NAMESPACE = "estimator"


@dataclass
class ReadPlan(beam.PTransform):
    """The parts of a plan that have no result yet, spread over the workers. Output: Part."""

    lease: Lease

    def expand(self, root: beam.Pipeline) -> beam.PCollection[Part]:
        return (
            root
            | "Lease" >> beam.Create([self.lease])
            | "Parts" >> beam.FlatMap(_parts)
            | "Spread" >> beam.Reshuffle()
            | "Unfinished" >> beam.Filter(_is_unfinished, self.lease).with_output_types(Part)
        )


def _parts(lease: Lease) -> Iterable[Part]:
    if published_run(lease.output) == lease.run_id:  # a retry of this bundle: the plan is gone with `_temporary`
        return ()
    lease.check()
    return read_plan(lease.output).parts


def _is_unfinished(part: Part, lease: Lease) -> bool:
    lease.check()
    raise_verdict(lease)
    if find_result(lease.output, part) is None:
        return True
    progress.current.add(parts=1)
    return False


@dataclass
class ReadShards(beam.PTransform):
    """Rows of each part in the order of its shard. Input: Part. Output: PartBatch of raw rows.

    input: format and csv settings. columns: what is taken out of a record. batch: the bounds of a chunk.
    keep_record: whether rejected rows keep their record. limit_rows: how many rows of each shard a trial run takes.
    lease: is kept while a part is under way.
    """

    input: Input
    columns: Columns
    batch: Batch = field(default_factory=Batch)
    keep_record: bool = True
    limit_rows: int | None = None
    lease: Lease | None = None

    def expand(self, parts: beam.PCollection[Part]) -> beam.PCollection[PartBatch]:
        return parts | "ReadShard" >> beam.ParDo(_ReadShard(self)).with_output_types(PartBatch)


class _ReadShard(beam.DoFn):
    def __init__(self, stage: ReadShards):
        self._stage = stage
        self._rows_read = Metrics.counter(NAMESPACE, "rows-read")
        self._shards_broken = Metrics.counter(NAMESPACE, "shards-broken")

    def process(self, part: Part) -> Iterator[PartBatch]:
        stage = self._stage
        FileSystems.report_source_lineage(part.shard.path)
        chunks = read_input(part.shard.path, stage.input, stage.columns, stage.batch, stage.keep_record)
        if stage.limit_rows is not None:
            chunks = first_rows(chunks, stage.limit_rows)
        with stage.lease.kept() if stage.lease else nullcontext():
            yield from self._batches(part, as_planned(part.shard, chunks))

    def _batches(self, part: Part, chunks: Iterator[Chunk]) -> Iterator[PartBatch]:
        read = sequence = 0
        end = ShardEnd(0)
        try:
            for sequence, chunk in enumerate(chunks):
                read += chunk.read
                self._rows_read.inc(chunk.read)
                yield PartBatch(part, sequence, chunk.rows, chunk.rejected, present=chunk.present)
                sequence += 1
            end = ShardEnd(read)
        except BrokenShard as error:
            self._shards_broken.inc()
            end = ShardEnd(read, "tail_lost" if read else "unreadable", str(error))
        yield PartBatch(part, sequence, pa.record_batch([], []), last=end)


@dataclass
class BatchRows(beam.PTransform):
    """Batches of exactly `batch.rows` rows, or fewer where `batch.bytes` says so or a part ends. Input, output: PartBatch."""

    batch: Batch = field(default_factory=Batch)

    def expand(self, batches: beam.PCollection[PartBatch]) -> beam.PCollection[PartBatch]:
        return batches | "Regroup" >> beam.ParDo(_Regroup(self.batch.rows, self.batch.bytes)).with_output_types(
            PartBatch
        )


class _Regroup(beam.DoFn):
    """Holds the rows of one part that do not fill a batch yet."""

    def __init__(self, rows: int, max_bytes: int):
        self._rows, self._max_bytes = rows, max_bytes
        self._part: Part | None = None

    def start_bundle(self) -> None:
        self._part = None

    def process(self, batch: PartBatch) -> Iterator[PartBatch]:
        if batch.part != self._part:
            if self._part is not None:
                raise CountError(f"{self._part.shard.path}: its last batch did not come before those of the next part")
            self._part, self._sequence = batch.part, 0
            self._regrouper = Regrouper(self._rows, self._max_bytes)
        full = self._regrouper.add(batch.rows) if batch.rows.num_rows else []
        if batch.last is not None:
            full = [*full, *self._regrouper.finish()]
        rejected, present, last = batch.rejected, batch.present, batch.last
        for rows in full:
            yield PartBatch(batch.part, self._sequence, rows, rejected, present=present)
            self._sequence += 1
            rejected, present = (), {}
        if rejected or present or last is not None:
            yield PartBatch(batch.part, self._sequence, pa.record_batch([], []), rejected, last, present)
            self._sequence += 1
        if last is not None:
            self._part = None

    def finish_bundle(self) -> None:
        if self._part is not None:
            raise CountError(f"{self._part.shard.path}: its last batch did not arrive in the bundle of the others")


@dataclass
class Predict(beam.PTransform):
    """Predictions of each batch by the scorer of the worker's process. Input: PartBatch of raw rows; output: of scored."""

    spec: ScoringSpec
    lease: Lease | None = None

    def expand(self, batches: beam.PCollection[PartBatch]) -> beam.PCollection[PartBatch]:
        return batches | "Score" >> beam.ParDo(_Score(self.spec, self.lease)).with_output_types(PartBatch)


class _Score(beam.DoFn):
    """Metrics carry the names that Beam's RunInference gives them."""

    def __init__(self, spec: ScoringSpec, lease: Lease | None):
        self._spec, self._lease = spec, lease
        self._scorer: RowScorer | None = None
        self._load_seconds: list[float] = []
        self._rows_scored = Metrics.counter(NAMESPACE, "rows-scored")
        self._rows_rejected = Metrics.counter(NAMESPACE, "rows-rejected")
        self._inferences = Metrics.counter(NAMESPACE, "num_inferences")
        self._batch_rows = Metrics.distribution(NAMESPACE, "inference_request_batch_size")
        self._batch_bytes = Metrics.distribution(NAMESPACE, "inference_request_batch_byte_size")
        self._latency = Metrics.distribution(NAMESPACE, "inference_batch_latency_micro_secs")
        self._load = Metrics.distribution(NAMESPACE, "load_model_latency_milli_secs")

    def setup(self) -> None:
        with self._verdict():
            self._scorer = open_scorer(self._spec, self._load_seconds.append)

    def _verdict(self, shard: str | None = None) -> AbstractContextManager[None]:
        return verdict(self._lease, "predict", shard) if self._lease else nullcontext()

    def process(self, batch: PartBatch) -> Iterator[PartBatch]:
        assert self._scorer is not None  # setup ran
        while self._load_seconds:  # what is counted in setup is lost
            self._load.update(round(self._load_seconds.pop() * 1e3))
        start = time.perf_counter()
        with self._verdict(batch.part.shard.path):
            scored = self._scorer.score(batch.rows)
        if batch.rows.num_rows:
            self._inferences.inc(batch.rows.num_rows)
            self._batch_rows.update(batch.rows.num_rows)
            self._batch_bytes.update(batch.rows.nbytes)
            self._latency.update(round((time.perf_counter() - start) * 1e6))
        self._rows_scored.inc(scored.rows.num_rows)
        self._rows_rejected.inc(len(scored.rejected) + len(batch.rejected))
        progress.current.add(rows=batch.rows.num_rows)
        rows = scored.rows
        rows = with_shard(rows, batch) if self._spec.job.output.row_ids else rows.select(rows.schema.names[:-1])
        rejected = batch.rejected + with_origin(scored.rejected, batch.rows)
        present = {**batch.present, **scored.present}
        yield replace(batch, rows=rows, rejected=rejected, present=present, halved=scored.halved)


def with_shard(rows: pa.RecordBatch, batch: PartBatch) -> pa.RecordBatch:
    """Put the column `_shard` before `_row`, the last column. batch: that was scored.

    Rows that an earlier run rejected get the shard and number of their origin.
    """
    numbers = rows.column(ROW)
    shards = pa.repeat(pa.scalar(batch.part.shard.path, pa.string()), rows.num_rows)
    origins = origins_of(numbers, batch.rows)
    if origins is not None:
        shards, numbers = origins.flatten()
    others = rows.schema.names[:-1]
    return pa.RecordBatch.from_arrays([*rows.select(others).columns, shards, numbers], [*others, "_shard", ROW])


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
        with verdict(lease, "write", batch.part.shard.path):
            if batch.last is not None:
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
