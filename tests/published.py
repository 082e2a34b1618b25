"""Outputs made by hand, without a model: plans, parts with their results, and runs that publish them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.commit import abandon, open_folder, roll_forward
from pipeline.lease import Lease, acquire
from pipeline.plan import Plan, part_key, write_plan
from pipeline.publish import Limits, publish
from pipeline.rows import Part, PartBatch, Piece, Rejected, Shard, ShardEnd
from pipeline.write import PartWriter

SCHEMA = pa.schema([pa.field("score", pa.float32()), pa.field("_shard", pa.string()), pa.field("_row", pa.int64())])


def new_plan(run_id: str, shards: int, **more: Any) -> Plan:
    paths = [Shard(f"in/{index}.csv", 10 * index, 86400.5) for index in range(shards)]
    parts = tuple(Part.of_shard(index, part_key([Piece(shard)], run_id), shard) for index, shard in enumerate(paths))
    return Plan(run_id, "2026-11-22", "digits", "2026-11-22T03:00:00.000Z", parts, "csv", SCHEMA, **more)


def write_part(
    output: str,
    plan: Plan,
    index: int,
    scored: int = 3,
    rejected: int = 0,
    state: str = "done",
    present: dict[str, int] | None = None,
) -> None:
    part = plan.parts[index]
    rows = pa.record_batch(
        [
            pa.array([row / 2 for row in range(scored)], pa.float32()),
            pa.array([part.name] * scored, pa.string()),
            pa.array(range(scored), pa.int64()),
        ],
        schema=SCHEMA,
    )
    bad = tuple(Rejected(scored + row, "read", "x: missing", b"record") for row in range(rejected))
    end = ShardEnd(scored + rejected, state, "" if state == "done" else "the gzip stream ends early")
    batch = PartBatch(part, 0, rows, bad, (end,), present or {})
    PartWriter(output, part, SCHEMA, "csv", "a1", plan.run_id).write(batch)


def take(output: str, run_id: str) -> Lease:
    """The lock of an output, taken as a launch takes it."""
    lease = acquire(output, run_id)
    roll_forward(lease)
    open_folder(lease)
    return lease


def publish_plan(output: str, plan: Plan, limits: Limits | None = None) -> dict[str, Any]:
    """Publish the parts that were written for a plan; the run has the lock, or takes it."""
    lease = take(output, plan.run_id)
    try:
        return publish(lease, plan, limits or Limits())
    finally:
        abandon(lease)


def run(output: str, run_id: str, shards: int, limits: Limits | None = None, **more: Any) -> dict[str, Any]:
    """A run of `shards` parts, from plan to `_SUCCESS`."""
    lease = take(output, run_id)
    plan = new_plan(run_id, shards)
    try:
        write_plan(output, plan)
        for index in range(shards):
            write_part(output, plan, index, **more)
        return publish(lease, plan, limits or Limits(max_bad_rows=1.0))
    finally:
        abandon(lease)


def listing(output: str) -> list[str]:
    return [info.path[len(output) + 1 :] for info in files.match(files.join(output, "**"))]


def table(output: str, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(files.read_bytes(files.join(output, name))))
