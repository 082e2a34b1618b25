"""What the steps of a run cost: measured on one machine, counted in the code, or assumed of an object store."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU time (user and system) unless a name says otherwise, of one workload in one format.

    start: of a command to its first row, launch and checks counted. start_clock: the same by the clock.
    row, batch, part, shard: of the process that scores, each one more; a part alone with its shard costs both.
    worker_start: of one more process to its first row. connect: how much of that comes before any process gets its parts.
    cores: as many as a process keeps busy while it scores, where it has them.
    launch_shard: of the launcher, which is one process. publish_part: of the publishing process, on a disk.
    path: bytes of a shard's path. shard_row, output_row: bytes of a row in a shard and in the output.
    """

    start: float = 4.6
    start_clock: float = 5.0
    row: float = 4.1e-6
    batch: float = 2.2e-3
    part: float = 1.9e-3
    shard: float = 0.34e-3
    worker_start: float = 3.8
    connect: float = 1.5
    cores: float = 1.1
    launch_shard: float = 19e-6
    publish_part: float = 0.33e-3
    path: int = 58
    shard_row: int = 451
    output_row: int = 11


@dataclass(frozen=True)
class Medium:
    """Where shards and output lie, and what has to be asked of it.

    request: seconds by the clock until it has answered.
    worker_part, worker_shard: requests, one after another, for a part (lease, verdict, result; then file, size, footer and
    result) and for each shard in it (its state before and after, and its first bytes).
    publish_part: requests for a part: result and size read, lease asked for, copied, deleted, result deleted.
    look: requests of a look at the lease. retire: requests for each file of an older output, one after another.
    copied: bytes a second of one copy; None where no bytes are moved. threads: that publish.
    listed: objects in the answer to one request.
    """

    name: str
    request: float = 0.0
    worker_part: int = 0
    worker_shard: int = 0
    publish_part: int = 0
    look: int = 0
    retire: int = 0
    copied: float | None = None
    threads: int = 8
    listed: int = 1000


DISK = Medium("disk")
GS = Medium("gs", request=0.05, worker_part=13, worker_shard=4, publish_part=9, look=3, retire=4)
S3 = replace(GS, name="s3", copied=250e6)
MEDIA = {medium.name: medium for medium in (DISK, GS, S3)}
"""Requests are counted in the code. What one takes, and how fast S3 copies, is assumed: no store was at hand. gs copies
within one location without moving bytes."""


def plan_bytes(parts: int, shards: int, path: int) -> int:
    """Size of plan.json, but for what depends on the job alone. shards: pieces of parts."""
    return 84 * parts + (129 + path) * shards


def manifest_bytes(parts: int, shards: int, path: int) -> int:
    """Size of _manifest.json, but for what depends on the job alone. shards: input files."""
    return 173 * parts + (198 + path) * shards


def result_bytes(parts: int, shards: int, path: int) -> int:
    """Size of all result.json, for 18 features. shards: pieces of parts."""
    return 807 * parts + (156 + path) * shards
