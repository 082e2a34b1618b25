"""Source columns to the columns that the graph is fed with: exact, or the row is bad."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.exact import Refused, can_hold, exact_values, type_name
from pipeline.features import Feature
from pipeline.rows import Columns

_EXAMPLE_LISTS = {"float32": "float_list", "int64": "int64_list", "string": "bytes_list"}


class Decoded(NamedTuple):
    """A raw feature of some rows.

    values: of `feature.arrow_type`, without nulls; a bad row holds a filler.
    present: bool (rows,), False where the row has no value.
    bad: index of a row -> why its value is not taken; never holds the value.
    missing: bool (rows,), True where the row has nothing at all, in difference to an empty list.
    """

    values: pa.Array
    present: np.ndarray
    bad: dict[int, str]
    missing: np.ndarray


class Leaves(NamedTuple):
    """The values of some rows laid out flat.

    values: of the feature's value type. starts, counts: int64 (rows,), where a row's values lie; 0 of them if `missing`.
    bad: rows that do not have the feature's shape, or hold a value that is refused.
    """

    values: pa.Array
    starts: np.ndarray
    counts: np.ndarray
    missing: np.ndarray
    bad: dict[int, str]


def decode_column(values: pa.Array | pa.ChunkedArray, feature: Feature, *, optional: bool = False) -> Decoded:
    """Decode a typed column.

    Args:
      values: of any Arrow type. A fixed feature takes lists nested as its shape, flat lists of all its values as a
        tf.Example has them, and plain values where it has one. A list feature takes flat lists and plain values, a
        sequence lists of steps too.
      optional: a missing value gives the feature's filler although it has no default.
    """
    array = _plain(values)
    if _is_decoded(array, feature):
        return Decoded(array, np.ones(len(array), bool), {}, np.zeros(len(array), bool))
    depth, value_type = _depth(array.type)
    refusal = _type_refusal(depth, value_type, feature)
    if refusal is not None:
        missing = _nulls(array)
        none = np.zeros(len(array), np.int64)
        bad = dict.fromkeys(np.flatnonzero(~missing).tolist(), refusal)
        leaves = Leaves(exact_values(pa.nulls(0), feature.dtype).values, none, none, missing, bad)
    else:
        leaves = _leaves_of_lists(array, depth, feature) if depth else _leaves_of_values(array, feature)
    return to_rows(leaves, feature, optional)


def _is_decoded(array: pa.Array, feature: Feature) -> bool:
    """Whether it is what decoding would give, as it is most often."""
    if array.type != feature.arrow_type or feature.is_list:
        return False
    return array.null_count == 0 and not (feature.shape and array.values.null_count)


def to_rows(leaves: Leaves, feature: Feature, optional: bool) -> Decoded:
    """Check how many values each row has, fill in what is missing, and make a column of it."""
    bad = dict(leaves.bad)
    if feature.kind == "fixed":
        for row in np.flatnonzero((leaves.counts != feature.size) & ~leaves.missing).tolist():
            bad.setdefault(row, f"expected {wanted(feature)}, found {_number(leaves.counts[row])}")
        if feature.default is None and not optional:
            bad.update(dict.fromkeys(np.flatnonzero(leaves.missing).tolist(), "missing, and it has no default"))
    if feature.kind == "sequence":
        for row in np.flatnonzero(leaves.counts % feature.size).tolist():
            bad.setdefault(row, f"expected {wanted(feature)}, found {_number(leaves.counts[row])}")
    usable = ~leaves.missing
    usable[list(bad)] = False
    present = leaves.counts > 0
    present[list(leaves.bad)] = True
    values = _list_rows(leaves, usable) if feature.is_list else _fixed_rows(leaves, feature, usable)
    return Decoded(values, present, bad, leaves.missing)


def refused_rows(refused: Refused, row_of: np.ndarray, feature: Feature) -> dict[int, str]:
    """Reasons by row, out of refusals by value. row_of: the row of every value, -1 for those that are in none."""
    bad: dict[int, str] = {}
    for found, indexes in refused.items():
        for row in np.unique(row_of[indexes]).tolist():
            if row >= 0:
                bad.setdefault(row, f"expected {feature.dtype}, found {found}")
    return bad


def wanted(feature: Feature) -> str:
    """The shape of a row of a feature, in words."""
    if feature.kind == "sequence" and feature.shape:
        return f"steps of shape {feature.shape} = {_number(feature.size)} each"
    if feature.is_list:
        return "a flat list"
    return f"shape {feature.shape} = {_number(feature.size)}" if feature.shape else "one value"


def found_shape(value: list[Any]) -> str:
    """The shape of a nested list, in words."""
    shape: list[int] = []
    level: list[Any] = [value]
    while level and all(isinstance(item, list) for item in level):
        lengths = {len(item) for item in level}
        if len(lengths) > 1:
            return "lists of different lengths"
        shape.append(lengths.pop())
        level = [item for items in level for item in items]
    if any(isinstance(item, list) for item in level):
        return "lists beside nulls or single values"
    return f"shape {tuple(shape)}"


def explain_example(record: bytes, columns: Columns) -> str | None:
    """Why `tf.io.parse_example` refuses a serialized tf.Example, or None if it does not."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.example.example_pb2 import Example  # only a refused row pays for it

    try:
        values = Example.FromString(record).features.feature
    except DecodeError:
        return "the record is not a tf.Example"
    for name, feature in columns.features.items():
        if feature.is_composite:
            reason = _explain_fields(values, feature.renamed(columns.source))
        else:
            reason = _explain_value(values.get(columns.source(name)), feature, optional=name in columns.optional)
        if reason is not None:
            return f"feature {name!r}: {reason}"
    for name, column in columns.passthrough.items():
        source = columns.source(column.source)
        dtype = _example_dtype(column.type)
        reason = (
            _explain_value(values[source], Feature(source, dtype, "ragged")) if source in values and dtype else None
        )
        if reason is not None:
            return f"pass-through column {name!r}: {reason}"
    return None


def _explain_fields(values: Any, feature: Feature) -> str | None:
    counts = {}
    for part in feature.parts:
        value = values.get(part.name)
        reason = _explain_value(value, part)
        if reason is not None:
            return f"{part.name!r}: {reason}"
        counts[part.name] = len(getattr(value, _EXAMPLE_LISTS[part.dtype]).value) if value is not None else 0
    return unequal_fields(counts) if feature.kind == "sparse" else None


def unequal_fields(counts: Mapping[str, int]) -> str | None:
    """Why a sparse feature with so many indices and values in a row cannot be read; None where they are as many."""
    if len(set(counts.values())) < 2:
        return None
    found = " and ".join(f"{_number(count)} of {key!r}" for key, count in counts.items())
    return f"expected as many indices as values, found {found}"


def _explain_value(value: Any, feature: Feature, optional: bool = True) -> str | None:
    kind = value.WhichOneof("kind") if value is not None else None
    if kind is None:
        needed = feature.kind == "fixed" and feature.default is None and not optional
        return "missing, and it has no default" if needed else None
    if kind != _EXAMPLE_LISTS[feature.dtype]:
        return f"expected {feature.dtype} ({_EXAMPLE_LISTS[feature.dtype]}), found {kind}"
    count = len(getattr(value, kind).value)
    if count != feature.size if feature.kind == "fixed" else feature.kind == "sequence" and count % feature.size:
        return f"expected {wanted(feature)}, found {_number(count)}"
    return None


def _example_dtype(output: pa.DataType | None) -> str | None:
    """The dtype that a pass-through column is parsed as."""
    if output is None:
        return None
    if pa.types.is_integer(output):
        return "int64"
    return "float32" if pa.types.is_floating(output) else "string"


def _leaves_of_values(array: pa.Array, feature: Feature) -> Leaves:
    rows = np.arange(len(array))
    missing = _nulls(array)
    values, refused = exact_values(array, feature.dtype)
    bad = refused_rows(refused, np.where(missing, -1, rows), feature) if refused else {}
    return Leaves(values, rows, (~missing).astype(np.int64), missing, bad)


def _leaves_of_lists(array: pa.Array, depth: int, feature: Feature) -> Leaves:
    nested: tuple[int | None, ...] = (None, *feature.shape) if feature.is_list else feature.shape
    starts, counts, misshapen, flat = _extents(array, nested if depth > 1 else None)
    missing = _nulls(array)
    misshapen &= ~missing
    counts = np.where(misshapen | missing, 0, counts)
    bad = {
        row: f"expected {wanted(feature)}, found {found_shape(array[row].as_py())}"
        for row in np.flatnonzero(misshapen).tolist()
    }
    flat = _plain(flat)
    values, refused = exact_values(flat, feature.dtype)
    if refused or flat.null_count:
        row_of = np.full(len(flat), -1)
        row_of[_ranges(starts, counts)] = np.repeat(np.arange(len(array)), counts)
        bad.update(refused_rows(refused, row_of, feature))
        holes = np.unique(row_of[_nulls(flat)]).tolist()
        bad.update((row, "a null inside its list") for row in holes if row >= 0)
    return Leaves(values, starts, counts, missing, bad)


def _extents(
    array: pa.Array, shape: tuple[int | None, ...] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, pa.Array]:
    """Start and number of the values of every list, whether it has not the shape (None: any length), and all values.

    `flatten` would leave out what stands behind a null and shift the rest, so offsets are read instead.
    """
    starts, counts, inner = _children(array)
    misshapen = counts != shape[0] if shape and shape[0] is not None else np.zeros(len(array), bool)
    if not _is_list(inner.type):
        return starts, counts, misshapen, inner
    assert shape is not None  # lists of lists are only taken for a shape
    inner_starts, _, inner_misshapen, values = _extents(inner, shape[1:])
    before = np.concatenate([[0], np.cumsum(inner_misshapen | _nulls(inner))])
    misshapen |= before[starts + counts] > before[starts]
    values_before = np.concatenate([inner_starts, [0]])  # an empty list may start behind the last one
    return values_before[starts], counts * math.prod(size or 0 for size in shape[1:]), misshapen, values


def _children(array: pa.Array) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Start and length of every list in the child array, which is cut to what a slice covers."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        return (
            np.arange(len(array)) * size, np.full(len(array), size),
            array.values.slice(array.offset * size, len(array) * size),
        )  # fmt: skip
    offsets = array.offsets.to_numpy().astype(np.int64) if len(array) else np.zeros(1, np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    return offsets[:-1] - first, np.diff(offsets), array.values.slice(first, last - first)


def _fixed_rows(leaves: Leaves, feature: Feature, usable: np.ndarray) -> pa.Array:
    rows, size = len(usable), feature.size
    flat = leaves.values
    if not (usable.all() and len(flat) == rows * size and (leaves.starts == np.arange(rows) * size).all()):
        starts = np.where(usable, leaves.starts, len(flat))
        flat = pa.concat_arrays([flat, _filler(feature)]).take(
            pa.array((starts[:, None] + np.arange(size)).reshape(-1))
        )
    return pa.Array.from_buffers(feature.arrow_type, rows, [None], children=[flat]) if feature.shape else flat


def _list_rows(leaves: Leaves, usable: np.ndarray) -> pa.Array:
    counts = np.where(usable, leaves.counts, 0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    flat = leaves.values
    if len(flat) != offsets[-1] or (leaves.starts != offsets[:-1])[counts > 0].any():
        flat = flat.take(pa.array(_ranges(leaves.starts, counts)))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), flat)


def _filler(feature: Feature) -> pa.Array:
    """What stands in a row without a usable value: as many values as a row has."""
    dtype = object if feature.dtype == "string" else feature.dtype
    filler = np.broadcast_to(np.asarray(feature.filler, dtype).reshape(-1), (feature.size,))
    return pa.array(filler.tolist() if dtype is object else filler, feature.value_type)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The ranges start, start + 1, ... of `count` numbers each, one after the other."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(ends[-1] if ends.size else 0)


def _type_refusal(depth: int, value_type: pa.DataType, feature: Feature) -> str | None:
    if depth > 1 and depth != _deepest(feature):
        return f"expected {wanted(feature)}, found lists nested {depth} deep"
    if not can_hold(feature.dtype, value_type):
        return f"expected {feature.dtype}, found {type_name(value_type)}"
    return None


def _deepest(feature: Feature) -> int:
    """How deep the lists of a column may be nested, where they are nested at all."""
    return len(feature.shape) + (feature.kind == "sequence")


def _depth(source: pa.DataType) -> tuple[int, pa.DataType]:
    """How deep lists are nested, and the type of a single value."""
    depth = 0
    while _is_list(source):
        source, depth = source.value_type, depth + 1
    return depth, source.value_type if pa.types.is_dictionary(source) else source


def _is_list(source: pa.DataType) -> bool:
    return pa.types.is_list(source) or pa.types.is_large_list(source) or pa.types.is_fixed_size_list(source)


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array without an encoding."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _nulls(array: pa.Array) -> np.ndarray:
    return array.is_null().to_numpy(zero_copy_only=False) if array.null_count else np.zeros(len(array), bool)


def _number(values: int) -> str:
    return {0: "an empty list", 1: "1 value"}.get(values, f"{values} values")
