"""Aligned plain text: facts by name, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LISTED = 20
"""Rows of a list that may be long, such as the files of an output, before the rest is only counted."""

_NUMBER = re.compile(r"-?\d[\d,.]*")


def facts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """One line a fact, its name in a column of its own."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"{name:<{width}}  {text}" for name, text in pairs]


def table(title: str, rows: Iterable[Sequence[str]], header: Sequence[str] = (), limit: int | None = None) -> list[str]:
    """An empty line, the title, and the rows indented under it; nothing without rows. Numbers stand to the right."""
    rows = list(rows)
    if not rows:
        return []
    shown = rows[:limit]
    columns = list(zip(*shown, strict=True))
    right = [all(_NUMBER.fullmatch(cell) for cell in column) for column in columns]
    lines = [*([header] if header else []), *shown]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            f"{cell:>{width}}" if number else f"{cell:<{width}}"
            for cell, width, number in zip(line, widths, right, strict=True)
        )
        for line in lines
    ]
    if len(rows) > len(shown):
        aligned.append(f"and {len(rows) - len(shown):,} more")
    return ["", title, *(f"  {line}".rstrip() for line in aligned)]


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def job_features(entries: Mapping[str, Mapping[str, Any]], comments: Mapping[str, str] = {}) -> list[str]:
    """A `features:` section as it stands in a job file, one feature a line.

    Args:
      entries: name -> keys of the feature, as in a job file; `kind: fixed` is left out.
      comments: name -> what to say behind its line.
    """
    import yaml

    lines = ["features:"]
    for name, entry in entries.items():
        plain = {key: value for key, value in entry.items() if (key, value) != ("kind", "fixed")}
        text = yaml.safe_dump(
            {name: plain}, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
        )
        comment = f"  # {comments[name]}" if name in comments else ""
        lines.append(f"  {text.strip()[1:-1]}{comment}")
    return lines
