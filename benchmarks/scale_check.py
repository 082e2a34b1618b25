"""Real runs beside simulated ones: some of them tell what steps cost, the others what the simulation is worth.

All score the tabular workload as TFRecord with `score` on this machine. Shards of one size are hard links to one file, so
no run reads a disk.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.costs import Costs
from benchmarks.dataset import WORK, Dataset
from benchmarks.measure import Usage, markdown, preamble, run_measured
from benchmarks.prepare import prepare, write_shard
from benchmarks.simulation import Cluster, Workload, make_parts, simulate

PACKAGES = ("tensorflow", "tensorflow-estimator", "apache-beam", "pyarrow", "numpy")
SMALL = 16_000
"""Rows of a run that has but its start-up to measure."""
RUNS_OF_A_START = 3
HEADER = (
    *("shards", "rows", "parts", "processes", "batch", "CPU s", "simulated", "error"),
    *("seconds", "simulated", "error", "peak memory"),
)


@dataclass(frozen=True)
class Asked:
    """A run: so many shards of so many rows."""

    shards: int
    shard_rows: int
    workers: int = 1
    batch_rows: int = 4096
    rows_per_file: int | None = None

    @property
    def workload(self) -> Workload:
        rows = self.shards * self.shard_rows
        return Workload(rows, self.shards, batch_rows=self.batch_rows, rows_per_file=self.rows_per_file)

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Starts of a command, rows, batches, parts, shards."""
        parts = make_parts(self.workload, np.random.default_rng(0))
        batches = int((-(-parts.rows // self.batch_rows)).sum())
        return 1, self.workload.rows, batches, len(parts.rows), self.shards


BASE = Asked(8, SMALL // 8)
MANY_ROWS = Asked(8, 250_000)
SMALL_BATCHES = Asked(8, 62_500, batch_rows=256)
MANY_PARTS = Asked(2_000, 100)
JOINED = Asked(2_000, 100, rows_per_file=1_000_000)
ONE_PROCESS = (BASE, MANY_ROWS, SMALL_BATCHES, MANY_PARTS, JOINED)
"""Runs that differ in one kind of step each."""
TWO = Asked(8, SMALL // 8, workers=2)
CHECKED = (
    *(Asked(16, 250_000, workers) for workers in (1, 2, 4)),
    *(Asked(1_000_000 // rows, rows) for rows in (1_000_000, 100_000, 10_000, 1_000, 100)),
    Asked(10_000, 100, rows_per_file=100_000),
    Asked(1_000, 1_000, workers=2),
)


class Bench:
    """Makes shards and runs `score` on them."""

    def __init__(self, work: Path):
        self._work = (work / "scale").absolute()
        self._work.mkdir(parents=True, exist_ok=True)
        self._dataset = Dataset("tabular", "tfrecord", SMALL, work)
        prepare(self._dataset)

    def run(self, asked: Asked) -> Usage:
        settings = [
            f"input.pattern={self._shards(asked)}/rows-*",
            f"output.path={self._work}/output",
            f"batch.rows={asked.batch_rows}",
        ]
        if asked.rows_per_file:
            settings.append(f"output.rows_per_file={asked.rows_per_file}")
        options = [argument for setting in settings for argument in ("--set", setting)]
        command = ["-m", "pipeline", "score", "--config", str(self._dataset.job), "--quiet", *options]
        shutil.rmtree(self._work / "output", ignore_errors=True)
        usage = run_measured([*command, "--workers", str(asked.workers)], self._work)
        print(f"{asked}: {usage}", file=sys.stderr, flush=True)
        return usage

    def start(self, asked: Asked) -> Usage:
        """The median of some runs, each figure by itself."""
        usages = [self.run(asked) for _ in range(RUNS_OF_A_START)]
        return Usage(*(statistics.median(figures) for figures in zip(*usages, strict=True)))

    def connect(self) -> float:
        """CPU seconds until a worker process can be given its parts."""
        modules = "apache_beam.runners.worker.sdk_worker, apache_beam.io.filesystems, apache_beam.internal.pickler"
        return statistics.median(
            run_measured(["-c", f"import {modules}"], self._work).cpu_seconds for _ in range(RUNS_OF_A_START)
        )

    def launch_shard(self, asked: Asked) -> float:
        """CPU seconds of a shard until it is in the plan."""
        from pipeline.job import Input
        from pipeline.plan import match_shards, part_key
        from pipeline.rows import Piece

        source = Input(pattern=[f"{self._shards(asked)}/rows-*"], format="tfrecord")
        before = time.process_time()
        keys = [part_key([Piece(shard)], "") for shard in match_shards(source)]
        return (time.process_time() - before) / len(keys)

    def publish_part(self, parts: int) -> float:
        """Seconds of a part, of publishing parts of one row."""
        from pipeline.commit import open_folder
        from pipeline.lease import acquire
        from pipeline.plan import Plan, part_key, utc_now, write_plan
        from pipeline.publish import Limits, publish
        from pipeline.rows import Part, PartBatch, Piece, Shard, ShardEnd
        from pipeline.write import PartWriter

        output = str(self._work / "published")
        shutil.rmtree(output, ignore_errors=True)
        rows = pa.record_batch({"score": pa.array([0.5], pa.float32())})
        pieces = [(Piece(Shard(f"{self._work}/rows-{index:05}-of-{parts:05}", 100, 1.0)),) for index in range(parts)]
        planned = tuple(Part(index, part_key(each, ""), each) for index, each in enumerate(pieces))
        plan = Plan("publishing", None, "publishing", utc_now(), planned, "tfrecord", rows.schema)
        lease = acquire(output, plan.run_id)
        open_folder(lease)
        write_plan(output, plan)
        for part in planned:
            writer = PartWriter(output, part, rows.schema, "tfrecord", "first", plan.run_id)
            writer.write(PartBatch(part, 0, rows, (), (ShardEnd(1),)))
        before = time.process_time()
        publish(lease, plan, Limits())
        return (time.process_time() - before) / parts

    def _shards(self, asked: Asked) -> Path:
        folder = self._work / f"{asked.shards}x{asked.shard_rows}"
        if not folder.exists():
            made = self._work / f"shard-{asked.shard_rows}.tfrecord"
            if not made.exists():
                write_shard(self._dataset, 0, asked.shard_rows, made)
            unfinished = folder.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for shard in range(asked.shards):
                os.link(made, unfinished / f"rows-{shard:05}-of-{asked.shards:05}.tfrecord")
            unfinished.rename(folder)
        return folder


def fit(usages: Mapping[Asked, Usage], launch_shard: float, publish_part: float, connect: float) -> Costs:
    """What steps cost, by the runs of one process and by that of two.

    launch_shard, publish_part, connect: as in `Costs`, measured by themselves.
    """
    counts = np.array([asked.counts for asked in ONE_PROCESS], float)
    cpu = np.array([usages[asked].cpu_seconds for asked in ONE_PROCESS])
    start, row, batch, part, shard = np.linalg.solve(counts, cpu).tolist()
    base, many = usages[BASE], usages[MANY_ROWS]
    cores = (many.cpu_seconds - base.cpu_seconds) / (many.seconds - base.seconds)
    return Costs(
        start=start,
        start_clock=base.seconds - (base.cpu_seconds - start) / cores,
        row=row,
        batch=batch,
        part=part - publish_part,
        shard=shard - launch_shard,
        worker_start=usages[TWO].cpu_seconds - base.cpu_seconds,
        connect=connect,
        cores=cores,
        launch_shard=launch_shard,
        publish_part=publish_part,
    )


def line(asked: Asked, usage: Usage, costs: Costs, cores: int) -> tuple[str, ...]:
    """A run measured, and simulated."""
    outcome = simulate(asked.workload, Cluster(asked.workers, cores=cores), costs)
    return (
        f"{asked.shards:,}",
        f"{asked.workload.rows:,}",
        f"{outcome.parts:,}",
        str(asked.workers),
        f"{asked.batch_rows:,}",
        f"{usage.cpu_seconds:.1f}",
        f"{outcome.cpu:.1f}",
        f"{outcome.cpu / usage.cpu_seconds - 1:+.0%}",
        f"{usage.seconds:.1f}",
        f"{outcome.wall:.1f}",
        f"{outcome.wall / usage.seconds - 1:+.0%}",
        f"{usage.peak_bytes / 1e6:,.0f} MB",
    )


def measured(work: Path | None = None) -> tuple[Costs, list[str]]:
    """Run all: what steps cost, and lines of Markdown that tell it and what the simulation makes of the other runs."""
    bench, cores = Bench(work or WORK), len(os.sched_getaffinity(0))
    usages = {asked: bench.start(asked) if asked in (BASE, TWO) else bench.run(asked) for asked in (*ONE_PROCESS, TWO)}
    costs = fit(usages, bench.launch_shard(MANY_PARTS), bench.publish_part(MANY_PARTS.shards), bench.connect())
    fitted = [HEADER, *(line(asked, usage, costs, cores) for asked, usage in usages.items())]
    checked = [HEADER, *(line(asked, bench.run(asked), costs, cores) for asked in CHECKED)]
    found = [("", "value"), *((field.name, f"{getattr(costs, field.name):.3g}") for field in fields(Costs))]
    return costs, [
        *preamble("The simulation beside real runs", "python -m benchmarks.scale --check", PACKAGES),
        *("", "## What steps cost", "", *markdown(found)),
        *("", "## Runs that the costs are fitted to", "", *markdown(fitted)),
        *("", "## Runs that are predicted", "", *markdown(checked)),
    ]
