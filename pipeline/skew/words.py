"""What was found out about features, in words that hold no value of a row: constants of the transform, counts and shares."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

MOSTLY = 0.5
"""Share of values above which a feature is not what the transform was fitted on: most of them are outside."""

FAR = 3.0
"""Deviations of the mean from that of the training: a single value is this far off in 3 of 1,000 rows, a mean never."""

CLOSE = 0.05
"""Deviations of the mean that are not worth a number."""

FEWEST = 20
"""Values below which nothing is a warning: a share of fewer may be chance. Nor is their mean told, which says much of one."""


@dataclass(frozen=True)
class Fact:
    """Something about features. features: their names, sorted. text: in words. is_skew: whether it deserves a warning."""

    features: tuple[str, ...]
    text: str
    is_skew: bool = False


def share(count: int, total: int) -> str:
    """A count as a percentage of a total above 0; 0% and 100% are exact, and what is close to them is not written so."""
    percent = 100 * count / total
    if 0 < percent < 0.1:
        return "under 0.1%"
    if 99.9 < percent < 100:
        return "over 99.9%"
    return f"{percent:.1f}".removesuffix(".0") + "%"


def constant(value: Any) -> str:
    """A scalar constant of a transform, such as a mean or a default."""
    value = np.asarray(value).item()
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def after(changes: Collection[str]) -> str:
    """How the values of a feature were changed before; a change of dtype is none."""
    kinds = [kind for kind in dict.fromkeys(changes) if kind != "Cast"]
    if not kinds:
        return ""
    return f" (after {', '.join(kinds[:3])}{' and more' if len(kinds) > 3 else ''})"
