"""Text to the columns that the graph is fed with: cells of CSV, and values as json gives them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.decode import Decoded, Leaves, decode_column, found_shape, refused_rows, to_rows, wanted
from pipeline.exact import exact_objects
from pipeline.features import Feature

_TOO_LARGE = 10**400
"""In place of a finite number that no float is large enough for: every dtype refuses it, as it is no infinity."""


def decode_text(cells: pa.Array, feature: Feature, *, optional: bool = False) -> Decoded:
    """Decode cells of CSV: binary, null where missing. A feature with a shape and a list are JSON in the cell."""
    if feature.kind == "fixed" and not feature.shape:
        return decode_column(cells, feature, optional=optional)
    values: list[Any] = []
    unreadable: dict[int, str] = {}
    for row, cell in enumerate(cells.to_pylist()):
        value = None
        if cell is not None:
            try:
                value = parse_json(cell.decode())
            except (ValueError, RecursionError):
                unreadable[row] = f"expected {wanted(feature)} as JSON, found text that is not JSON"
        values.append(value)
    return _decode_objects(values, feature, optional, unreadable)


def parse_json(text: str, **hooks: Any) -> Any:
    """`json.loads`, where a number that is too large for a float does not become infinite."""
    return json.loads(text, parse_float=_float, **hooks)


def _float(written: str) -> float | int:
    number = float(written)
    return number if math.isfinite(number) else int(math.copysign(1, number)) * _TOO_LARGE


def decode_json(values: Sequence[Any], feature: Feature, *, optional: bool = False) -> Decoded:
    """Decode Python values: None, bool, int, float, Decimal, str, bytes, and lists of them, nested as a shape is."""
    return _decode_objects(values, feature, optional, {})


def _decode_objects(values: Sequence[Any], feature: Feature, optional: bool, unreadable: dict[int, str]) -> Decoded:
    bad = dict(unreadable)
    rows = np.arange(len(values))
    null = np.array([value is None for value in values], bool)
    missing = null.copy()
    missing[list(unreadable)] = False
    if list not in map(type, values):
        flat, starts, counts, row_of = values, rows, (~null).astype(np.int64), np.where(null, -1, rows)
    else:
        flat, lengths = [], []
        for row, value in enumerate(values):
            items = [] if value is None else _flat(value, feature)
            if items is None:
                bad[row], items = f"expected {wanted(feature)}, found {found_shape(value)}", []
            elif None in items:
                bad[row] = "a null inside its list"
            flat += items
            lengths.append(len(items))
        counts = np.array(lengths, np.int64)
        starts, row_of = np.cumsum(counts) - counts, np.repeat(rows, counts)
    exact, refused = exact_objects(flat, feature.dtype)
    for row, reason in refused_rows(refused, row_of, feature).items():
        bad.setdefault(row, reason)
    return to_rows(Leaves(exact, starts, counts, missing, bad), feature, optional)


def _flat(value: Any, feature: Feature) -> list[Any] | None:
    """The values of a row: one alone, a flat list, or a list nested as the feature's shape; None for any other."""
    if not isinstance(value, list):
        return [value]
    if list not in map(type, value):
        return value
    level = list(value) if feature.kind == "sequence" else [value]
    for length in feature.shape:
        if any(type(items) is not list or len(items) != length for items in level):
            return None
        level = list(chain.from_iterable(level))
    return None if list in map(type, level) else level
