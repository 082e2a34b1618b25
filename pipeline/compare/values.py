"""Differences of numbers, batch by batch: what is kept does not grow with the rows, nor depend on their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WORST_ROWS = 10
DISTRIBUTION_BINS = 60

_MANTISSA_BITS = 7
_SHIFT = 52 - _MANTISSA_BITS
_BINS = 1 << (11 + _MANTISSA_BITS)
"""Differences are counted by exponent and first bits of the mantissa: 128 bins from a power of 2 to the next; 0 is in the first."""
_FINITE_BINS = 0x7FF << _MANTISSA_BITS


@dataclass(frozen=True)
class Tolerance:
    """|new - old| <= absolute + relative * |old|, for each value."""

    absolute: float
    relative: float

    def __str__(self) -> str:
        relative = f"{self.relative:g} * |old|" if self.relative else ""
        return " + ".join(filter(None, [f"{self.absolute:g}" if self.absolute or not relative else "", relative]))


class Range:
    """Smallest and largest finite value of a column."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def add(self, column: pa.Array) -> None:
        """column: numbers, or lists of them to any depth."""
        while pa.types.is_list(column.type):
            column = column.flatten()
        values = _floats(column)
        finite = values[np.isfinite(values)]
        if len(finite):
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    @property
    def largest(self) -> float:
        """The largest absolute value; 0 where there is none."""
        return max(abs(self.low), abs(self.high)) if self.low <= self.high else 0.0


class Differences:
    """Absolute differences of a numeric column of which both sides were joined.

    tolerance: beyond which a row differs. low, high: finite range of the values of both sides, for their distributions.

    NaN and a missing value are one: no number. Both sides without a number are equal; one side alone is a mismatch, which
    differs. So do lists of different lengths, none of whose values are compared. Equal infinities have difference 0.
    """

    def __init__(self, tolerance: Tolerance, low: float, high: float) -> None:
        self.tolerance = tolerance
        self.low, self.high = (low, high) if low <= high else (0.0, 0.0)
        self.values = self.mismatches = self.other_lengths = self.differing = 0
        self.largest = self._sum = 0.0
        self._bins = np.zeros(_BINS, np.int64)
        self.distributions = np.zeros((2, DISTRIBUTION_BINS), np.int64)

    def add(self, new: pa.Array, old: pa.Array) -> np.ndarray:
        """Count the rows of a batch.

        Returns:
          (rows,) float64: the largest difference of a row that differs, inf where it is none that can be measured; -1 of
          a row within tolerance.
        """
        a, b, row, misshapen = _aligned(new, old)
        nan_a, nan_b = np.isnan(a), np.isnan(b)
        with np.errstate(invalid="ignore", over="ignore"):  # inf - inf, 1e308 - -1e308
            difference = np.abs(a - b)
        difference[a == b] = 0.0
        mismatch = nan_a != nan_b
        measured = difference[~(nan_a | nan_b)]
        self.values += len(measured)
        self.mismatches += int(mismatch.sum())
        self.other_lengths += int(misshapen.sum())
        if len(measured):
            self.largest = max(self.largest, float(measured.max()))
            self._sum += float(measured.sum())
            self._bins += np.bincount(measured.view(np.int64) >> _SHIFT, minlength=_BINS)
        for counts, values in zip(self.distributions, (a, b), strict=True):
            counts += self._distribution(values)

        bound = self.tolerance.absolute + self.tolerance.relative * np.where(np.isfinite(b), np.abs(b), 0.0)
        beyond = mismatch | (difference > bound)
        severity = np.full(len(new), -1.0)
        severity[misshapen] = np.inf
        if beyond.any():
            np.maximum.at(severity, row[beyond], np.where(mismatch, np.inf, difference)[beyond])
        self.differing += int((severity >= 0).sum())
        return severity

    @property
    def mean(self) -> float:
        """To 6 digits: more of them would depend on the order of summation."""
        return float(f"{self._sum / self.values:.6g}") if self.values else 0.0

    def quantile(self, per_mille: int) -> float:
        """The difference that so many of a thousand values do not exceed, at most 0.8% too large."""
        rank = -(-per_mille * self.values // 1000)
        index = int(np.searchsorted(np.cumsum(self._bins), rank))
        if index == 0 or index >= _FINITE_BINS:
            return self.largest if index else 0.0
        return min(_lower_edge(index + 1), self.largest)

    def histogram(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Number of differences that are 0; and of the finite others, by powers of 10^(1/4): edges (n + 1,), counts (n,)."""
        filled = np.flatnonzero(self._bins[:_FINITE_BINS])
        filled = filled[filled > 0]
        if not len(filled):
            return int(self._bins[0]), np.empty(0), np.empty(0, np.int64)
        exponents = np.log10([_lower_edge(int(index)) for index in filled]) * 4
        first, last = int(np.floor(exponents.min())), int(np.floor(exponents.max())) + 1
        counts, _ = np.histogram(exponents, np.arange(first, last + 1), weights=self._bins[filled])
        return int(self._bins[0]), 10.0 ** (np.arange(first, last + 1) / 4), counts.astype(np.int64)

    def _distribution(self, values: np.ndarray) -> np.ndarray:
        finite = values[np.isfinite(values)]
        half = self.high / 2 - self.low / 2  # the whole may be more than a double holds
        share = (finite / 2 - self.low / 2) / half if half > 0 else np.zeros(len(finite))
        index = np.minimum((share * DISTRIBUTION_BINS).astype(np.int64), DISTRIBUTION_BINS - 1)
        return np.bincount(index, minlength=DISTRIBUTION_BINS)


class WorstRows:
    """The rows of the highest severity, and of equal ones those whose keys come first.

    keys: number of leading columns, by which the rows are told apart.
    """

    def __init__(self, keys: int) -> None:
        self._order = [("severity", "descending"), *((f"k{number}", "ascending") for number in range(keys))]
        self._table: pa.Table | None = None

    def add(self, severity: np.ndarray, rows: pa.Table) -> None:
        """severity: (rows,); below 0: no candidate. rows: the key columns k0, k1, ..., and what else is to be kept."""
        candidates = np.flatnonzero(severity >= 0)
        if len(candidates) > WORST_ROWS:
            kept = severity[candidates]
            candidates = candidates[kept >= np.partition(kept, -WORST_ROWS)[-WORST_ROWS]]
        if not len(candidates):
            return
        found = rows.take(pa.array(candidates)).append_column("severity", pa.array(severity[candidates]))
        table = found if self._table is None else pa.concat_tables([self._table, found])
        # A copy: a slice would keep all of its batch.
        self._table = table.take(pc.sort_indices(table, sort_keys=self._order)[:WORST_ROWS])

    def rows(self) -> list[dict[str, Any]]:
        """The rows, the worst first: column -> value."""
        return [] if self._table is None else self._table.to_pylist()


def _aligned(new: pa.Array, old: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The values of rows that have one shape on both sides, and the row each is of; and which rows have not."""
    misshapen = np.zeros(len(new), bool)
    row = np.arange(len(new))
    while pa.types.is_list(new.type):
        lengths_new, lengths_old = (
            pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False) for column in (new, old)
        )
        other = lengths_new != lengths_old
        if other.any():
            misshapen[row[other]] = True
            same = pa.array(~other)
            new, old, row, lengths_new = new.filter(same), old.filter(same), row[~other], lengths_new[~other]
        row = np.repeat(row, np.maximum(lengths_new, 0))
        new, old = new.flatten(), old.flatten()
    a, b = _floats(new), _floats(old)
    if misshapen.any():  # also where only an inner list differs
        same_shape = ~misshapen[row]
        a, b, row = a[same_shape], b[same_shape], row[same_shape]
    return a, b, row, misshapen


def _floats(values: pa.Array) -> np.ndarray:
    """Numbers as float64, NaN where missing."""
    return pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _lower_edge(index: int) -> float:
    """The smallest difference that a bin counts."""
    return float(np.int64(index << _SHIFT).view(np.float64))
