"""Params with attributes, as `tf.contrib.training.HParams` had them (`model.params_as: attributes`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Params:
    """`params.units`, `params.get("units", 8)`, `"units" in params`, `params.values()` as a dict.

    A name that is not there raises AttributeError. They can be copied and pickled.
    """

    def __init__(self, values: Mapping[str, Any]):
        self.__dict__.update(values)

    def values(self) -> dict[str, Any]:
        """Name -> value of all of them."""
        return dict(self.__dict__)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default."""
        return self.__dict__.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self.__dict__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Params) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        return f"Params({self.__dict__!r})"
