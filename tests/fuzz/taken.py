"""What is taken for a value, written from the documentation and not from the code: exactly the number or text, or nothing.

Numbers of text and JSON come as `Number`, with what was written, so that no conversion stands between file and judgement.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fuzz.job import DEFAULT, NAMES, Row, bits

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_LARGE_EXPONENT = 400


class Number(str):
    """A number as it is written."""


class NotTakenError(Exception):
    """No value of the dtype."""


def row_of(values: Mapping[str, Any]) -> Row | None:
    """A row out of what a reader found by name (None: missing); None for a bad row."""
    try:
        found = {name: values.get(name) for name in NAMES}
        x = [float32(value) for value in _items(found["x"], 1)]
        n = [DEFAULT] if found["n"] is None else [int64(value) for value in _items(found["n"], 1)]
        pixels = [float32(value) for value in _items(found["pixels"], 4, (2, 2))]
        words = [] if found["words"] is None else [text(value) for value in _items(found["words"])]
        key = None if found["id"] is None else int64(*_items(found["id"], 1))
        note = None if found["note"] is None else text(*_items(found["note"], 1))
        return Row(bits(*x), n[0], bits(*pixels), tuple(words), key, None if note is None else note.decode())
    except (NotTakenError, UnicodeDecodeError):
        return None


def _items(value: Any, count: int | None = None, shape: tuple[int, ...] = ()) -> list[Any]:
    """The values of a feature: one alone, a flat list, or a list nested as the shape."""
    if value is None:
        raise NotTakenError
    items = value if isinstance(value, list) else [value]
    if shape and len(items) == shape[0] and all(isinstance(item, list) and len(item) == shape[1] for item in items):
        items = [inner for item in items for inner in item]
    if count is not None and len(items) != count:
        raise NotTakenError
    return items


def float32(value: Any) -> float:
    """A float32 as a Python float: the nearest to the double nearest to the number; a finite one stays finite."""
    if isinstance(value, (bool, list, dict)) or value is None:
        raise NotTakenError
    if isinstance(value, Number) and value.lstrip("-").isdecimal():
        value = int(value)  # without a sign if it is zero
    if isinstance(value, (str, bytes)):
        written = _stripped(value)
        if _SPECIAL.fullmatch(written):
            return float(written)
        double = float(_number(written))
    elif isinstance(value, float) and not math.isfinite(value):
        return value
    else:
        try:
            double = float(value)
        except OverflowError:
            raise NotTakenError from None
    if math.isinf(double):
        raise NotTakenError
    try:
        return struct.unpack("<f", struct.pack("<f", double))[0]
    except OverflowError:
        raise NotTakenError from None


def int64(value: Any) -> int:
    if isinstance(value, (bool, list, dict)) or value is None:
        raise NotTakenError
    if isinstance(value, float):
        if not math.isfinite(value) or value != math.floor(value) or abs(value) >= 2**53:
            raise NotTakenError
        return int(value)
    if isinstance(value, Number) and re.search("[.eE]", value):
        return int64(float(value))  # JSON has one kind of number: such a one is a double, and taken as one
    if isinstance(value, (str, bytes)):
        written = _number(_stripped(value))
        digits, _, exponent = written.lower().partition("e")
        if abs(int(exponent or 0)) > _LARGE_EXPONENT:
            if Fraction(digits) == 0:
                return 0
            raise NotTakenError
        whole = Fraction(digits) * Fraction(10) ** int(exponent or 0)
    else:
        whole = Fraction(value) if not isinstance(value, Decimal) else Fraction(str(value))
    if whole.denominator != 1 or not -(2**63) <= whole < 2**63:
        raise NotTakenError
    return int(whole)


def text(value: Any) -> bytes:
    if isinstance(value, (Number, bool)) or not isinstance(value, (str, bytes)):
        raise NotTakenError
    try:
        return value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise NotTakenError from None


def _stripped(value: str | bytes) -> str:
    try:
        return (value.decode("ascii") if isinstance(value, bytes) else value).strip(" \t")
    except UnicodeDecodeError:
        raise NotTakenError from None


def _number(written: str) -> str:
    if not _NUMBER.fullmatch(written) or not written.isascii():
        raise NotTakenError
    return written
