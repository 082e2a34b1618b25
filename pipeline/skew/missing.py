"""Missing values of features, and what stands for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.features import Feature
from pipeline.skew.origins import FILLS, Origins, Way, fill_inputs
from pipeline.skew.words import FEWEST, Fact, constant, share

NONE_MISSING = "none missing"


@dataclass(frozen=True)
class Fill:
    """A constant that the transform puts where a feature has no value.

    way: from the feature to the values beside it. default: the constant, to be fetched.
    """

    way: Way
    default: Any


def fills(operations: list[Any], origins: Origins) -> list[Fill]:
    """The constants that are filled in by operations of a flat graph; those beside unchanged values come first."""
    ways = [(operation, origins.way(operation.outputs[0])) for operation in operations if operation.type in FILLS]
    found = [Fill(way, fill_inputs(operation)[1]) for operation, way in ways if way is not None]
    return sorted(found, key=lambda fill: len(fill.way.changes))


def filled_in(defaults: Iterable[tuple[Fill, np.ndarray]]) -> str:
    """What stands for the missing values of one feature, in words; empty where nothing does."""
    told = [constant(default) + (" after other steps" if fill.way.changes else "") for fill, default in defaults]
    return f"the transform fills in {' and '.join(dict.fromkeys(told))}" if told else ""


@dataclass(frozen=True)
class Presence:
    """How many of the rows that were read have a value of a feature. optional: whether shards may lack it."""

    feature: Feature
    optional: bool
    read: int
    present: int

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.read - self.present

    @property
    def fillers(self) -> int:
        """Values that stand for missing ones before the transform gets them."""
        return self.missing * self.feature.size if self._is_filled else 0

    @property
    def _is_filled(self) -> bool:
        return self.feature.kind == "fixed" and (self.feature.default is not None or self.optional)

    def fact(self, fill: str) -> Fact:
        """How many values are missing. fill: what the transform fills in, in words, or empty."""
        name = (self.feature.name,)
        if not self.present:
            allowed = ", as input.optional allows" if self.optional else ""
            return Fact(name, f"missing in every row{allowed}", not self.optional and self.read >= FEWEST)
        if not self.missing:
            return Fact(name, NONE_MISSING)
        text = f"{share(self.missing, self.read)} missing"
        if self._is_filled:
            default = np.asarray(self.feature.filler, object)
            fill = f"the default is {constant(default)}" if default.size == 1 else "which get the default"
        elif self.feature.kind == "fixed":
            fill = "and rejected"
        return Fact(name, f"{text}, {fill}" if fill else text)


def of_values(feature: Feature, values: np.ndarray) -> list[Fact]:
    """What the values of a feature show without a transform: NaN, and a column that never changes."""
    name, facts = (feature.name,), []
    count = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    if count:
        text = f"{share(count, values.size)} of {values.size:,} values are NaN"
        facts.append(Fact(name, text, count == values.size >= FEWEST))
    if feature.kind == "fixed" and len(values) >= FEWEST and (values == values[:1]).all():
        facts.append(Fact(name, "the same in every row"))
    return facts
