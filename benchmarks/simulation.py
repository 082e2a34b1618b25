"""A run, simulated: shards become parts, parts are dealt to processes, processes start, score and are lost, one publishes.

Rows are not simulated: a part is one event. What steps cost comes from `benchmarks.costs`. A run of the same numbers and
the same seed is the same run.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import lock_traffic
from benchmarks.costs import (
    DISK,
    Costs,
    Medium,
    manifest_bytes,
    plan_bytes,
    result_bytes,
)

MOST_SHARDS = 2_000_000
"""Of a run that is simulated; a plan of more is no plan that anybody should make."""


@dataclass(frozen=True)
class Cluster:
    """The processes that score, and how parts get to them.

    workers: processes in all. cores: of one machine. processes: of one machine, where there are several.
    dealing: `shares`: in process, on one machine; each process has every n-th part from the start, and the first of them
    is the launcher itself. `greedy`: on machines; who is free takes the next part.
    machines_up: seconds by the clock until the machines are there.
    uneven: standard deviation of the logarithm of a process's pace; of machines alone.
    losses: of a process in an hour; what it had under way is scored again.
    """

    workers: int = 1
    processes: int = 1
    cores: float = 2
    dealing: str = "shares"
    machines_up: float = 0.0
    uneven: float = 0.0
    losses: float = 0.0

    def cores_of_one(self, most: float) -> float:
        """Cores that a process has where all of its machine are busy."""
        here = self.workers if self.dealing == "shares" else min(self.processes, self.workers)
        return min(most, self.cores / here)


@dataclass(frozen=True)
class Workload:
    """What is scored.

    skew: standard deviation of the logarithm of the rows of a shard; 0: all alike.
    rows_per_file, split_rows: `output.rows_per_file`, and `input.split_bytes` in rows.
    older_files: of an output that is replaced and has other names.
    """

    rows: int
    shards: int
    skew: float = 0.0
    batch_rows: int = 4096
    rows_per_file: int | None = None
    split_rows: int | None = None
    older_files: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Parts:
    """rows, shards: of each part; a piece of a shard counts as one."""

    rows: np.ndarray
    shards: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """A simulated run. Seconds by the clock for `launch`, `scoring` (starts counted) and `publish`.

    cpu: CPU seconds of all processes. busy: share of the time of scoring that a process works, on average.
    lost: attempts at parts that were lost. plan, manifest, results: bytes. lock_requests: a second, at most.
    """

    parts: int
    pieces: int
    launch: float
    scoring: float
    publish: float
    cpu: float
    busy: float
    lost: int
    plan: int
    manifest: int
    results: int
    lock_requests: float

    @property
    def wall(self) -> float:
        return self.launch + self.scoring + self.publish

    @property
    def bottleneck(self) -> str:
        """The step that takes longest; the first of equals."""
        return max(("scoring", "publish", "launch"), key=lambda step: getattr(self, step))


def simulate(workload: Workload, cluster: Cluster, costs: Costs, medium: Medium = DISK) -> Outcome:
    """Simulate a run.

    Raises:
      ValueError: more shards than `MOST_SHARDS`, or losses where parts have fixed shares: that run fails.
    """
    if cluster.losses and cluster.dealing == "shares":
        raise ValueError("a process with a share of its own that is lost ends the run: losses are for greedy dealing")
    random = np.random.default_rng(workload.seed)
    parts = make_parts(workload, random)
    count, pieces = len(parts.rows), int(parts.shards.sum())
    if cluster.dealing == "shares":
        cluster = replace(cluster, workers=min(cluster.workers, count))  # more are not started
    batches = -(-parts.rows // workload.batch_rows)
    cpu = parts.rows * costs.row + batches * costs.batch + costs.part + parts.shards * costs.shard
    mine = cluster.cores_of_one(costs.cores)
    waiting = medium.request * (medium.worker_part + parts.shards * medium.worker_shard)
    seconds = cpu / mine + waiting
    done, lost = np.ones(count), np.zeros(count, int)
    if cluster.losses:
        done, lost = with_losses(seconds, cluster.losses, random)
        seconds = seconds * done + lost * costs.worker_start / cluster.cores_of_one(1.0)
    if cluster.dealing == "shares":
        scoring, used = _shares(seconds * mine, cluster, costs)
    else:
        pace = np.exp(random.normal(0.0, cluster.uneven, min(cluster.workers, count)))
        scoring, used = _greedy(seconds, costs.worker_start / cluster.cores_of_one(1.0), pace)
    started = min(cluster.workers, count) if cluster.dealing == "greedy" else cluster.workers - 1
    launch = costs.start_clock + costs.launch_shard * workload.shards
    launch += medium.request * -(-workload.shards // medium.listed)
    return Outcome(
        parts=count,
        pieces=pieces,
        launch=launch,
        scoring=cluster.machines_up + scoring,
        publish=publish_seconds(count, workload, costs, medium),
        cpu=costs.start
        + (started + int(lost.sum())) * costs.worker_start
        + float((cpu * done).sum())
        + costs.launch_shard * workload.shards
        + costs.publish_part * count,
        busy=used / (scoring * cluster.workers) if scoring else 1.0,
        lost=int(lost.sum()),
        plan=plan_bytes(count, pieces, costs.path),
        manifest=manifest_bytes(count, workload.shards, costs.path),
        results=result_bytes(count, pieces, costs.path),
        lock_requests=lock_traffic.requests(min(cluster.workers, count), count / scoring, medium),
    )


def make_parts(workload: Workload, random: np.random.Generator) -> Parts:
    """Shards of random sizes, split and joined as `pipeline.parts` does it."""
    if workload.shards > MOST_SHARDS:
        raise ValueError(f"{workload.shards:,} shards are more than the {MOST_SHARDS:,} that are simulated")
    sizes = np.exp(random.normal(0.0, workload.skew, workload.shards)) if workload.skew else np.ones(workload.shards)
    ends = np.rint(np.cumsum(sizes) / sizes.sum() * workload.rows)
    rows = np.diff(ends, prepend=0.0)
    alone = np.zeros(len(rows), bool)
    if workload.split_rows is not None:
        pieces = np.maximum(1, np.ceil(rows / workload.split_rows)).astype(int)
        rows, alone = np.repeat(rows / pieces, pieces), np.repeat(pieces > 1, pieces)
    if workload.rows_per_file is None:
        return Parts(rows, np.ones(len(rows), int))
    starts = np.flatnonzero(_opens_part(rows.tolist(), alone.tolist(), workload.rows_per_file))
    return Parts(np.add.reduceat(rows, starts), np.diff(starts, append=len(rows)))


def _opens_part(rows: Sequence[float], alone: Sequence[bool], rows_per_file: int) -> list[bool]:
    """Whether each piece opens a part: one is joined to those before it if that brings them closer to `rows_per_file`."""
    opens, together, before_alone = [], 0.0, True
    for number, is_alone in zip(rows, alone, strict=True):
        new = is_alone or before_alone or together + number / 2 > rows_per_file
        opens.append(new)
        together, before_alone = number + (0.0 if new else together), is_alone
    return opens


def with_losses(seconds: np.ndarray, losses: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How much of each part's work is done in all, 1 or more, and how many attempts at it are lost.

    Args:
      seconds: of an attempt at each part, by the clock.
      losses: of a process in an hour. One that is lost has done a random share of its part.
    """
    kept = np.exp(-losses / 3600 * seconds)
    if kept.min(initial=1.0) < 0.01:
        raise ValueError("a process does not live for as long as a part takes: make parts smaller (rows_per_file)")
    lost = random.geometric(kept) - 1
    done = np.ones(len(seconds))
    np.add.at(done, np.repeat(np.arange(len(seconds)), lost), random.random(int(lost.sum())))
    return done, lost


def _shares(work: np.ndarray, cluster: Cluster, costs: Costs) -> tuple[float, float]:
    """Seconds by the clock until the last process is done, and the sum of those until each is.

    work: CPU seconds of each part.
    """
    shares = [float(work[first :: cluster.workers].sum()) for first in range(cluster.workers)]
    ready = max(finish_times([[(costs.connect, 1.0)]] * (cluster.workers - 1), cluster.cores), default=0.0)
    rest = (costs.worker_start - costs.connect, 1.0)
    queues = [[rest, (share, costs.cores)] for share in shares]
    queues[0] = queues[0][1:]
    times = finish_times(queues, cluster.cores)
    return ready + max(times), sum(times)


def _greedy(seconds: np.ndarray, start: float, pace: np.ndarray) -> tuple[float, float]:
    """As `_shares`: each process starts, and takes the next part when it is free, until none is left.

    seconds: of each part where all processes of a machine are busy. pace: of each process; 2 takes half as long.
    """
    slow = (1 / pace).tolist()
    parts = iter(seconds.tolist())
    free = [((start + each) * slow[index], index) for index, each in zip(range(len(slow)), parts, strict=False)]
    heapq.heapify(free)
    for each in parts:
        end, index = free[0]
        heapq.heapreplace(free, (end + each * slow[index], index))
    ends = [end for end, _ in free]
    return max(ends), sum(ends)


def finish_times(queues: Sequence[Sequence[tuple[float, float]]], cores: float) -> list[float]:
    """When the processes of one machine are done.

    Args:
      queues: what each does in turn: CPU seconds, and how many cores it can keep busy meanwhile.
      cores: of the machine; n processes that are at work have at most `cores / n` each.
    """
    left = [[(work, most) for work, most in queue if work > 0] for queue in queues]
    now, done = 0.0, [0.0] * len(queues)
    while active := [index for index, queue in enumerate(left) if queue]:
        share = cores / len(active)
        step = min(left[index][0][0] / min(left[index][0][1], share) for index in active)
        now += step
        for index in active:
            work, most = left[index][0]
            rest = work - step * min(most, share)
            if rest > 1e-9 * work:
                left[index][0] = (rest, most)
            else:
                left[index].pop(0)
                done[index] = now
    return done


def publish_seconds(parts: int, workload: Workload, costs: Costs, medium: Medium) -> float:
    """Seconds by the clock from the last result to `_SUCCESS` and to an empty `_temporary`."""
    asked = medium.request * (
        parts * medium.publish_part / medium.threads  # in threads
        + workload.older_files * medium.retire  # one after another
        + -(-2 * parts // medium.listed)
    )
    copied = workload.rows * costs.output_row / (medium.copied * medium.threads) if medium.copied else 0.0
    return costs.publish_part * parts + asked + copied
