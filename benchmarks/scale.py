"""What runs of many rows and many processes come to, by simulation; and the simulation held against real runs:

    python -m benchmarks.scale
    python -m benchmarks.scale --rows 1e9 --workers 100 --medium disk --skew 1 --losses 0.1
    python -m benchmarks.scale --check --write benchmarks/results/scale.md

One worker is the launcher itself on a disk, more are processes of machines that read from and write to an object store,
unless told otherwise. Where nothing is said of parts, those are taken that make the run shortest, and the table says what
to set. `--check` needs some minutes and the TensorFlow of ours; all else takes seconds and imports neither.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import lock_traffic
from benchmarks.costs import DISK, GS, MEDIA, Costs, Medium
from benchmarks.measure import markdown
from benchmarks.simulation import Cluster, Outcome, Workload, publish_seconds, simulate

ROWS = (1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12)
WORKERS = (1, 10, 100, 1_000, 10_000)
PARTS_A_WORKER = (1, 2, 4, 8, 16, 32)
"""How many parts for a process are tried, where nothing is said of them."""
LONGEST_PART = 600.0
"""Seconds that one takes at most: so much is done again where a process is lost, or a run is stopped."""
MOST_PARTS = 400_000
"""That are tried."""
MACHINES_UP = 120.0
"""Seconds until the machines of a cluster are there; assumed."""
HEADER = (
    *("rows", "workers", "set", "parts", "launch", "scoring", "publish", "wall", "CPU hours", "busy"),
    *("publish: disk", "gs", "s3", "plan.json", "manifest", "results", "lock requests/s", "touches/s", "longest step"),
)


def shards_of(rows: int) -> int:
    """How many shards an input is taken to have, where nothing is said: of a million rows, ten at least."""
    return min(1_000_000, max(10, rows // 1_000_000))


def cluster_of(workers: int, known: argparse.Namespace) -> Cluster:
    """One worker is this process; more are a cluster's, one a core."""
    if known.here or workers == 1:
        return Cluster(workers, workers, known.cores)
    return Cluster(workers, known.processes, known.cores, "greedy", MACHINES_UP, known.uneven, known.losses)


def settings(workload: Workload, workers: int, costs: Costs) -> list[Workload]:
    """The workload as its shards are, and joined or split to some parts for each worker."""
    shard_rows = workload.rows // workload.shards
    tried = [workload]
    for count in PARTS_A_WORKER:
        part_rows = _rounded(min(workload.rows / (workers * count), LONGEST_PART / costs.row))
        if part_rows < shard_rows:
            tried.append(replace(workload, split_rows=part_rows))
        elif part_rows > shard_rows:
            tried.append(replace(workload, rows_per_file=part_rows))
    return [each for each in tried if _parts(each) <= MOST_PARTS] or [workload]


def _parts(workload: Workload) -> float:
    part_rows = workload.rows_per_file or workload.split_rows
    return workload.rows / part_rows if part_rows else workload.shards


def _rounded(number: float) -> int:
    """One, two or five times a power of ten: the nearest that is not more."""
    power = 10 ** (len(str(int(max(1, number)))) - 1)
    return max(step * power for step in (1, 2, 5) if step * power <= max(1, number))


def best(workload: Workload, cluster: Cluster, costs: Costs, medium: Medium) -> tuple[Workload, Outcome]:
    """The settings by which a run is shortest, and the run; among equals those with fewest parts."""
    found = [(each, simulate(each, cluster, costs, medium)) for each in settings(workload, cluster.workers, costs)]
    shortest = min(outcome.wall for _, outcome in found)
    near = [pair for pair in found if pair[1].wall <= 1.02 * shortest]
    return min(near, key=lambda pair: (pair[1].parts, pair[1].wall))


def line(workload: Workload, cluster: Cluster, costs: Costs, medium: Medium, outcome: Outcome) -> tuple[str, ...]:
    """A run as a line of the table."""
    return (
        f"{workload.rows:.0e}".replace("e+", "e").replace("e0", "e"),
        f"{cluster.workers:,}",
        _settings_in_words(workload, costs),
        f"{outcome.parts:,}",
        duration(outcome.launch),
        duration(outcome.scoring),
        duration(outcome.publish),
        duration(outcome.wall),
        f"{outcome.cpu / 3600:,.2g}" if outcome.cpu < 36_000 else f"{outcome.cpu / 3600:,.0f}",
        f"{outcome.busy:.0%}",
        *(duration(publish_seconds(outcome.parts, workload, costs, each)) for each in MEDIA.values()),
        *(size(number) for number in (outcome.plan, outcome.manifest, outcome.results)),
        f"{outcome.lock_requests:,.0f}" if outcome.lock_requests >= 10 else f"{outcome.lock_requests:.1f}",
        f"{lock_traffic.touches(min(cluster.workers, outcome.parts), medium):.1f}",
        outcome.bottleneck,
    )


def _settings_in_words(workload: Workload, costs: Costs) -> str:
    if workload.rows_per_file:
        return f"`rows_per_file` {workload.rows_per_file:,}"
    if workload.split_rows:
        return f"`split_bytes` {size(workload.split_rows * costs.shard_row)}"
    return "shards as they are"


def duration(seconds: float) -> str:
    """Seconds in words: 5.5 s, 12 min, 3.4 h, 12 d."""
    for unit, many, until in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)):
        if seconds < until:
            return f"{seconds / many:.{0 if seconds / many >= 10 else 1}f} {unit}"
    return f"{seconds / 86_400:,.0f} d"


def size(number: float) -> str:
    """Bytes in words: 12 kB, 3.4 GB."""
    for unit, many in (("B", 1.0), ("kB", 1e3), ("MB", 1e6)):
        if number < 1000 * many:
            return f"{number / many:.{0 if number >= 10 * many or many == 1 else 1}f} {unit}"
    return f"{number / 1e9:,.{0 if number >= 1e10 else 1}f} GB"


def table(
    rows: Sequence[int], workers: Sequence[int], known: argparse.Namespace, costs: Costs
) -> list[tuple[str, ...]]:
    """Header, and a line for each number of rows and of workers."""
    lines: list[tuple[str, ...]] = [HEADER]
    for number in rows:
        for count in workers:
            cluster = cluster_of(count, known)
            medium = MEDIA[known.medium] if known.medium else DISK if cluster.dealing == "shares" else GS
            workload = Workload(
                number, known.shards or shards_of(number), known.skew, known.batch_rows, known.rows_per_file,
                known.split_rows, known.older_files, known.seed,
            )  # fmt: skip
            if known.rows_per_file or known.split_rows or known.as_they_are:
                outcome = simulate(workload, cluster, costs, medium)
            else:
                workload, outcome = best(workload, cluster, costs, medium)
            lines.append(line(workload, cluster, costs, medium, outcome))
    return lines


def number(text: str) -> int:
    """A whole number, also as 1e9."""
    found = float(text)
    if found < 1 or found != int(found):
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(found)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate runs of many rows and processes.")
    parser.add_argument("--rows", type=number, nargs="+", default=[int(rows) for rows in ROWS], metavar="N")
    parser.add_argument("--workers", type=number, nargs="+", default=list(WORKERS), metavar="N", help="processes")
    parser.add_argument("--shards", type=number, metavar="N", help="input files; of a million rows when left out")
    parser.add_argument(
        "--skew", type=float, default=0.5, help="standard deviation of the logarithm of rows of a shard"
    )
    parser.add_argument("--uneven", type=float, default=0.15, help="as skew, of the pace of a process; clusters alone")
    parser.add_argument("--losses", type=float, default=0.0, help="of a process in an hour; clusters alone")
    parser.add_argument("--medium", choices=MEDIA, help="where shards and output lie")
    parser.add_argument("--here", action="store_true", help="all workers on this machine, as `score --workers N`")
    parser.add_argument("--cores", type=float, default=4, metavar="N", help="of a machine (4)")
    parser.add_argument("--processes", type=number, default=4, metavar="N", help="of a machine of a cluster (4)")
    parser.add_argument("--batch_rows", type=number, default=4096, metavar="N")
    parser.add_argument("--rows_per_file", type=number, metavar="N", help="output.rows_per_file")
    parser.add_argument("--split_rows", type=number, metavar="N", help="input.split_bytes, in rows")
    parser.add_argument("--as_they_are", action="store_true", help="neither join nor split shards")
    parser.add_argument("--older_files", type=int, default=0, metavar="N", help="files of other names to be replaced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="measure real runs beside simulated ones")
    parser.add_argument("--work", type=Path, help="folder of what --check makes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the page; it is printed too")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    known = arguments(given)
    costs = Costs()
    lines: list[str] = []
    if known.check:
        from benchmarks import scale_check

        costs, lines = scale_check.measured(known.work)
        lines += ["", "## With these costs", ""]
    page = "\n".join([*lines, *markdown(table(known.rows, known.workers, known, costs)), ""])
    sys.stdout.write(page)
    if known.write:
        known.write.write_text(page)


if __name__ == "__main__":
    main()
