"""Single values to the dtype of a feature: exactly, or not at all.

What is taken: numbers that the dtype holds exactly, whatever they came as (a wider or narrower integer, a float without a
fraction, a decimal, digits in text); for float16 and float32 any finite number that stays finite, and for a float out of
text any number, rounded to the nearest through float64, as tf.train.FloatList rounds. NaN and infinities are values.
Integers never go through a float; and a float of 2^53 or more is refused for an integer, because it may be what is left
of another integer. true and false only are bool. Text and bytes only are string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_FLOAT_INTEGERS = 2**53
"""Below it every integer is a float64 of its own."""
_INTEGERS = r"^-?[0-9]+$"
_SURE_DIGITS = 18
"""Integers of that many characters fit int64."""
_PADDED_INTEGERS = r"^[ \t]*(-?[0-9]+)(?:\.0*)?[ \t]*$"
_NUMBERS = r"^-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"
_NUMBER = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NON_FINITE = re.compile(rb"[-+]?(?:nan|inf|infinity)", re.IGNORECASE)
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")

_FRACTION = "a number with a fraction"
_INEXACT = "an integer that it cannot hold exactly"
_NOT_FINITE = "a number that is not finite"
_NOT_NUMBER = "text that is not a number"
_OUT_OF_RANGE = "a number out of its range"
_TOO_LARGE = "a number too large for it"

_ARROW_TYPES = {
    type(None): pa.null(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary(),
    Decimal: pa.string(),
}  # fmt: skip

Refused = dict[str, np.ndarray]
"""What was found in place of a value that is taken -> indexes of such values."""


class Exact(NamedTuple):
    """Converted values of the dtype's Arrow type, and those refused, which left something arbitrary, as nulls do."""

    values: pa.Array
    refused: Refused


class _RefusalError(ValueError):
    """One value is not taken; the text says what was found, and never holds the value."""


def value_type(dtype: str) -> pa.DataType:
    """Arrow type of one value of a dtype."""
    return pa.binary() if dtype == "string" else pa.from_numpy_dtype(np.dtype(dtype))


def can_hold(dtype: str, source: pa.DataType) -> bool:
    """Whether values of an Arrow type, which is not a list, can be values of a dtype at all."""
    if is_text(source) or pa.types.is_null(source):
        return True
    if dtype == "bool":
        return pa.types.is_boolean(source)
    numeric = pa.types.is_integer(source) or pa.types.is_floating(source) or pa.types.is_decimal(source)
    return numeric and dtype != "string"


def is_text(source: pa.DataType) -> bool:
    """Whether an Arrow type is one of text or bytes."""
    types = pa.types
    return (
        types.is_string(source) or types.is_large_string(source) or types.is_string_view(source)
        or types.is_binary(source) or types.is_large_binary(source) or types.is_binary_view(source)
        or types.is_fixed_size_binary(source)
    )  # fmt: skip


def type_name(source: pa.DataType) -> str:
    """Name of an Arrow type in messages: as numpy spells it where both have it."""
    return {"double": "float64", "float": "float32", "halffloat": "float16"}.get(str(source), str(source))


def exact_values(values: pa.Array, dtype: str) -> Exact:
    """Convert an Arrow array of a type that the dtype can hold; nulls are left to the caller.

    Text for a number or bool is parsed: "180.0" is the int64 180.
    """
    source = values.type
    if pa.types.is_null(source):
        return Exact(_blank(len(values), dtype), {})
    if dtype == "string":
        return Exact(_filled(values.cast(pa.binary()), b""), {})
    if pa.types.is_decimal(source):
        values = values.cast(pa.string())
    if is_text(values.type):
        return _from_text(_filled(values.cast(pa.binary()), b"false" if dtype == "bool" else b"0"), dtype)
    if dtype == "bool":
        return Exact(_filled(values, False), {})
    if pa.types.is_float16(source):
        values = values.cast(pa.float32())
    # Without nulls first: to_numpy turns an integer column with nulls into float64, and 2**53 + 1 is lost.
    array, refused = _from_numbers(_filled(values, 0).to_numpy(zero_copy_only=False), np.dtype(dtype))
    return Exact(pa.array(array), refused)


def exact_objects(values: Sequence[Any], dtype: str) -> Exact:
    """Convert Python values, as json gives them or object arrays hold them; None is left to the caller."""
    kinds = set(map(type, values))
    if len(kinds - {type(None)}) < 2:
        return _exact_kind(values, dtype, max(kinds, key=lambda kind: kind is not type(None), default=type(None)))
    places: list[np.ndarray] = []
    parts: list[pa.Array] = []
    refused: Refused = {}
    for kind in kinds:
        place = np.flatnonzero([type(value) is kind for value in values])
        part = _exact_kind([values[index] for index in place.tolist()], dtype, kind)
        places.append(place)
        parts.append(part.values)
        refused = _union(refused, {found: place[indexes] for found, indexes in part.refused.items()})
    order = np.argsort(np.concatenate(places))
    return Exact(pa.concat_arrays(parts).take(pa.array(order)), refused)


def _exact_kind(values: Sequence[Any], dtype: str, kind: type) -> Exact:
    """Convert values that are all of one Python type, or None."""
    if kind not in _ARROW_TYPES:
        return _refuse_all(len(values), dtype, "object" if kind is dict else kind.__name__)
    if kind is Decimal:
        values = [None if value is None else str(value) for value in values]
    try:
        array = pa.array(values, _ARROW_TYPES[kind])
    except OverflowError:
        if dtype in ("string", "bool"):
            return _refuse_all(len(values), dtype, "int64")
        numbers, refused = _one_by_one([value or 0 for value in values], np.dtype(dtype), _integer_as)
        return Exact(pa.array(numbers), refused)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
        lone = [value is not None and any("\ud800" <= character <= "\udfff" for character in value) for value in values]
        rest = _exact_kind([None if bad else value for bad, value in zip(lone, values, strict=True)], dtype, kind)
        return Exact(rest.values, _union(rest.refused, {"text that is not Unicode": np.flatnonzero(lone)}))
    if not can_hold(dtype, array.type):
        return _refuse_all(len(values), dtype, type_name(array.type))
    return exact_values(array, dtype)


def _from_numbers(values: np.ndarray, target: np.dtype) -> tuple[np.ndarray, Refused]:
    """Convert integers or floats to a numeric dtype."""
    if values.dtype == target:
        return values, {}
    return _to_floats(values, target) if target.kind == "f" else _to_integers(values, target)


def _to_floats(values: np.ndarray, target: np.dtype) -> tuple[np.ndarray, Refused]:
    with np.errstate(over="ignore"):
        wide = values.astype(np.float64)
        floats = wide.astype(target)
    refused = {_TOO_LARGE: np.flatnonzero(np.isinf(floats) & ~np.isinf(wide))}
    if target == np.float64 and values.dtype in (np.int64, np.uint64):
        large = np.flatnonzero(np.abs(wide) >= _FLOAT_INTEGERS)
        refused[_INEXACT] = large[[int(wide[index]) != int(values[index]) for index in large]]
    return floats, _union(refused)


def _to_integers(values: np.ndarray, target: np.dtype) -> tuple[np.ndarray, Refused]:
    refused: Refused = {}
    if values.dtype.kind == "f":
        wide = values.astype(np.float64)
        finite = np.isfinite(wide)
        whole = finite & (np.floor(wide) == wide)
        exact = whole & (np.abs(wide) < _FLOAT_INTEGERS)
        refused[_NOT_FINITE] = np.flatnonzero(~finite)
        refused[_FRACTION] = np.flatnonzero(finite & ~whole)
        refused[f"a {values.dtype} too large to tell which integer it was"] = np.flatnonzero(whole & ~exact)
        values = np.where(exact, wide, 0).astype(np.int64)
    if not np.can_cast(values.dtype, target):
        have, limits = np.iinfo(values.dtype), np.iinfo(target)
        low, high = max(have.min, limits.min), min(have.max, limits.max)  # so that no comparison leaves the dtype
        outside = (values < values.dtype.type(low)) | (values > values.dtype.type(high))
        refused[_OUT_OF_RANGE] = np.flatnonzero(outside)
    return values.astype(target), _union(refused)


def _from_text(values: pa.Array, dtype: str) -> Exact:
    """Parse numbers or bools out of binary values without nulls."""
    if dtype == "bool":
        true = pc.is_in(values, pa.array(_TRUE, pa.binary()))
        unknown = pc.invert(pc.is_in(values, pa.array(_TRUE + _FALSE, pa.binary())))
        return Exact(true, _union({"text that is not true or false": np.flatnonzero(unknown)}))
    target = np.dtype(dtype)
    if target.kind == "f":
        regular = _matches(values, _NUMBERS)
        wide = _parse(values, regular, pa.float64())
        numbers, _ = _from_numbers(wide, target)
        refused = _union({_TOO_LARGE: np.flatnonzero(np.isinf(numbers))})  # what is regular does not spell infinity
    else:
        regular = _matches(values, _INTEGERS)
        if not regular.all():
            values = pc.replace_substring_regex(values, _PADDED_INTEGERS, r"\1")
            regular = _matches(values, _INTEGERS)
        try:
            wide = _parse(values, regular, pa.int64())
        except pa.ArrowInvalid:
            regular &= pc.less_equal(pc.binary_length(values), _SURE_DIGITS).to_numpy(zero_copy_only=False)
            wide = _parse(values, regular, pa.int64())
        numbers, refused = _from_numbers(wide, target)
    irregular = np.flatnonzero(~regular)
    if irregular.size:
        part, found = _one_by_one(values.take(pa.array(irregular)).to_pylist(), target, _text_as)
        numbers = numbers.copy()
        numbers[irregular] = part
        refused = _union(refused, {what: irregular[indexes] for what, indexes in found.items()})
    return Exact(pa.array(numbers), refused)


def _parse(values: pa.Array, regular: np.ndarray, to: pa.DataType) -> np.ndarray:
    """Parse what is regular, the rest gives 0. Arrow rounds decimal text to the nearest float64, as strtod does."""
    if not regular.all():
        values = pc.if_else(pa.array(regular), values, pa.scalar(b"0"))
    return values.cast(to).to_numpy()


def _matches(values: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(values, pattern).to_numpy(zero_copy_only=False)


def _one_by_one(values: Sequence[Any], target: np.dtype, convert: Callable[..., Any]) -> tuple[np.ndarray, Refused]:
    numbers = np.zeros(len(values), target)
    refused: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        try:
            numbers[index] = convert(value, target)
        except _RefusalError as refusal:
            refused.setdefault(str(refusal), []).append(index)
    return numbers, {found: np.array(indexes) for found, indexes in refused.items()}


def _integer_as(value: int, target: np.dtype) -> int | np.floating:
    if target.kind == "f":
        try:
            wide = float(value)
        except OverflowError:
            raise _RefusalError(_TOO_LARGE) from None
        if target == np.float64 and wide != value:
            raise _RefusalError(_INEXACT)
        return _float_as(wide, target)
    if not np.iinfo(target).min <= value <= np.iinfo(target).max:
        raise _RefusalError(_OUT_OF_RANGE)
    return value


def _float_as(wide: float, target: np.dtype) -> np.floating:
    with np.errstate(over="ignore"):
        value = np.float64(wide).astype(target)
    if np.isinf(value):
        raise _RefusalError(_TOO_LARGE)
    return value


def _text_as(text: bytes, target: np.dtype) -> int | np.floating:
    """Parse one number; float() and int() alone would take underscores and digits of other scripts."""
    text = text.strip(b" \t")
    if _NON_FINITE.fullmatch(text):
        if target.kind != "f":
            raise _RefusalError(_NOT_FINITE)
        return target.type(float(text))
    if not _NUMBER.fullmatch(text):
        raise _RefusalError(_NOT_NUMBER)
    if target.kind == "f":
        return _float_as(float(text), target)
    try:
        number = Decimal(text.decode())
    except InvalidOperation:  # an exponent that no Decimal can have
        raise _RefusalError(_OUT_OF_RANGE) from None
    if number and number.adjusted() > 20:
        raise _RefusalError(_OUT_OF_RANGE)
    if (number and number.adjusted() < 0) or number != int(number):
        raise _RefusalError(_FRACTION)
    return _integer_as(int(number), target)


def _filled(values: pa.Array, filler: Any) -> pa.Array:
    return pc.fill_null(values, pa.scalar(filler, values.type)) if values.null_count else values


def _blank(length: int, dtype: str) -> pa.Array:
    return pa.array([b""] * length, pa.binary()) if dtype == "string" else pa.array(np.zeros(length, dtype))


def _refuse_all(length: int, dtype: str, found: str) -> Exact:
    return Exact(_blank(length, dtype), {found: np.arange(length)})


def _union(*refused: Refused) -> Refused:
    """Merge refusals and drop what was not found."""
    merged: Refused = {}
    for some in refused:
        for found, indexes in some.items():
            if indexes.size:
                merged[found] = np.union1d(merged[found], indexes) if found in merged else indexes
    return merged
