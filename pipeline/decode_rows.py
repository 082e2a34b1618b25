"""Rows of a source to a chunk: features and pass-through columns of the good ones, reasons for the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.decode import Decoded, decode_column, unequal_fields
from pipeline.decode_text import decode_json, decode_text
from pipeline.exact import type_name
from pipeline.features import Feature
from pipeline.rows import (
    RECORD,
    ROW,
    Chunk,
    Columns,
    PassThrough,
    Rejected,
    feature_column,
    passthrough_column,
    record_bytes,
)


def decode_rows(
    source: Mapping[str, Any],
    columns: Columns,
    numbers: np.ndarray,
    *,
    text: bool = False,
    record: pa.Array | None = None,
    bad: Mapping[int, str] | None = None,
) -> Chunk:
    """Decode rows.

    Args:
      source: name in the file -> values of all rows: an Arrow array, or a list of what json gives. A column that is not
        there is missing in every row.
      numbers: int64 (rows,), of the rows in their shard.
      text: Arrow arrays are cells of CSV: binary, null where missing.
      record: the rows as they stand in the shard, or None where they are not kept.
      bad: index of a row -> reason, for rows that are known to be bad.
    """
    rows = len(numbers)
    reasons = dict(bad or {})
    names, arrays, present = [ROW], [pa.array(numbers, pa.int64())], {}
    if record is not None:
        names.append(RECORD)
        arrays.append(record)
    fields: dict[str, Decoded] = {}
    for name, feature in columns.decoded.items():
        values = source.get(columns.source(name))
        decoded = _decode(pa.nulls(rows) if values is None else values, feature, columns.may_lack(name), text)
        names.append(feature_column(name))
        arrays.append(decoded.values)
        fields[name] = decoded
        for row, reason in decoded.bad.items():
            reasons.setdefault(row, f"feature {name!r}: {reason}")
    for name, feature in columns.features.items():
        field = fields[feature.parts[-1].name if feature.is_composite else name]
        present[name] = int(np.count_nonzero(field.present))
        if feature.kind == "sparse":
            for row, reason in _unequal_rows(feature, fields).items():
                reasons.setdefault(row, f"feature {name!r}: {reason}")
    for name, column in columns.passthrough.items():
        array, misfits = _pass_through(source.get(columns.source(column.source)), column, columns, rows, text)
        names.append(passthrough_column(name))
        arrays.append(array)
        for row, reason in misfits.items():
            reasons.setdefault(row, f"pass-through column {name!r}: {reason}")
    batch = pa.RecordBatch.from_arrays(arrays, names)
    if not reasons:
        return Chunk(batch, (), rows, present)
    rejected = tuple(
        Rejected(int(numbers[row]), "read", reasons[row], record_bytes(batch, row)) for row in sorted(reasons)
    )
    good = np.ones(rows, bool)
    good[list(reasons)] = False
    return Chunk(batch.filter(pa.array(good)), rejected, rows, present)


def _unequal_rows(feature: Feature, fields: Mapping[str, Decoded]) -> dict[int, str]:
    """Rows with another number of indices than of values, and why these cannot be read."""
    counts = {part.name: np.diff(fields[part.name].values.offsets.to_numpy()) for part in feature.parts}
    first, *others = counts.values()
    unequal = np.flatnonzero(np.any([other != first for other in others], axis=0)).tolist()
    return {row: unequal_fields({key: int(each[row]) for key, each in counts.items()}) or "" for row in unequal}


def _decode(values: Any, feature: Feature, optional: bool, text: bool) -> Decoded:
    if isinstance(values, list):
        return decode_json(values, feature, optional=optional)
    return (decode_text if text else decode_column)(values, feature, optional=optional)


def _pass_through(
    values: Any, column: PassThrough, columns: Columns, rows: int, text: bool
) -> tuple[pa.Array, dict[int, str]]:
    """A pass-through column, null where missing, and the rows that do not fit its type."""
    feature = _feature_behind(column, columns)
    typed = isinstance(values, pa.Array) and not text
    wanted = column.type
    if wanted is None:
        wanted = values.type if typed else output_type(feature) if feature is not None else pa.string()
    if values is None:
        return pa.nulls(rows, wanted), {}
    if typed and values.type == wanted:
        return fitting(values, wanted)
    if feature is None or output_type(feature) != wanted:
        feature = _as_feature(wanted)
    # Other types, such as a timestamp, come out of text by Arrow's own safe cast.
    if feature is None and typed:
        return fitting(values, wanted)
    decoded = _decode(values, replace(feature or Feature("", "string"), default=None), True, text)
    without_value = decoded.missing.copy()
    without_value[list(decoded.bad)] = True
    values = _with_nulls(decoded.values, without_value)
    array, misfits = fitting(values if feature is not None else values.cast(pa.string()), wanted)
    return array, {**misfits, **decoded.bad}


def fitting(values: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Cast to a type, and tell why rows do not fit it; these hold null.

    Text has to be UTF-8, also where a file only says that it is. Reasons name types, never a value.
    """

    def cast(some: pa.Array) -> pa.Array:
        if some.type != wanted:
            some = some.cast(wanted)
        some.validate(full=True)
        return some

    try:
        return cast(values), {}
    except pa.ArrowNotImplementedError:
        misfits = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False)).tolist()
        return pa.nulls(len(values), wanted), dict.fromkeys(misfits, f"{type_name(values.type)} does not fit {wanted}")
    except pa.ArrowInvalid:
        bad = {}
        for row in range(len(values)):
            try:
                cast(values.slice(row, 1))
            except pa.ArrowInvalid:
                is_text = pa.types.is_string(wanted) or pa.types.is_large_string(wanted)
                bad[row] = (
                    "its text is not UTF-8; write dtype: binary" if is_text else f"its value does not fit {wanted}"
                )
        misfit = np.zeros(len(values), bool)
        misfit[list(bad)] = True
        return cast(_with_nulls(values, misfit)), bad


def _with_nulls(values: pa.Array, null: np.ndarray) -> pa.Array:
    return values.take(pa.array(np.arange(len(values)), mask=null)) if null.any() else values


def _feature_behind(column: PassThrough, columns: Columns) -> Feature | None:
    source = columns.source(column.source)
    features = (feature for feature in columns.features.values() if not feature.is_composite)
    return next((feature for feature in features if columns.source(feature.name) == source), None)


def output_type(feature: Feature) -> pa.DataType:
    """Type of a raw feature that is passed through: as it is decoded, with text for strings."""
    value_type = pa.string() if feature.dtype == "string" else feature.value_type
    if feature.is_list:
        return pa.list_(value_type)
    return pa.list_(value_type, feature.size) if feature.shape else value_type


def _as_feature(wanted: pa.DataType) -> Feature | None:
    """A feature whose values are those of an output type, for the types that features have."""
    types = pa.types
    shape: tuple[int, ...] = ()
    kind: Literal["fixed", "ragged"] = "fixed"
    if types.is_fixed_size_list(wanted):
        shape, wanted = (wanted.list_size,), wanted.value_type
    elif types.is_list(wanted) or types.is_large_list(wanted):
        kind, wanted = "ragged", wanted.value_type
    if (
        types.is_string(wanted)
        or types.is_large_string(wanted)
        or types.is_binary(wanted)
        or types.is_large_binary(wanted)
    ):
        return Feature("", "string", kind, shape)
    if types.is_boolean(wanted) or types.is_integer(wanted) or types.is_floating(wanted):
        return Feature("", type_name(wanted), kind, shape)
    return None
