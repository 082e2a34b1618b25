"""Start-up and steady state of a way of scoring, told apart by runs of two sizes; ratios of pairs of runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import Usage


@dataclass(frozen=True)
class Pace:
    """A way of scoring, by one run of few rows and one of many."""

    few_rows: int
    many_rows: int
    few: Usage
    many: Usage

    @property
    def cpu(self) -> float:
        """CPU seconds per million rows, without start-up."""
        return (self.many.cpu_seconds - self.few.cpu_seconds) / (self.many_rows - self.few_rows) * 1e6

    @property
    def clock(self) -> float:
        """Seconds per million rows, without start-up."""
        return (self.many.seconds - self.few.seconds) / (self.many_rows - self.few_rows) * 1e6

    @property
    def start_cpu(self) -> float:
        """CPU seconds of a run of no rows."""
        return self.few.cpu_seconds - self.cpu * self.few_rows / 1e6

    @property
    def start_clock(self) -> float:
        """Seconds of a run of no rows."""
        return self.few.seconds - self.clock * self.few_rows / 1e6


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    def text(self, digits: int) -> str:
        low, median, high = (f"{value:,.{digits}f}" for value in (self.low, self.median, self.high))
        return f"{median} ({low} to {high})"


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratios(ours: Sequence[Pace], theirs: Sequence[Pace]) -> tuple[Spread, Spread]:
    """CPU and clock of theirs over ours, pair by pair."""
    pairs = list(zip(ours, theirs, strict=True))
    return spread([b.cpu / a.cpu for a, b in pairs]), spread([b.clock / a.clock for a, b in pairs])
