"""Fitted numbers: z-scores, ranges and buckets of a transform, against the values that they are applied to.

The values are counted as the transform gets them, with what it filled in for missing ones: so they were when it was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.skew.origins import UNKNOWN, Origins, Way, is_same, plain
from pipeline.skew.words import CLOSE, FAR, FEWEST, MOSTLY, Fact, after, constant, share

_DIVISIONS = ("RealDiv", "DivNoNan", "Div")
_AWAY_FROM_ZERO = ("Maximum", "AddV2", "Add")
"""What keeps a deviation from being 0."""
_SEARCHES = ("UpperBound", "LowerBound")


@dataclass(frozen=True)
class Scale:
    """(values - subtracted) / divisor, with two constants.

    way: from the feature to the values.
    kind: `z-score`, where the divisor is a square root; `range`, where it is the largest value less the smallest;
        `linear`, where nothing tells what the constants are.
    tensors: to be fetched: values, subtracted, divisor, scaled, and for `range` largest.
    """

    way: Way
    kind: str
    tensors: Mapping[str, Any]

    def fact(self, found: Mapping[str, np.ndarray]) -> Fact | None:
        """What the fetched tensors tell, None where that is nothing."""
        if self.kind == "range":
            return self._in_range(found["values"], found["subtracted"], found["largest"])
        subtracted, divisor, scaled = found["subtracted"], found["divisor"], found["scaled"]
        if subtracted.size > 1 or divisor.size > 1:
            return self._of_columns(scaled, max(subtracted.size, divisor.size))
        if self.kind == "z-score":
            text = f"z-score by mean {constant(subtracted)} and deviation {constant(divisor)}"
        else:
            text = f"less {constant(subtracted)}, divided by {constant(divisor)}"
        text += after(self.way.changes)
        mean, is_varied = _mean(scaled)
        if mean is None:
            return self._told(text)
        if self.kind == "linear":
            return self._told(f"{text}: the mean becomes {mean:.2g}" if is_varied else text)
        if not is_varied:  # the mean of equal values is the value
            where = f"{'more than' if abs(mean) > FAR else 'within'} {FAR:g} deviations of that"
        elif abs(mean) < CLOSE:
            where = f"within {CLOSE:g} deviations of that"
        else:
            where = f"{abs(mean):.2g} deviations {'above' if mean > 0 else 'below'} that"
        return self._told(f"{text}: the mean here is {where}", abs(mean) > FAR)

    def _of_columns(self, scaled: np.ndarray, columns: int) -> Fact | None:
        if self.kind != "z-score" or scaled.shape[-1:] != (columns,):
            return None
        means = [_mean(column)[0] for column in scaled.reshape(-1, columns).T]
        far = sum(mean is not None and abs(mean) > FAR for mean in means)
        text = f"z-scores of {columns:,} columns{after(self.way.changes)}: the mean of {far:,} is more than {FAR:g} deviations off"
        return self._told(text, far > 0)

    def _in_range(self, values: np.ndarray, smallest: np.ndarray, largest: np.ndarray) -> Fact | None:
        known = int((~np.isnan(values)).sum())
        if not known or not (smallest < largest).all():
            return None
        outside = int(((values < smallest) | (values > largest)).sum())
        if smallest.size == 1:
            fitted = f"range {constant(smallest)} to {constant(largest)}"
        else:
            fitted = f"ranges of {smallest.size:,} columns"
        text = f"fitted {fitted}{after(self.way.changes)}: {share(outside, known)} of {known:,} values are outside"
        return self._told(text, known >= FEWEST and outside > MOSTLY * known)

    def _told(self, text: str, is_skew: bool = False) -> Fact:
        return Fact((self.way.feature,), text, is_skew)


@dataclass(frozen=True)
class Buckets:
    """Buckets between constant boundaries.

    way: from the feature to the values. tensors: to be fetched: values, and boundaries unless they are given here.
    """

    way: Way
    tensors: Mapping[str, Any]
    boundaries: tuple[float, ...] = ()

    def fact(self, found: Mapping[str, np.ndarray]) -> Fact | None:
        """What the fetched tensors tell, None where that is nothing."""
        boundaries = np.asarray(found.get("boundaries", self.boundaries)).reshape(-1)
        boundaries = boundaries[np.isfinite(boundaries)]
        values = found["values"]
        known = int((~np.isnan(values)).sum())
        if not boundaries.size or not known:
            return None
        first, last = boundaries[0], boundaries[-1]
        below, above = int((values < first).sum()), int((values > last).sum())
        those_below = f"{share(below, known)} of {known:,} values"
        if boundaries.size == 1:
            text = f"2 buckets, split at {constant(first)}{after(self.way.changes)}: {those_below} below"
        else:
            text = f"buckets with {boundaries.size:,} boundaries from {constant(first)} to {constant(last)}"
            text += f"{after(self.way.changes)}: {those_below} below the first, {share(above, known)} above the last"
        # Of two buckets, one always has half of the values.
        is_skew = boundaries.size > 1 and known >= FEWEST and max(below, above) > MOSTLY * known
        return Fact((self.way.feature,), text, is_skew)


def scales(operations: list[Any], origins: Origins) -> list[Scale]:
    """The scalings by constants among the operations of a flat graph."""
    found = []
    for operation in operations:
        if operation.type not in _DIVISIONS:
            continue
        difference, divisor = plain(operation.inputs[0]), operation.inputs[1]
        if difference.op.type != "Sub" or not origins.is_constant(divisor):
            continue
        values, subtracted = difference.op.inputs
        way = _way_alone(origins, values)
        if way is None or not origins.is_constant(subtracted):
            continue
        tensors = {
            "values": values,
            "subtracted": subtracted,
            "divisor": divisor,
            "scaled": operation.outputs[0],
        }
        kind, largest = _kind(plain(divisor), subtracted)
        if largest is not None:
            tensors["largest"] = largest
        found.append(Scale(way, kind, tensors))
    return found


def buckets(operations: list[Any], origins: Origins) -> list[Buckets]:
    """The bucketizations by constant boundaries among the operations of a flat graph."""
    found = []
    for operation in operations:
        if operation.type == "Bucketize":
            values, boundaries = operation.inputs[0], None
        elif operation.type in _SEARCHES:
            boundaries, values = operation.inputs
            # The rows of a table of boundaries belong to keys, such as one for each company.
            if (
                not origins.is_constant(boundaries)
                or boundaries.shape.rank != 2
                or boundaries.shape[0] not in (1, None)
            ):
                continue
        else:
            continue
        way = _way_alone(origins, values)
        if way is not None and boundaries is None:
            found.append(Buckets(way, {"values": values}, tuple(operation.get_attr("boundaries"))))
        elif way is not None:
            found.append(Buckets(way, {"values": values, "boundaries": boundaries}))
    return found


def _way_alone(origins: Origins, values: Any) -> Way | None:
    """The way from the one feature that numbers come from, if nothing else has a say in them."""
    way = origins.way(values)
    if way is None or origins.features(values) - {UNKNOWN} != {way.feature} or values.dtype.name == "string":
        return None
    return way


def _kind(divisor: Any, subtracted: Any) -> tuple[str, Any]:
    """What a scaling is, and the largest value of a range."""
    operation = divisor.op
    if operation.type == "Sub" and is_same(operation.inputs[1], subtracted):
        return "range", operation.inputs[0]
    if operation.type in _AWAY_FROM_ZERO:
        operation = next((plain(given).op for given in operation.inputs if plain(given).op.type == "Sqrt"), operation)
    return ("z-score" if operation.type == "Sqrt" else "linear"), None


def _mean(values: np.ndarray) -> tuple[float | None, bool]:
    """The mean of the finite ones, None of too few; and whether they differ."""
    finite = values[np.isfinite(values)]
    if finite.size < FEWEST:
        return None, False
    return float(finite.mean(dtype=np.float64)), bool((finite != finite.flat[0]).any())
