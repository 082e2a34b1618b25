"""From raw rows to predictions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipeline import progress
from pipeline.allocator import keep_freed_memory
from pipeline.errors import CountError
from pipeline.failure import verdict
from pipeline.lease import Lease
from pipeline.machine import batches_at_once
from pipeline.predict import RowScorer, Scored
from pipeline.rows import ROW, PartBatch, origins_of, with_origin
from pipeline.scoring import ScoringSpec, open_scorer
from pipeline.stages.input import NAMESPACE

_BRIEF_SECONDS = 5e-3
"""A batch that takes less is scored by the thread that brings it: another one would take its turn from it."""


@dataclass
class Predict(beam.PTransform):
    """Predictions of each batch by the scorer of the worker's process. Input: PartBatch of raw rows; output: of scored."""

    spec: ScoringSpec
    lease: Lease | None = None

    def expand(self, batches: beam.PCollection[PartBatch]) -> beam.PCollection[PartBatch]:
        return batches | "Score" >> beam.ParDo(_Score(self.spec, self.lease)).with_output_types(PartBatch)


class _Score(beam.DoFn):
    """Scores batches while the next stage writes those before. Metrics carry the names that Beam's RunInference gives.

    Two are scored at once where this process has the cores: TensorFlow parses and transforms a batch largely on one core.
    They go on in the order in which they came, and the end of a part is written while the next part is read and scored.
    Where batches are brief, as those of tiny shards are, nothing of this pays: then one after the other is scored.
    """

    def __init__(self, spec: ScoringSpec, lease: Lease | None):
        self._spec, self._lease = spec, lease
        self._scorer: RowScorer | None = None
        self._under_way: deque[tuple[PartBatch, Future[tuple[Scored, float]]]] = deque()
        self._brief_rows = 0
        self._load_seconds: list[float] = []
        self._rows_scored = Metrics.counter(NAMESPACE, "rows-scored")
        self._rows_rejected = Metrics.counter(NAMESPACE, "rows-rejected")
        self._inferences = Metrics.counter(NAMESPACE, "num_inferences")
        self._batch_rows = Metrics.distribution(NAMESPACE, "inference_request_batch_size")
        self._batch_bytes = Metrics.distribution(NAMESPACE, "inference_request_batch_byte_size")
        self._latency = Metrics.distribution(NAMESPACE, "inference_batch_latency_micro_secs")
        self._load = Metrics.distribution(NAMESPACE, "load_model_latency_milli_secs")

    def setup(self) -> None:
        keep_freed_memory()
        with self._verdict(), self._lease.kept() if self._lease else nullcontext():
            self._scorer = open_scorer(self._spec, self._load_seconds.append)
        self._at_once = batches_at_once(self._spec.processes, self._scorer.row_wise)
        self._threads = ThreadPoolExecutor(self._at_once)

    def _verdict(self, shard: str | None = None) -> AbstractContextManager[None]:
        return verdict(self._lease, "predict", shard) if self._lease else nullcontext()

    def teardown(self) -> None:
        if self._scorer is not None:  # else setup failed
            self._threads.shutdown()

    def start_bundle(self) -> None:
        self._under_way.clear()

    def process(self, batch: PartBatch) -> Iterator[PartBatch]:
        while self._load_seconds:  # what is counted in setup is lost
            self._load.update(round(self._load_seconds.pop() * 1e3))
        if self._is_brief(batch.rows):
            while self._under_way:
                yield self._first_under_way()
            yield self._scored(batch, partial(self._timed, batch.rows))
            return
        self._under_way.append((batch, self._threads.submit(self._timed, batch.rows)))
        if len(self._under_way) > self._at_once:
            yield self._first_under_way()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._under_way and not (final := self._under_way[-1][0]).last:
            raise CountError(f"{final.part.name}: the last batch did not arrive in the bundle of the others")
        with self._lease.kept() if self._lease else nullcontext():
            while self._under_way:
                yield GlobalWindows.windowed_value(self._first_under_way())

    def _is_brief(self, rows: pa.RecordBatch) -> bool:
        """Whether a batch is likely to be brief, and has to wait for no other one."""
        return rows.num_rows <= self._brief_rows and all(scoring.done() for _, scoring in self._under_way)

    def _timed(self, rows: pa.RecordBatch) -> tuple[Scored, float]:
        assert self._scorer is not None  # setup ran
        start = time.perf_counter()
        return self._scorer.score(rows), time.perf_counter() - start

    def _first_under_way(self) -> PartBatch:
        batch, scoring = self._under_way.popleft()
        return self._scored(batch, scoring.result)

    def _scored(self, batch: PartBatch, score: Callable[[], tuple[Scored, float]]) -> PartBatch:
        with self._verdict(batch.shard):
            scored, seconds = score()
        if batch.rows.num_rows:
            self._inferences.inc(batch.rows.num_rows)
            self._batch_rows.update(batch.rows.num_rows)
            self._batch_bytes.update(batch.rows.nbytes)
            self._latency.update(round(seconds * 1e6))
            if seconds < _BRIEF_SECONDS:
                self._brief_rows = max(self._brief_rows, batch.rows.num_rows)
            elif batch.rows.num_rows <= self._brief_rows:
                self._brief_rows = 0
        self._rows_scored.inc(scored.rows.num_rows)
        self._rows_rejected.inc(len(scored.rejected) + len(batch.rejected))
        progress.current.add(rows=batch.rows.num_rows)
        rows = scored.rows
        rows = with_shard(rows, batch) if self._spec.job.output.row_ids else rows.select(rows.schema.names[:-1])
        rejected = batch.rejected + with_origin(scored.rejected, batch.rows)
        present = {**batch.present, **scored.present}
        return replace(batch, rows=rows, rejected=rejected, present=present, halved=scored.halved)


def with_shard(rows: pa.RecordBatch, batch: PartBatch) -> pa.RecordBatch:
    """Put the column `_shard` before `_row`, the last column. batch: that was scored.

    Rows that have an origin get its shard and number.
    """
    numbers = rows.column(ROW)
    origins = origins_of(numbers, batch.rows)
    if origins is not None:
        shards, numbers = origins.flatten()
    else:
        shards = pa.repeat(pa.scalar(batch.part.pieces[0].shard.path, pa.string()), rows.num_rows)
    others = rows.schema.names[:-1]
    return pa.RecordBatch.from_arrays([*rows.select(others).columns, shards, numbers], [*others, "_shard", ROW])
