"""From a plan to batches of raw rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipeline import files, progress
from pipeline.ahead import one_ahead
from pipeline.batch import Regrouper
from pipeline.commit import plan_under_way, published_run
from pipeline.errors import BrokenShard, CountError
from pipeline.failure import raise_verdict, verdict
from pipeline.job import Batch, Input
from pipeline.lease import Lease
from pipeline.plan import STARTED, temporary
from pipeline.read import as_planned, first_rows, joined, read_input
from pipeline.results import find_result
from pipeline.rows import Chunk, Columns, Part, PartBatch, Piece, ShardEnd
from pipeline.versions import installed_versions, refuse_other_versions

NAMESPACE = "estimator"
"""Of the metrics."""
_TINY_BYTES = 1 << 20
"""A shard that is stored in less is read before another thread would have begun."""


@dataclass
class ReadPlan(beam.PTransform):
    """The parts of a plan that have no result yet, spread over the workers. Output: Part.

    versions: of the launcher, where workers may have others; None: they are this process, or started by it.
    """

    lease: Lease
    versions: Mapping[str, str] | None = None

    def expand(self, root: beam.Pipeline) -> beam.PCollection[Part]:
        if self.versions is None:
            lease = root | "Lease" >> beam.Create([self.lease])
        else:
            lease = root | "Versions" >> _SameVersions(self.lease, self.versions)
        return (
            lease
            | "Parts" >> beam.FlatMap(_parts)
            | "Spread" >> beam.Reshuffle()
            | "Unfinished" >> beam.Filter(_is_unfinished, self.lease).with_output_types(Part)
        )


@dataclass
class _SameVersions(beam.PTransform):
    """Refuse workers with other versions, before anything runs there that Beam pickles as the code of one Python version.

    Nothing here is, so any Python can read it, and the grouping keeps all that follows in a stage of its own.
    """

    lease: Lease
    versions: Mapping[str, str]

    def expand(self, root: beam.Pipeline) -> beam.PCollection[Lease]:
        return (
            root
            | "Start" >> beam.Impulse()
            | "Compare" >> beam.ParDo(_Compare(self.lease, self.versions)).with_output_types(tuple[bytes, bytes])
            | "Then" >> beam.GroupByKey()
            | "Lease" >> beam.ParDo(_Always(self.lease)).with_output_types(Lease)
        )


class _Compare(beam.DoFn):
    def __init__(self, lease: Lease, versions: Mapping[str, str]):
        self._lease, self._versions = lease, dict(versions)

    def process(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        lease = self._lease
        if published_run(lease.output) != lease.run_id:  # else a retry: `_temporary` is gone
            with verdict(lease, "launch"):
                lease.check()
                refuse_other_versions(self._versions, installed_versions())
                files.write_bytes(temporary(lease.output, STARTED), lease.run_id.encode())
        yield b"", b""


class _Always(beam.DoFn):
    def __init__(self, lease: Lease):
        self._lease = lease

    def process(self, start: tuple[bytes, Iterable[bytes]]) -> Iterator[Lease]:
        yield self._lease


def _parts(lease: Lease) -> Iterable[Part]:
    plan = plan_under_way(lease)
    return plan.parts if plan else ()


def _is_unfinished(part: Part, lease: Lease) -> bool:
    lease.check()
    raise_verdict(lease)
    if find_result(lease.output, part) is None:
        return True
    progress.current.add(parts=1)
    return False


@dataclass
class ReadShards(beam.PTransform):
    """Rows of each part, in order. Input: Part. Output: PartBatch of raw rows.

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
    """Reads ahead: the next rows of a part, and the first ones of the next part, while those before them are scored.

    So a part is given when the next one comes, and the last one where the bundle ends. Tiny shards, a part of many of them
    included, are not read ahead: to hand them from thread to thread would take longer than to read them.
    """

    def __init__(self, stage: ReadShards):
        self._stage = stage
        self._ahead: tuple[Part, Iterator[PartBatch]] | None = None
        self._rows_read = Metrics.counter(NAMESPACE, "rows-read")
        self._shards_broken = Metrics.counter(NAMESPACE, "shards-broken")

    def setup(self) -> None:
        self._reader = ThreadPoolExecutor(1)  # two would contend for the interpreter and the memory: 5 % more work

    def teardown(self) -> None:
        self._reader.shutdown()

    def start_bundle(self) -> None:
        self._ahead = None

    def process(self, part: Part) -> Iterator[PartBatch]:
        with self._kept():
            batches: Iterator[PartBatch] = self._read(part)
            if any(piece.shard.bytes >= _TINY_BYTES for piece in part.pieces):
                batches = one_ahead(batches, self._reader)
            ready, self._ahead = self._ahead, (part, batches)
            if ready is not None:
                yield from self._given(*ready)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._ahead is not None:
            with self._kept():
                yield from map(GlobalWindows.windowed_value, self._given(*self._ahead))

    def _kept(self) -> AbstractContextManager[None]:
        lease = self._stage.lease
        return lease.kept() if lease else nullcontext()

    def _given(self, part: Part, batches: Iterator[PartBatch]) -> Iterator[PartBatch]:
        """The batches of a part; metrics belong to the thread that Beam calls."""
        for piece in part.pieces:
            FileSystems.report_source_lineage(piece.shard.path)
        for batch in batches:
            self._rows_read.inc(batch.rows.num_rows + len(batch.rejected))
            if broken := sum(end.state != "done" for end in batch.last):
                self._shards_broken.inc(broken)
            yield batch

    def _read(self, part: Part) -> Iterator[PartBatch]:
        ends: list[ShardEnd] = []
        before = sequence = 0
        for piece in part.pieces:
            read, state, reason = 0, "done", ""
            try:
                with closing(self._chunks(piece)) as chunks:
                    for chunk in chunks:
                        some = joined(chunk, piece, before) if len(part.pieces) > 1 else chunk
                        yield PartBatch(part, sequence, some.rows, some.rejected, present=some.present)
                        sequence += 1
                        read += chunk.read
            except BrokenShard as error:
                state, reason = "tail_lost" if read else "unreadable", str(error)
            ends.append(ShardEnd(read, state, reason))
            before += read
        yield PartBatch(part, sequence, pa.record_batch([], []), last=tuple(ends))

    def _chunks(self, piece: Piece) -> Generator[Chunk, None, None]:
        stage = self._stage
        path = piece.shard.path
        chunks = read_input(path, stage.input, stage.columns, stage.batch, stage.keep_record, piece.row_groups)
        if stage.limit_rows is not None:
            chunks = first_rows(chunks, stage.limit_rows, piece.first_row)
        return as_planned(piece.shard, chunks)


@dataclass
class BatchRows(beam.PTransform):
    """Batches of exactly `batch.rows` rows, or fewer where `batch.bytes` says so or a part ends. Input, output: PartBatch."""

    batch: Batch = field(default_factory=Batch)

    def expand(self, batches: beam.PCollection[PartBatch]) -> beam.PCollection[PartBatch]:
        return batches | "Regroup" >> beam.ParDo(_Regroup(self.batch.rows, self.batch.bytes)).with_output_types(
            PartBatch
        )


class _Regroup(beam.DoFn):
    """Holds the rows of one part that do not fill a batch yet.

    Rows of shards with other columns, or another header, are not put into one batch.
    """

    def __init__(self, rows: int, max_bytes: int):
        self._rows, self._max_bytes = rows, max_bytes
        self._part: Part | None = None

    def start_bundle(self) -> None:
        self._part = None

    def process(self, batch: PartBatch) -> Iterator[PartBatch]:
        if batch.part != self._part:
            if self._part is not None:
                raise CountError(f"{self._part.name}: the last batch did not come before those of the next part")
            self._part, self._sequence, self._schema = batch.part, 0, batch.rows.schema
            self._regrouper = Regrouper(self._rows, self._max_bytes)
        full: list[pa.RecordBatch] = []
        if batch.rows.num_rows:
            if not batch.rows.schema.equals(self._schema, check_metadata=True):
                full, self._schema = self._regrouper.finish(), batch.rows.schema
            full = [*full, *self._regrouper.add(batch.rows)]
        if batch.last:
            full = [*full, *self._regrouper.finish()]
        rejected, present = batch.rejected, batch.present
        if not full and (rejected or present or batch.last):
            full = [pa.record_batch([], [])]
        for number, rows in enumerate(full, 1):
            last = batch.last if number == len(full) else ()
            yield PartBatch(batch.part, self._sequence, rows, rejected, last, present)
            self._sequence += 1
            rejected, present = (), {}
        if batch.last:
            self._part = None

    def finish_bundle(self) -> None:
        if self._part is not None:
            raise CountError(f"{self._part.name}: the last batch did not arrive in the bundle of the others")
