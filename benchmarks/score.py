"""The speed of scoring, beside that of a loop by hand and of other people's ways:

    python -m benchmarks.score --quick
    python -m benchmarks.score --write benchmarks/results/score.md

Makes what it scores below WORK. Ours and all its peers run in turns, round by round, each in a process of its own, each
with few rows and with many: the slope between the two is the steady state, what is left the start-up. In the first round
the scores of a peer are held against ours, and the benchmark ends where they differ.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.agree import disagreement
from benchmarks.dataset import FORMATS, WORK, WORKLOADS, Dataset
from benchmarks.measure import Usage, markdown, preamble, read_once, run_measured
from benchmarks.steady import Pace, Spread, ratios, spread
from benchmarks.ways import WAYS, Way, ours

PACKAGES = ("tensorflow", "tensorflow-estimator", "apache-beam", "pyarrow", "numpy")
ROWS = {"images": 2_000_000, "tabular": 4_000_000, "text": 3_000_000}
"""Of the larger run of ours and of the loop: so many that start-up, which varies by half a second, matters little beside."""
QUICK_ROWS = {"images": 200_000, "tabular": 1_000_000, "text": 500_000}
FEW_ROWS = 16_000
PEER_ROWS = {
    "near": (FEW_ROWS, 400_000),
    "middle": (4_000, 128_000),
    "slow": (4_000, 64_000),
    "slowest": (1_000, 4_000),
}
"""Few and many rows of peers that are several or many times slower."""
QUICK_PEERS, QUICK_FORMATS = ("loop", "run_inference_4096"), ("tfrecord", "parquet")
HEADER = (
    *("", "pairs", "rows", "rows/s", "CPU s per million rows", "peak memory", "start-up", "start-up, CPU"),
    *("CPU / ours", "clock / ours", "CPU / loop"),
)
NOT_TOLD = "not told"
"""More rows took less time: other work on the machine."""


@dataclass(frozen=True)
class Measured:
    """A peer, and ours in turns with it: a pace of each for a round."""

    way: Way
    ours: list[Pace]
    theirs: list[Pace]


class Bench:
    """Runs ways of scoring one workload in one format.

    sizes: few and many rows, by speed of a way.
    """

    def __init__(self, dataset: Dataset, sizes: dict[str, tuple[int, int]]):
        self._dataset, self._sizes = dataset, sizes
        self._output = dataset.home / "peer"
        self._known: set[int] = set()

    def rounds(self, ways: Sequence[Way], pairs: int) -> Iterator[list[Measured]]:
        """Run ours and each peer so many times, in turns; who is first changes. Gives what was found, after each round.

        Raises:
          RuntimeError: a run failed, or the scores of a peer are not ours.
        """
        self._make(ways)
        found = [Measured(way, [], []) for way in ways]
        for number in range(pairs):
            is_ours_first = number % 2 == 0
            if is_ours_first:
                own = self._ours()
            for each in found if is_ours_first else reversed(found):
                each.theirs.append(self._theirs(each.way, check=number == 0))
            if not is_ours_first:
                own = self._ours()
            for each in found:
                each.ours.append(own)
            _say(f"{self._dataset.workload} {self._dataset.format}, round {number + 1} of {pairs}")
            paces = ", ".join(f"{each.way.title} {each.theirs[-1].cpu:.2f}" for each in found)
            _say(f"    CPU s per million rows: ours {own.cpu:.2f}, {paces}")
            yield found

    def _make(self, ways: Sequence[Way]) -> None:
        dataset = self._dataset
        rows = sorted({count for speed in ("fast", *(way.speed for way in ways)) for count in self._sizes[speed]})
        where = ["--workload", dataset.workload, "--work", str(dataset.work)]
        data = ["-m", "benchmarks.prepare", *where, "--format", dataset.format, "--rows", *map(str, rows)]
        run_measured(data, dataset.work)
        if any(way.module.startswith("benchmarks.peers.") for way in ways):
            run_measured(["-m", "benchmarks.export", *where], dataset.work)
        if any(way.environment for way in ways):
            run_measured(["-m", "benchmarks.peers.tfx_bsl_environment", "--work", str(dataset.work)], dataset.work)

    def _ours(self) -> Pace:
        few, many = self._sizes["fast"]
        return Pace(few, many, self._score(few), self._score(many))

    def _score(self, rows: int) -> Usage:
        self._known.add(rows)
        dataset = replace(self._dataset, rows=rows)
        read_once(dataset.shards)
        return run_measured(ours(dataset), dataset.work)

    def _theirs(self, way: Way, check: bool) -> Pace:
        few, many = self._sizes[way.speed]
        return Pace(few, many, self._run(way, few, check), self._run(way, many, check))

    def _run(self, way: Way, rows: int, check: bool) -> Usage:
        dataset = replace(self._dataset, rows=rows)
        shutil.rmtree(self._output, ignore_errors=True)
        self._output.mkdir(parents=True)
        python = str(dataset.work.absolute() / "tfx_bsl/bin/python") if way.environment else sys.executable
        read_once(dataset.shards)
        usage = run_measured(way.command(dataset, self._output), dataset.work, python)
        if check:
            if rows not in self._known:
                self._score(rows)
            problem = disagreement(dataset.output, self._output, list(dataset.module.PREDICTIONS))
            if problem:
                raise RuntimeError(f"{way.title}, {dataset.workload}, {dataset.format}, {rows} rows: {problem}")
        return usage


def table(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Header, ours, and a line a peer; ours are the paces of the rounds of the first peer."""
    loop = next((spread([pace.cpu for pace in each.theirs]) for each in measured if each.way is WAYS["loop"]), None)
    lines = [HEADER, _line("ours", measured[0].ours, ("1", "1"), loop)]
    for each in measured:
        cpu, clock = ratios(each.ours, each.theirs)
        lines.append(_line(each.way.title, each.theirs, (_positive(cpu), _positive(clock)), loop))
    return lines


def _positive(ratio: Spread) -> str:
    return ratio.text(2) if ratio.low > 0 else NOT_TOLD


def _line(title: str, paces: Sequence[Pace], beside_ours: tuple[str, str], loop: Spread | None) -> tuple[str, ...]:
    cpu, clock = spread([pace.cpu for pace in paces]), spread([pace.clock for pace in paces])
    start, start_cpu = (spread([getattr(pace, name) for pace in paces]).median for name in ("start_clock", "start_cpu"))
    few, many = (max(run.peak_bytes for run in runs) for runs in zip(*((p.few, p.many) for p in paces), strict=True))
    return (
        title,
        str(len(paces)),
        f"{paces[0].few_rows:,}, {paces[0].many_rows:,}",
        f"{1e6 / clock.median:,.0f}" if clock.median > 0 else NOT_TOLD,
        cpu.text(2),
        f"{few / 1e6:,.0f}, {many / 1e6:,.0f} MB",
        f"{start:.1f} s",
        f"{start_cpu:.1f} s",
        *beside_ours,
        f"{cpu.median / loop.median:.2f}" if loop else "",
    )


def beside_loop(measured: Sequence[Measured]) -> list[str]:
    """What ours takes in terms of the loop, in words; nothing where the loop was not run."""
    for each in measured:
        if each.way is WAYS["loop"]:
            cpu, clock = map(_positive, ratios(each.theirs, each.ours))
            return [
                "",
                f"Ours takes {cpu} times the CPU and {clock} times the time of the loop, {len(each.ours)} pairs.",
            ]
    return []


def page(command: str, measured: dict[tuple[str, str], list[Measured]]) -> str:
    """All tables, as Markdown."""
    lines = preamble("Scoring", command, PACKAGES)
    for (workload, file_format), each in measured.items():
        lines += ["", f"## {workload}, {file_format}", "", *markdown(table(each)), *beside_loop(each)]
    return "\n".join([*lines, ""])


def chosen(peers: Sequence[str] | None, quick: bool, workload: str, file_format: str) -> list[Way]:
    """The ways to run for a workload and format, the loop first; without a choice all of them."""
    names = peers or (QUICK_PEERS if quick else WAYS)
    return [
        way for name, way in WAYS.items() if name in names and workload in way.workloads and file_format in way.formats
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure scoring beside its peers.")
    parser.add_argument("--quick", action="store_true", help="few rows, a pair of each, few peers")
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--format", nargs="+", choices=FORMATS)
    parser.add_argument("--peer", nargs="+", choices=WAYS, help="whom to run beside ours; all when left out")
    parser.add_argument("--pairs", type=int, metavar="N", help="how many times each is run (9; quick: once)")
    parser.add_argument("--rows", type=int, nargs=2, metavar="N", help="few and many rows, for ours and the loop")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made")
    parser.add_argument("--write", type=Path, metavar="FILE", help="where to write the page; it is printed too")
    return parser.parse_args()


def main() -> None:
    known = arguments()
    known.work.mkdir(parents=True, exist_ok=True)
    pairs = known.pairs or (1 if known.quick else 9)
    command = f"python -m benchmarks.score {' '.join(sys.argv[1:])}".rstrip()
    measured: dict[tuple[str, str], list[Measured]] = {}
    for workload in known.workload:
        many = (QUICK_ROWS if known.quick else ROWS)[workload]
        sizes = PEER_ROWS | {"fast": tuple(known.rows or (FEW_ROWS, many))}
        for file_format in known.format or (QUICK_FORMATS if known.quick else FORMATS):
            bench = Bench(Dataset(workload, file_format, 0, known.work), sizes)
            ways = chosen(known.peer, known.quick, workload, file_format)
            for found in bench.rounds(ways, pairs) if ways else ():
                measured[workload, file_format] = found
                if known.write:  # after each, so that a run that is stopped leaves what it found
                    known.write.write_text(page(command, measured))
    sys.stdout.write(page(command, measured))


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
