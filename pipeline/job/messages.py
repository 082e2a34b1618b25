"""Turns what pydantic says about a job file into what its author has to change."""

from __future__ import annotations

import datetime
import difflib
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

KeyPath = tuple[Any, ...]
"""Where in the job file: keys and list positions, from the top."""

_KINDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    datetime.datetime: "a time",
    datetime.date: "a date",
    list: "a list",
    dict: "a mapping",
    bytes: "bytes",
}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_NUMBER = re.compile(r"([-+]?[\d.]+(?:e[-+]?\d+)?)\s*(?:([kmg]i?)?b?|(%))", re.IGNORECASE)


class MistakesError(ValueError):
    """Mistakes that take more than one key to see, each with the key that the message stands at."""

    def __init__(self, mistakes: Iterable[tuple[KeyPath, str]]):
        self.mistakes = list(mistakes)
        super().__init__("; ".join(f"{dotted(path)}: {text}" for path, text in self.mistakes))


def explain(error: ErrorDetails, model: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    """The mistakes in one error of `model`'s validation: where each is, what was found and what to write."""
    path, value, kind = error["loc"], error["input"], error["type"]
    if kind == "value_error":
        cause = error["ctx"]["error"]
        yield from (
            ((path + key, text) for key, text in cause.mistakes)
            if isinstance(cause, MistakesError)
            else [(path, str(cause))]
        )
    elif kind == "extra_forbidden":
        yield path, f"unknown key{did_you_mean(path[-1], _known_keys(model, path[:-1]))}"
    elif kind == "missing":
        yield path, "is missing"
    elif kind == "string_too_short":
        yield path, "is empty"
    elif kind == "too_short":
        yield path, "is an empty list; name at least one, or leave the key out"
    elif kind == "greater_than_equal":
        yield path, f"has to be {error['ctx']['ge']} or more, got {value}"
    elif kind == "literal_error":
        yield path, _not_one_of(error, value)
    elif kind in ("dict_type", "model_type"):
        yield path, _no_mapping(value)
    else:
        yield tuple(key for key in path if key != "[key]"), _wrong_type(kind, value) or error["msg"]


def dotted(path: KeyPath) -> str:
    """`('input', 'pattern', 1)` as `input.pattern[1]`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def describe(value: Any) -> str:
    """What a value is to somebody who reads YAML: `text ('4096')`, `a list`, `nothing`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    for kind, name in _KINDS.items():
        if isinstance(value, kind):
            return f"{name} ({_shortened(value)})" if kind not in (list, dict, bytes) else name
    return f"a {type(value).__name__}"


def did_you_mean(word: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean 'pattern'?` when a known word is close, else the words that are known."""
    known = list(known)
    close = difflib.get_close_matches(str(word), known, 1, cutoff)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else ""


def number_remedy(value: Any, whole: bool) -> str:
    """What to write when a number was wanted and `value` was found; empty when that cannot be told."""
    match = _NUMBER.fullmatch(value.strip().replace(",", "")) if isinstance(value, str) else None
    if not match:
        return ""
    try:
        number = float(match[1]) * (0.01 if match[3] else _UNITS[(match[2] or "").lower()])
    except ValueError:
        return ""
    if whole and not number.is_integer():
        return ""
    plain = f"{number:.0f}" if number.is_integer() else f"{number:.12f}".rstrip("0")
    return f"; write {plain} without quotes" if plain == value else f"; write {plain}"


def _wrong_type(kind: str, value: Any) -> str:
    if kind == "string_type":
        return f"expected text, got {describe(value)}{_text_remedy(value)}"
    if kind in ("int_type", "int_from_float"):
        return f"expected a whole number, got {describe(value)}{number_remedy(value, whole=True)}"
    if kind == "bool_type":
        unquoted = str(value).lower() in ("true", "false")
        return f"expected true or false, got {describe(value)}{'; write it without quotes' if unquoted else ''}"
    if kind == "list_type":
        remedy = f"; write [{value}]" if isinstance(value, (str, int)) else ""
        return f"expected a list, got {describe(value)}{remedy}"
    return ""


def _text_remedy(value: Any) -> str:
    if isinstance(value, bool):
        return "; if the word itself is meant (YAML reads yes, no, on, off as true and false), put it in quotes"
    if isinstance(value, (int, float, datetime.date)):
        return "; put it in quotes"
    if isinstance(value, dict) and list(value.values()) == [None]:
        return f'; put text that starts with a brace in quotes: "{{{next(iter(value))}}}"'
    return ""


def _no_mapping(value: Any) -> str:
    if value is None:
        return "is empty; write its keys indented under it, or leave it out"
    return f"expected a mapping (key: value), got {describe(value)}"


def _not_one_of(error: ErrorDetails, value: Any) -> str:
    expected = error["ctx"]["expected"].replace("'", "")
    known = re.split(r", | or ", expected)
    close = difflib.get_close_matches(str(value).lower(), known, 1)
    return f"expected {expected}, got {describe(value)}" + (f"; did you mean {close[0]!r}?" if close else "")


def _known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the mapping at `path` may have."""
    keys = iter(path)
    for key in keys:
        names = {field.alias or name: field for name, field in model.model_fields.items()}
        model, entry = next(_models_in(names[key].annotation))
        if entry:
            next(keys, None)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any, entry: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models that an annotation names, and whether they are the entries of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, entry
    for argument in typing.get_args(annotation):
        yield from _models_in(argument, entry or typing.get_origin(annotation) is dict)


def _shortened(value: Any) -> str:
    text = repr(value) if isinstance(value, (str, int, float)) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
