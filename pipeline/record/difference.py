"""Predictions then and now: which rows differ, by how much, and the worst of them as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.probe import differing

Batches = Sequence[Mapping[str, np.ndarray]]
"""Predictions of each batch: key -> array (rows of the batch, ...)."""

_SHOWN = 5


def different_rows(then: Batches, now: Batches) -> dict[str, np.ndarray]:
    """Key -> numbers of the rows that differ beyond the tolerance of `pipeline.probe.differing`; keys that do not: left out.

    Args:
      then, now: the same keys in the same batches.
    """
    reshaped = {key for key in then[0] if _shapes(then, key) != _shapes(now, key)}
    before, after = _joined(then, reshaped), _joined(now, reshaped)
    rows = {key: np.flatnonzero(differing(before, after, key)) for key in before}
    rows |= {key: np.arange(sum(len(batch[key]) for batch in then)) for key in reshaped}
    return {key: rows[key] for key in then[0] if len(rows[key])}


def largest_difference(then: Batches, now: Batches) -> float:
    """The largest difference of a float prediction; 0.0 where there is none. NaN in both places is none."""
    return max(
        (
            float(_distances(before[key], after[key]).max(initial=0.0))
            for before, after in zip(then, now, strict=True)
            for key in before
            if before[key].dtype.kind == "f"
        ),
        default=0.0,
    )


def table(then: Batches, now: Batches, different: Mapping[str, np.ndarray]) -> list[str]:
    """Lines with row, key, then and now of the rows that differ most; of each row and key the value that does."""
    found = []
    for key, rows in different.items():
        before, after = _rows(then, key), _rows(now, key)
        for row in rows.tolist():
            if before[row].shape != after[row].shape:
                found.append((np.inf, row, key, f"shape {before[row].shape}", f"shape {after[row].shape}"))
                continue
            distance = _distances(before[row], after[row])
            place = np.unravel_index(np.argmax(distance), distance.shape)
            name = key + "".join(f"[{index}]" for index in place)
            found.append((float(distance[place]), row, name, _shown(before[row][place]), _shown(after[row][place])))
    worst = sorted(found, key=lambda line: (-line[0], line[1]))[:_SHOWN]
    cells = [("row", "key", "then", "now"), *((str(row), *texts) for _, row, *texts in worst)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [f"  {line}" for line in (*lines, *more)]


def _shapes(batches: Batches, key: str) -> list[tuple[int, ...]]:
    return [batch[key].shape for batch in batches]


def _rows(batches: Batches, key: str) -> list[np.ndarray]:
    return [np.asarray(row) for batch in batches for row in batch[key]]


def _joined(batches: Batches, without: set[str]) -> dict[str, np.ndarray]:
    """Key -> (rows of all batches, ...), filled up where the rows of some batches are longer than those of others."""
    joined = {}
    for key in batches[0].keys() - without:
        arrays = [batch[key] for batch in batches]
        longest = np.max([array.shape for array in arrays], axis=0)
        longest[0] = sum(map(len, arrays))
        filler = b"" if arrays[0].dtype == object else 0
        joined[key], start = np.full(longest, filler, arrays[0].dtype), 0
        for array in arrays:
            place = (slice(start, start + len(array)), *(slice(size) for size in array.shape[1:]))
            joined[key][place] = array
            start += len(array)
    return joined


def _distances(then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """How far values lie apart: numbers by their difference, anything else 0 or infinite; two NaN are alike."""
    if then.dtype.kind not in "fiu" or now.dtype.kind not in "fiu":
        return np.where(then == now, 0.0, np.inf)
    a, b = then.astype(np.float64), now.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    return np.where((then == now) | (np.isnan(a) & np.isnan(b)), 0.0, np.where(np.isnan(distance), np.inf, distance))


def _shown(value: object) -> str:
    return f"{value:.8g}" if isinstance(value, np.floating) else str(value)[:40]
