"""Bundles that a runner gives out twice: one after the other, or to two workers at once, of which both come to the end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import bad_inputs
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from bad_inputs import Bench, example, make_rows, tfrecord
from published import SCHEMA, listing, new_plan, publish_plan, table, take, write_part

import pipeline.commit
import pipeline.run
from pipeline.commit import abandon, plan_under_way, published_run
from pipeline.errors import LeaseLost
from pipeline.lease import Lease
from pipeline.manifest import read_manifest
from pipeline.plan import Plan, write_plan
from pipeline.publish import Limits, publish
from pipeline.results import read_result
from pipeline.rows import PartBatch, ShardEnd
from pipeline.stages.output import WriteParts, _publish, _WritePart

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

PUBLISHED = ["_SUCCESS", "_manifest.json", "part-00000-of-00002.parquet", "part-00001-of-00002.parquet"]
RUNS_TOGETHER = 12


def batches(plan: Plan, index: int, count: int = 3) -> list[PartBatch]:
    """The scored batches of a part, two rows each."""
    part = plan.parts[index]
    found = []
    for sequence in range(count):
        rows = [2 * sequence, 2 * sequence + 1]
        columns = [pa.array([row / 2 for row in rows], pa.float32()), pa.array([part.name] * 2), pa.array(rows)]
        last = (ShardEnd(2 * count),) if sequence == count - 1 else ()
        found.append(PartBatch(part, sequence, pa.record_batch(columns, schema=SCHEMA), last=last))
    return found


def a_worker(lease: Lease) -> _WritePart:
    worker = _WritePart(WriteParts(lease, SCHEMA, "csv"))
    worker.start_bundle()
    return worker


def check_published(output: str, rows: list[int]) -> None:
    assert listing(output) == PUBLISHED
    assert [table(output, name).num_rows for name in PUBLISHED[2:]] == rows
    manifest = read_manifest(output)
    assert manifest is not None
    assert [file["rows"] for file in manifest["files"]] == rows
    assert published_run(output) == manifest["run_id"]


@pytest.mark.fault("bundle-retried")
def test_a_part_that_is_written_twice(tmp_path: Path) -> None:
    """By two workers in turns, batch for batch; then by a third one, after the part was done."""
    output, plan = str(tmp_path / "out"), new_plan("r1", 2)
    lease = take(output, "r1")
    write_plan(output, plan)
    workers = [a_worker(lease) for _ in range(2)]
    given = [[index for worker in workers for index in worker.process(batch)] for batch in batches(plan, 0)]
    assert given == [[], [], [0, 0]]
    third = a_worker(lease)
    assert [index for batch in batches(plan, 0) for index in third.process(batch)] == [0]
    write_part(output, plan, 1, scored=5)
    abandon(lease)

    publish_plan(output, plan)

    check_published(output, [6, 5])
    assert table(output, PUBLISHED[2]).column("_row").to_pylist() == list(range(6))


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results of calls that threads begin at one moment; an error is a result as well."""
    start = threading.Barrier(len(calls))

    def call(each: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return each()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


@pytest.mark.fault("bundle-retried")
def test_a_part_that_two_workers_finish_at_once(tmp_path: Path) -> None:
    for number in range(RUNS_TOGETHER):
        output, plan = str(tmp_path / f"out{number}"), new_plan("r1", 2)
        lease = take(output, "r1")
        write_plan(output, plan)
        workers = [a_worker(lease) for _ in range(4)]
        for worker in workers:
            for batch in batches(plan, 0)[:-1]:
                assert list(worker.process(batch)) == []
        last = batches(plan, 0)[-1]
        assert at_once([partial(list, worker.process(last)) for worker in workers]) == [[0]] * 4
        result = read_result(output, plan.parts[0])
        assert result is not None
        assert result.scored == 6
        write_part(output, plan, 1, scored=5)
        publish(lease, plan, Limits())
        abandon(lease)
        check_published(output, [6, 5])


@pytest.mark.fault("bundle-retried")
def test_a_plan_that_goes_while_a_late_worker_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker publishes after the late one has seen that nobody had, and before it reads the plan."""
    output, plan = str(tmp_path / "out"), new_plan("r1", 2)
    lease = take(output, "r1")
    with pytest.raises(FileNotFoundError):  # nobody has published: a plan that is lost is an error
        plan_under_way(lease)
    write_plan(output, plan)
    assert plan_under_way(lease) == plan
    write_part(output, plan, 0, scored=6)
    write_part(output, plan, 1, scored=5)
    read_plan = pipeline.commit.read_plan

    def published_meanwhile(where: str) -> Plan:
        _publish(2, lease, Limits())
        return read_plan(where)

    monkeypatch.setattr(pipeline.commit, "read_plan", published_meanwhile)
    assert plan_under_way(lease) is None
    check_published(output, [6, 5])


PUBLISH = """
import sys
from pipeline.lease import Lease
from pipeline.publish import Limits
from pipeline.stages.output import _publish
print("ready", flush=True)
for line in sys.stdin:
    output, number = line.rstrip("\\n").rsplit(" ", 1)
    try:
        print("published", _publish(2, Lease(output, "r1", int(number)), Limits()), flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
"""


@pytest.mark.fault("bundle-retried")
def test_a_publish_step_that_two_processes_do_at_once(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PUBLISH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [[process.stdout.readline() for process in processes if process.stdout]]
    assert said == [["ready\n"] * 2]
    for number in range(RUNS_TOGETHER):
        output, plan = str(tmp_path / f"out{number}"), new_plan("r1", 2)
        lease = take(output, "r1")
        write_plan(output, plan)
        write_part(output, plan, 0, scored=6)
        write_part(output, plan, 1, scored=5)
        for process in processes:
            assert process.stdin is not None
            print(output, lease.number, file=process.stdin, flush=True)
        answers = [process.stdout.readline() for process in processes if process.stdout]
        assert answers == ["published 2\n"] * 2
        check_published(output, [6, 5])
        # Nobody waits for a bundle whose twin was done; if it is given out once more, it finds the work done
        assert _publish(2, lease, Limits()) == 2
        check_published(output, [6, 5])
    for process in processes:
        process.communicate("")
        assert process.returncode == 0


def has_come_too_late(error: Exception) -> bool:
    """The other worker has published, and the lock is gone; a retry finds that all is done."""
    return isinstance(error, LeaseLost) or "LeaseLost" in str(error)


@pytest.mark.fault("bundle-retried")
def test_a_run_of_which_every_bundle_is_done_by_two_workers_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(12)
    for name, start in (("a", 0), ("b", 4), ("c", 8)):
        bench.shard(tfrecord([example(row) for row in rows[start : start + 4]]), name)
    run_pipeline, ends = pipeline.run.run_pipeline, []

    def twice(run: Any, options: PipelineOptions) -> None:
        # Each has its own options: Beam takes the runner out of them for a moment while it builds a pipeline
        ends.extend(at_once([partial(run_pipeline, run, deepcopy(options)) for _ in range(2)]))

    monkeypatch.setattr(pipeline.run, "run_pipeline", twice)
    outcome = bench.score()

    assert outcome.code == 0, outcome.error
    assert {} in ends
    assert all(end == {} or has_come_too_late(end) for end in ends), ends
    assert outcome.rows == (12, 12, 0)
    assert outcome.scored == bench.expected(rows)
    assert listing(str(bench.output)) == [
        "_SUCCESS", "_manifest.json", *(f"part-0000{part}-of-00003.parquet" for part in range(3)),
    ]  # fmt: skip
