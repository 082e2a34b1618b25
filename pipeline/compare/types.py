"""What is compared with what: columns of the two sides paired by name, and the SQL that brings both to one type.

Numbers of which one side at least is floating are compared by their difference; everything else is equal or it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import JobError

if TYPE_CHECKING:
    from pipeline.compare.sides import Side

ROW_IDS = ("_shard", "_row")
"""Columns of an output that are no scores, and differ wherever the input lies in other files."""

_INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")} | {
    "INTEGER",
    "UINTEGER",
}
_TYPE = re.compile(r"(?P<base>.*?)(?P<lists>(\[\d*\])*)", re.DOTALL)

Castable = Callable[["Side", str, str], bool]
"""Whether all of a column of text can be read as a type."""


@dataclass(frozen=True)
class Pair:
    """A column of NEW and its counterpart in OLD, with the SQL of each side's values, which are of one type or close to it.

    numeric: compared by difference. column_new, column_old: names.
    """

    column_new: str
    column_old: str
    new: str
    old: str
    numeric: bool


def split_type(type_name: str) -> tuple[str, int]:
    """DuckDB's name of a type without its lists, and how many lists deep it is: `FLOAT[][3]` -> FLOAT, 2."""
    match = _TYPE.fullmatch(type_name)
    assert match is not None  # matches every string
    return match["base"], match["lists"].count("[")


def is_number(base: str) -> bool:
    return base in _INTEGERS or _is_floating(base)


def pair_columns(
    new: Side, old: Side, on: Sequence[str], renamed: Mapping[str, str], castable: Castable
) -> tuple[list[Pair], list[Pair]]:
    """The pairs of key columns, and of value columns in NEW's order.

    Args:
      on: the key columns by their names in NEW.
      renamed: name in NEW -> name in OLD, where they differ.

    Raises:
      JobError: a column is not there, two are compared with one, there is none to compare, or types cannot be compared.
    """
    _check_names(new, old, on, renamed)
    keys = [_pair_keys(new, old, name, renamed.get(name, name), castable) for name in on]
    taken = {renamed.get(name, name) for name in on} | set(renamed.values())
    values = []
    for name in new.types:
        counterpart = renamed.get(name, name)
        if name in on or name in ROW_IDS or counterpart not in old.types:
            continue
        if name in renamed or counterpart not in taken:
            values.append(_pair_values(new, old, name, counterpart, castable))
    if not values:
        raise JobError(
            f"no column to compare: NEW has {_listed(new.types)}; OLD has {_listed(old.types)}. --map new=old tells "
            "which go together"
        )
    return keys, values


def _check_names(new: Side, old: Side, on: Sequence[str], renamed: Mapping[str, str]) -> None:
    for option, name in [*(("--on", name) for name in on), *(("--map", name) for name in renamed)]:
        if name not in new.types:
            raise JobError(f"{option}: NEW has no column {name!r}{_there(new)}")
    for name in on:
        if name not in renamed and name not in old.types:
            raise JobError(f"--on: OLD has no column {name!r}{_there(old)}, --map {name}=NAME tells its name there")
    for name, counterpart in renamed.items():
        if counterpart not in old.types:
            raise JobError(f"--map {name}={counterpart}: OLD has no column {counterpart!r}{_there(old)}")
    for counterpart in renamed.values():
        both = [other for other, target in renamed.items() if target == counterpart]
        both += [other for other in on if other == counterpart and other not in renamed]
        if len(both) > 1:
            raise JobError(f"--map: {' and '.join(map(repr, both))} are both compared with OLD's {counterpart!r}")


def _pair_keys(new: Side, old: Side, name: str, counterpart: str, castable: Castable) -> Pair:
    if new.untyped and old.untyped:  # 007 and 7 may be two keys
        return Pair(name, counterpart, identifier(name), identifier(counterpart), numeric=False)
    a, b, type_new, type_old = _typed(new, old, name, counterpart, castable)
    if split_type(type_new)[1] or split_type(type_old)[1]:
        raise JobError(f"--on: {name!r} is {type_new} in NEW and {type_old} in OLD; a list is no key")
    numeric = _compared_as_numbers(name, type_new, type_old)
    if numeric:
        a, b = f"CAST({a} AS DOUBLE)", f"CAST({b} AS DOUBLE)"
    else:
        a, b = _comparable(a, b, type_new, type_old)
    return Pair(name, counterpart, a, b, numeric)


def _pair_values(new: Side, old: Side, name: str, counterpart: str, castable: Castable) -> Pair:
    a, b, type_new, type_old = _typed(new, old, name, counterpart, castable)
    (base_new, depth_new), (base_old, depth_old) = split_type(type_new), split_type(type_old)
    if (depth_new, depth_old) == (0, 1):  # scores of shape (rows,) and (rows, 1) are the same scores
        a, type_new = f"[{a}]", f"{base_new}[]"
    elif (depth_new, depth_old) == (1, 0):
        b, type_old = f"[{b}]", f"{base_old}[]"
    elif depth_new != depth_old:
        raise JobError(f"column {name!r}: {type_new} in NEW and {type_old} in OLD cannot be compared")
    if _compared_as_numbers(name, type_new, type_old):
        return Pair(name, counterpart, a, b, numeric=True)
    a, b = _comparable(a, b, type_new, type_old)
    return Pair(name, counterpart, a, b, numeric=False)


def _typed(new: Side, old: Side, name: str, counterpart: str, castable: Castable) -> tuple[str, str, str, str]:
    """SQL and type of both sides. Text takes the type of the other side, or a double that can be compared with it."""
    a, b = identifier(name), identifier(counterpart)
    type_new, type_old = new.types[name], old.types[counterpart]
    if new.untyped and old.untyped:
        for type_name in ("HUGEINT", "DOUBLE", "DOUBLE[]", "DOUBLE[][]"):
            if castable(new, name, type_name) and castable(old, counterpart, type_name):
                return f"TRY_CAST({a} AS {type_name})", f"TRY_CAST({b} AS {type_name})", type_name, type_name
    elif new.untyped:
        type_new = _readable_as(new, name, type_old, castable)
        a = f"TRY_CAST({a} AS {type_new})"
    elif old.untyped:
        type_old = _readable_as(old, counterpart, type_new, castable)
        b = f"TRY_CAST({b} AS {type_old})"
    return a, b, type_new, type_old


def _readable_as(side: Side, name: str, other: str, castable: Castable) -> str:
    """The type that text is read as, to be compared with a column of the type `other`."""
    base, depth = split_type(other)
    candidates = [base + "[]" * depth]
    if is_number(base):
        candidates.append("DOUBLE" + "[]" * depth)
    if depth == 1:
        candidates += [split_type(candidate)[0] for candidate in candidates]
    return next((candidate for candidate in candidates if castable(side, name, candidate)), "VARCHAR")


def cast_test(expression: str, type_name: str) -> str:
    """SQL that is false of a text which is not exactly of a type; DuckDB would round 1.5 to make an integer of it."""
    test = f"TRY_CAST({expression} AS {type_name}) IS NOT NULL"
    if split_type(type_name)[0] in _INTEGERS:
        test += f" AND NOT regexp_matches({expression}, '[.eE]')"
    return f"({expression} IS NULL OR ({test}))"


def _compared_as_numbers(name: str, type_new: str, type_old: str) -> bool:
    bases = (split_type(type_new)[0], split_type(type_old)[0])
    if not any(map(_is_floating, bases)):
        return False
    if not all(is_number(base) or base == "BOOLEAN" for base in bases):
        raise JobError(f"column {name!r}: {type_new} in NEW and {type_old} in OLD cannot be compared")
    return True


def _comparable(new: str, old: str, type_new: str, type_old: str) -> tuple[str, str]:
    """SQL of values that are equal or not: integers of any width, booleans and text as they are, all else as text."""
    (base_new, depth), (base_old, _) = split_type(type_new), split_type(type_old)
    bases = {base_new, base_old}
    if bases <= _INTEGERS or bases in ({"BOOLEAN"}, {"VARCHAR"}):
        return new, old
    common = ("BIGINT" if bases <= _INTEGERS | {"BOOLEAN"} else "VARCHAR") + "[]" * depth
    return f"CAST({new} AS {common})", f"CAST({old} AS {common})"


def _is_floating(base: str) -> bool:
    return base in ("FLOAT", "DOUBLE") or base.startswith("DECIMAL")


def identifier(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _there(side: Side) -> str:
    return f"; it has {_listed(side.types)}"


def _listed(names: Mapping[str, str]) -> str:
    return ", ".join(names) or "none"
