"""Each stage alone in a pipeline, then all of them: what flows, what is counted, and what a retry does."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from apache_beam.metrics import MetricsFilter
from apache_beam.testing.util import assert_that, equal_to, is_empty
from published import take

from pipeline import ReadPlan, ReadShards, WriteParts, files
from pipeline.errors import VerdictError
from pipeline.failure import Failure, read_verdict, write_verdict
from pipeline.features import Feature
from pipeline.job import Batch, Input
from pipeline.lease import Lease
from pipeline.plan import Plan, write_plan
from pipeline.publish import Limits
from pipeline.results import find_result
from pipeline.rows import ROW, Columns, Part, PartBatch, Rejected, Shard, ShardEnd
from pipeline.stages.input import _ReadShard
from pipeline.stages.output import _publish
from pipeline.write import PartWriter

SCHEMA = pa.schema([pa.field("score", pa.float32()), pa.field(ROW, pa.int64())])


def a_part(index: int = 0, path: str = "in/shard.csv") -> Part:
    """A part as it is planned; of a file that is not there, as it was."""
    found = files.match(path)
    return Part.of_shard(index, f"key{index}", Shard(*found[0]) if found else Shard(path, 10, 1.5))


def in_order(batches: Sequence[PartBatch]) -> beam.PTransform:
    """The batches, one after the other in one bundle, as a stage before gives them."""
    return beam.Create([list(batches)]) | beam.FlatMap(lambda some: some).with_output_types(PartBatch)


def fails(transform: Callable[[beam.Pipeline], Any], message: str) -> None:
    """Run a pipeline that fails with this error. The runner puts the error of a stage into the text of its own."""
    p = beam.Pipeline("FnApiRunner")
    transform(p)
    with pytest.raises(Exception, match=re.escape(message)):
        p.run()


def counters(result: Any) -> dict[str, int]:
    metrics = result.metrics().query(MetricsFilter().with_namespace("estimator"))["counters"]
    return {metric.key.metric.name: metric.committed for metric in metrics}


# The plan


def a_plan(parts: int, run_id: str = "run1") -> Plan:
    return Plan(run_id, None, "stages", "2026-11-22T03:00:00Z", tuple(map(a_part, range(parts))), "csv", SCHEMA)


def write_part(output: str, part: Part, run_id: str = "run1", attempt: str = "a1", state: str = "done") -> None:
    rows = pa.record_batch([pa.array([0.5], pa.float32()), pa.array([0], pa.int64())], schema=SCHEMA)
    PartWriter(output, part, SCHEMA, "csv", attempt, run_id).write(PartBatch(part, 0, rows, last=(ShardEnd(1, state),)))


def test_read_plan_gives_the_parts_that_have_no_result(tmp_path: Path) -> None:
    plan = a_plan(4)
    write_plan(str(tmp_path), plan)
    write_part(str(tmp_path), plan.parts[1])
    write_part(str(tmp_path), plan.parts[2], state="tail_lost")  # it has to be read again: its shard may be mended
    lease = take(str(tmp_path), "run1")
    with beam.Pipeline("FnApiRunner") as p:
        assert_that(p | ReadPlan(lease), equal_to([plan.parts[0], plan.parts[2], plan.parts[3]]))


def test_read_plan_of_a_run_that_is_done(tmp_path: Path) -> None:
    plan = a_plan(1)
    write_plan(str(tmp_path), plan)
    write_part(str(tmp_path), plan.parts[0])
    lease = take(str(tmp_path), "run1")
    with beam.Pipeline("FnApiRunner") as p:
        assert_that(p | ReadPlan(lease), is_empty())


def test_a_verdict_that_is_there_is_raised_at_once(tmp_path: Path) -> None:
    output = str(tmp_path)
    lease = take(output, "run1")
    write_plan(output, a_plan(1))
    failure = Failure("run1", 6, "the checkpoint is of another model", "predict", "in/shard.csv")
    write_verdict(output, failure)
    fails(lambda p: p | ReadPlan(lease), "the checkpoint is of another model")
    assert read_verdict(output, "run1") == failure


def test_a_verdict_on_another_run_is_none_on_this_one(tmp_path: Path) -> None:
    write_verdict(str(tmp_path), Failure("run0", 4, "too many bad rows"))
    assert read_verdict(str(tmp_path), "run1") is None


def test_a_plan_is_not_read_by_a_run_that_lost_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.lease._is_gone", lambda holder: True)
    lost = take(str(tmp_path), "run1")
    take(str(tmp_path), "run2")
    write_plan(str(tmp_path), a_plan(1, "run2"))
    fails(lambda p: p | ReadPlan(lost), "run run1 no longer has the lock, run run2 has it")
    assert read_verdict(str(tmp_path), "run2") is None


# Shards

COLUMNS = Columns({"x": Feature("x", "float32")})
CSV = Input(pattern=["in/*.csv"], format="csv")


def test_read_shards_gives_rows_in_order_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "shard.csv"
    path.write_text("x\n" + "".join(f"{row}.5\n" for row in range(5)) + "text\n6.5\n")
    part = a_part(path=str(path))

    def check(batches: list[PartBatch]) -> None:
        assert [batch.part for batch in batches] == [part] * 4
        assert [batch.sequence for batch in batches] == [0, 1, 2, 3]
        rows = [row for batch in batches[:-1] for row in batch.rows.select([ROW, "feature:x"]).to_pylist()]
        assert rows == [{ROW: row, "feature:x": row + 0.5} for row in (0, 1, 2, 3, 4, 6)]
        rejected = Rejected(5, "read", "feature 'x': expected float32, found text that is not a number", b"x\ntext")
        assert [batch.rejected for batch in batches] == [(), (rejected,), (), ()]
        assert [batch.present for batch in batches] == [{"x": 3}, {"x": 3}, {"x": 1}, {}]
        assert [batch.last for batch in batches] == [(), (), (), (ShardEnd(7),)]

    with beam.Pipeline("FnApiRunner") as p:
        assert_that(p | beam.Create([part]) | ReadShards(CSV, COLUMNS, Batch(rows=3)), check)


@pytest.mark.parametrize(
    ("content", "rows", "state", "reason"),
    [
        ('x\n0.5\n1.5\n2.5\n"3.5', 3, "tail_lost", "row 3: the file ends inside a quoted field"),
        ("y\n0.5\n", 0, "unreadable", "'x'"),
        (None, 0, "unreadable", "the file went away after the run was planned"),
    ],
    ids=["lost tail", "lost column", "lost file"],
)
def test_read_shards_of_a_broken_shard(content: str | None, rows: int, state: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "shard.csv"
    if content is not None:
        path.write_text(content)

    def check(batches: list[PartBatch]) -> None:
        assert [row for batch in batches[:-1] for row in batch.rows.column(ROW).to_pylist()] == list(range(rows))
        (end,) = batches[-1].last
        assert not any(batch.last for batch in batches[:-1])
        assert (end.read, end.state) == (rows, state)
        assert reason in end.reason

    p = beam.Pipeline("FnApiRunner")
    assert_that(p | beam.Create([a_part(path=str(path))]) | ReadShards(CSV, COLUMNS, Batch(rows=2)), check)
    result = p.run()
    assert counters(result)["shards-broken"] == 1
    assert counters(result).get("rows-read", 0) == rows


def test_the_next_part_is_read_while_a_part_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{index}.csv" for index in range(3)]
    for path in paths:
        path.write_text("x\n0.5\n1.5\n")
    parts = [a_part(index, str(path)) for index, path in enumerate(paths)]
    opened: dict[str, threading.Event] = {part.name: threading.Event() for part in parts}
    open_read = files.open_read

    def noted(path: str) -> BinaryIO:
        opened[path].set()
        return open_read(path)

    monkeypatch.setattr("pipeline.files.open_read", noted)
    monkeypatch.setattr("pipeline.stages.input._TINY_BYTES", 1)
    reading = _ReadShard(ReadShards(CSV, COLUMNS, Batch(rows=2)))
    reading.setup()
    reading.start_bundle()
    assert list(reading.process(parts[0])) == []
    given = reading.process(parts[1])
    assert next(given).part == parts[0]
    assert opened[parts[1].name].wait(10)
    assert not opened[parts[2].name].is_set()
    assert [(batch.part, len(batch.last)) for batch in given] == [(parts[0], 1)]
    assert {batch.part for batch in reading.process(parts[2])} == {parts[1]}
    last = [windowed.value for windowed in reading.finish_bundle()]
    assert [(batch.part, batch.rows.num_rows, len(batch.last)) for batch in last] == [
        (parts[2], 2, 0),
        (parts[2], 0, 1),
    ]
    reading.teardown()


def test_a_tiny_part_is_read_by_the_thread_that_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.csv").write_text("x\n1\n2\n")
    part, readers, open_read = a_part(0, str(tmp_path / "0.csv")), set(), files.open_read
    monkeypatch.setattr("pipeline.files.open_read", lambda path: readers.add(threading.get_ident()) or open_read(path))
    reading = _ReadShard(ReadShards(CSV, COLUMNS))
    reading.setup()
    for bytes_of_tiny, is_here in ((part.pieces[0].shard.bytes + 1, True), (part.pieces[0].shard.bytes, False)):
        monkeypatch.setattr("pipeline.stages.input._TINY_BYTES", bytes_of_tiny)
        readers.clear()
        reading.start_bundle()
        assert list(reading.process(part)) == []
        given = [windowed.value for windowed in reading.finish_bundle()]
        assert [(batch.rows.num_rows, len(batch.last)) for batch in given] == [(2, 0), (0, 1)]
        assert (readers == {threading.get_ident()}) == is_here
    reading.teardown()


def test_what_was_read_ahead_for_a_bundle_that_failed_is_forgotten(tmp_path: Path) -> None:
    parts = [a_part(index, str(tmp_path / f"{index}.csv")) for index in range(2)]
    reading = _ReadShard(ReadShards(CSV, COLUMNS, Batch(rows=2)))
    reading.setup()
    for part in parts:
        reading.start_bundle()
        assert list(reading.process(part)) == []
    assert {windowed.value.part for windowed in reading.finish_bundle()} == {parts[1]}
    reading.teardown()


# Publishing


def test_publish_that_is_retried_is_harmless(tmp_path: Path) -> None:
    output, plan = str(tmp_path), a_plan(2)
    lease = take(output, "run1")
    write_plan(output, plan)
    for part in plan.parts:
        write_part(output, part)
    found = []
    for _ in range(2):
        assert _publish(2, lease, Limits()) == 2
        found.append({path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert found[0] == found[1]
    assert sorted(found[0]) == [
        "_SUCCESS",
        "_manifest.json",
        "part-00000-of-00002.parquet",
        "part-00001-of-00002.parquet",
    ]


def test_publish_that_is_retried_after_success_leaves_nothing_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, plan = str(tmp_path), a_plan(1)
    lease = take(output, "run1")
    write_plan(output, plan)
    write_part(output, plan.parts[0])

    def killed(_: Lease) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.publish.clean", killed)
        with pytest.raises(MemoryError):
            _publish(1, lease, Limits())
    assert (tmp_path / "_SUCCESS").exists()
    _publish(1, lease, Limits())
    assert not (tmp_path / "_temporary").exists()


def test_publish_raises_the_verdict_that_is_there(tmp_path: Path) -> None:
    output, plan = str(tmp_path), a_plan(1)
    lease = take(output, "run1")
    write_plan(output, plan)
    write_part(output, plan.parts[0])
    write_verdict(output, Failure("run1", 4, "too many bad rows"))
    with pytest.raises(VerdictError, match="too many bad rows") as raised:
        _publish(1, lease, Limits())
    assert raised.value.exit_code == 4
    assert not (tmp_path / "_SUCCESS").exists()


# Writing


def scored(part: Part, sequence: int, numbers: Sequence[int], last: ShardEnd | None = None) -> PartBatch:
    arrays = [pa.array([number / 2 for number in numbers], pa.float32()), pa.array(numbers, pa.int64())]
    return PartBatch(part, sequence, pa.record_batch(arrays, schema=SCHEMA), last=(last,) if last else ())


def test_write_parts(tmp_path: Path) -> None:
    parts = [a_part(0, "in/a.csv"), a_part(1, "in/b.csv")]
    batches = [scored(parts[0], 0, [0, 1]), scored(parts[0], 1, [2], ShardEnd(3)), scored(parts[1], 0, [], ShardEnd(0))]
    with beam.Pipeline("FnApiRunner") as p:
        assert_that(p | in_order(batches) | WriteParts(take(str(tmp_path), "run1"), SCHEMA, "csv"), equal_to([0, 1]))
    results = [find_result(str(tmp_path), part) for part in parts]
    assert [(result.read, result.scored) for result in results if result] == [(3, 3), (0, 0)]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([scored(a_part(), 0, [0]), scored(a_part(), 2, [2], ShardEnd(2))], "expected batch 1, got batch 2"),
        ([scored(a_part(), 1, [0], ShardEnd(1))], "expected batch 0, got batch 1"),
        ([scored(a_part(), 0, [0], ShardEnd(2))], "2 rows were read, but 1 scored and 0 rejected"),
        ([scored(a_part(), 0, [0]), scored(a_part(1), 1, [0], ShardEnd(1))], "got a batch of part 1 (in/shard.csv)"),
        ([scored(a_part(), 0, [0])], "ended after 1 batches, and the last one never came"),
    ],
    ids=["gap", "lost beginning", "lost row", "other part", "lost end"],
)
def test_write_parts_refuses_a_part_that_is_not_whole(batches: list[PartBatch], message: str, tmp_path: Path) -> None:
    output = str(tmp_path)
    message = f"part 0 (in/shard.csv): {message}"
    lease = take(output, "run1")
    fails(lambda p: p | in_order(batches) | WriteParts(lease, SCHEMA, "csv"), message)
    found = read_verdict(output, "run1")
    assert found is not None
    assert (found.exit_code, found.error, found.stage) == (5, message, "write")
    assert find_result(output, a_part()) is None
    assert list(tmp_path.rglob("*.parquet")) == []


def test_the_size_of_a_batch_is_told_without_pickling_it(monkeypatch):
    """Beam asks for it, to sample it for its metrics."""
    rows = pa.record_batch({"_row": pa.array(range(1000))})
    batch = PartBatch(a_part(0), 0, rows)
    coder = registry.get_coder(PartBatch)
    assert coder.decode(coder.encode(batch)) == batch
    monkeypatch.setattr("pickle.dumps", lambda *_: pytest.fail("pickled"))
    assert coder.get_impl().estimate_size(batch) == rows.nbytes
