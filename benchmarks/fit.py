"""Time and memory of `fit` in one process, by the number of rows:

    python -m benchmarks.fit --rows 100000 1000000 --write benchmarks/results/fit.md

Fits the transform of examples/tabular (z-scores, vocabularies, deciles of six features) to trips of a seeded generator.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.measure import Usage, report, run_measured

SHARDS = 8
PACKAGES = ("tensorflow", "tensorflow-transform", "apache-beam", "pyarrow")
HEADER = ("rows", "MB of shards", "seconds", "CPU seconds", "rows a second", "peak memory")


def make_shards(folder: Path, rows: int) -> None:
    """TFRecord shards of so many trips; those of an earlier call are kept."""
    if folder.exists():
        return
    from examples.tabular.data import make_trips, write_shards

    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_shards(make_trips(rows, seed=1), unfinished, SHARDS)
    unfinished.rename(folder)


def measure_fit(work: Path, rows: int) -> tuple[Usage, int]:
    """What `fit` takes for so many rows, and the bytes of their shards."""
    shards, transform = (work / f"trips-{rows}").absolute(), (work / "transform").absolute()
    make_shards(shards, rows)
    shutil.rmtree(transform, ignore_errors=True)
    settings = [f"input.pattern={shards}/*.tfrecord", f"transform.path={transform}"]
    options = [argument for setting in settings for argument in ("--set", setting)]
    usage = run_measured(["-m", "pipeline", "fit", "--config", "configs/tabular_fit.yaml", *options], work)
    return usage, sum(path.stat().st_size for path in shards.iterdir())


def table_line(rows: int, size: int, usage: Usage) -> tuple[str, ...]:
    return (
        f"{rows:,}",
        f"{size / 1e6:,.0f}",
        f"{usage.seconds:.1f}",
        f"{usage.cpu_seconds:.1f}",
        f"{rows / usage.seconds:,.0f}",
        f"{usage.peak_bytes / 1e9:.2f} GB",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure fit in one process.")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], metavar="N")
    parser.add_argument("--work", type=Path, default=Path("work/benchmarks/fit"), help="folder of what is made")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the page; it is printed too")
    known = parser.parse_args()
    known.work.mkdir(parents=True, exist_ok=True)
    lines = []
    for rows in known.rows:
        usage, size = measure_fit(known.work, rows)
        lines.append(table_line(rows, size, usage))
    command = f"python -m benchmarks.fit --rows {' '.join(map(str, known.rows))}"
    page = report("Fitting a transform", command, PACKAGES, [HEADER, *lines])
    sys.stdout.write(page)
    if known.write:
        known.write.write_text(page)


if __name__ == "__main__":
    main()
