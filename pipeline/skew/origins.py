"""The way back in a flat graph: which raw feature a tensor comes from, and what was done to it on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNKNOWN = "?"
"""Stands for what is no value of a feature and no constant either, such as the number of rows of a batch."""

_SAME_VALUES = (
    "Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "Snapshot", "EnsureShape",
    "PlaceholderWithDefault", "PreventGradient", "CheckNumerics",
)  # fmt: skip
_PART_OF_VALUES = ("StridedSlice",)
_SHAPE_ALONE = ("Shape", "ShapeN", "Size", "Rank", "ZerosLike", "OnesLike")
_LOOPS = ("Enter", "Exit", "Merge", "NextIteration", "Switch", "RefMerge", "RefSwitch")
_BY_VALUE = (
    "Abs", "AddV2", "Add", "AsString", "Cast", "Ceil", "ClipByValue", "Div", "Exp", "Expm1", "Floor", "FloorDiv",
    "FloorMod", "Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg", "Pow", "RealDiv", "RegexReplace", "Round", "Sigmoid",
    "Sign", "Sqrt", "Square", "StaticRegexReplace", "StringLower", "StringStrip", "StringToNumber", "StringUpper", "Sub",
    "Substr", "Tanh",
)  # fmt: skip
"""Operations that make of each value one value, in its place, as long as all inputs but one are constants."""
SELECTS = ("Select", "SelectV2")
FILLS = ("SparseToDense", "RaggedTensorToTensor")
"""Operations that put a default where a feature has no value."""


@dataclass(frozen=True)
class Way:
    """How the values of a tensor come from those of one raw feature.

    feature: its name.
    changes: types of the operations that changed the values, from the feature on; empty where they are as in the rows.
    fill: the operation that put a default where the feature has no value, or None.
    """

    feature: str
    changes: tuple[str, ...] = ()
    fill: Any = None


class Origins:
    """Looks back from tensors of a flat graph to the raw features.

    values: tensor of the values of a feature -> its name. structure: the other tensors that rows are made of: indices,
    shapes and row splits.
    """

    def __init__(self, values: Mapping[Any, str], structure: Iterable[Any]):
        self._values = {tensor.ref(): name for tensor, name in values.items()}
        self._features: dict[Any, frozenset[str]] = {ref: frozenset([name]) for ref, name in self._values.items()}
        self._features |= {tensor.ref(): frozenset([UNKNOWN]) for tensor in structure}
        self._ways: dict[Any, Way | None] = {}

    def features(self, tensor: Any) -> frozenset[str]:
        """Features whose values a tensor is computed from, and `UNKNOWN` where something else is in it; empty: a constant."""
        stack = [tensor]
        while stack:
            current = stack[-1]
            operation = current.op
            missing = [given for given in operation.inputs if given.ref() not in self._features]
            if current.ref() in self._features:
                stack.pop()
            elif operation.type in _LOOPS or operation.type in _SHAPE_ALONE or operation.type == "Placeholder":
                self._features[current.ref()] = frozenset([UNKNOWN])
            elif missing:
                stack += missing
            else:
                self._features[current.ref()] = frozenset().union(
                    *(self._features[given.ref()] for given in operation.inputs)
                )
        return self._features[tensor.ref()]

    def is_constant(self, tensor: Any) -> bool:
        """Whether a tensor is the same for all rows: a constant of the transform, or computed from constants alone."""
        return not self.features(tensor)

    def way(self, tensor: Any) -> Way | None:
        """The way from one feature to a tensor, value by value in the feature's order; None where it is not that clear."""
        if tensor.ref() not in self._ways:
            self._ways[tensor.ref()] = self._way_to(tensor)
        return self._ways[tensor.ref()]

    def _way_to(self, tensor: Any) -> Way | None:
        changes: list[str] = []
        fill, is_part = None, False
        while tensor.ref() not in self._values:
            operation = tensor.op
            inputs = operation.inputs
            varying = [given for given in inputs if not self.is_constant(given)]
            if operation.type in FILLS:
                values, default = fill_inputs(operation)
                if fill is not None or is_part or not self.is_constant(default):
                    return None
                fill, tensor = operation, values
            elif operation.type in _SAME_VALUES:
                tensor = inputs[tensor.value_index]
            elif operation.type in _PART_OF_VALUES and all(map(self.is_constant, inputs[1:])):
                is_part, tensor = True, inputs[0]
            elif operation.type in _BY_VALUE and len(varying) == 1:
                changes.append(operation.type)
                tensor = varying[0]
            elif operation.type in SELECTS:
                chosen = {self.way(given) for given in inputs[1:] if not self.is_constant(given)}
                if None in chosen or len({(way.feature, way.fill) for way in chosen if way}) != 1:
                    return None
                way = max(chosen, key=lambda way: len(way.changes) if way else 0)
                if way is None or (way.fill is not None and (fill is not None or is_part)):
                    return None
                return Way(way.feature, (*way.changes, operation.type, *reversed(changes)), fill or way.fill)
            else:
                return None
        return Way(self._values[tensor.ref()], tuple(reversed(changes)), fill)


def fill_inputs(operation: Any) -> tuple[Any, Any]:
    """The values and the default of an operation that makes a dense tensor of a sparse or ragged one."""
    sparse = operation.type == "SparseToDense"
    return (operation.inputs[2], operation.inputs[3]) if sparse else (operation.inputs[1], operation.inputs[2])


def plain(tensor: Any) -> Any:
    """The tensor that has the same values first, on the way back."""
    while tensor.op.type in _SAME_VALUES:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def is_same(first: Any, second: Any) -> bool:
    """Whether two tensors have the same values for certain: they are one, or read one variable."""
    first, second = plain(first), plain(second)
    if first.op.type == second.op.type == "ReadVariableOp":
        first, second = plain(first.op.inputs[0]), plain(second.op.inputs[0])
    return first is second
