"""What a comparison came to: as text for people, as JSON for programs. The one place that prints values of rows: the worst."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.compare.values import Differences
from pipeline.text import counted, facts, table

Row = Mapping[str, Any]
QUANTILES = {"p50": 500, "p99": 990, "p99.9": 999}

_SHOWN_ROWS = 5
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Rows:
    """Rows of one side that are told by their number and the first of their keys."""

    count: int
    first: Sequence[Row] = ()


@dataclass(frozen=True)
class SideResult:
    """path: as given. rows: all of it. alone: rows whose key the other side lacks. duplicates: keys of more than one row,
    left out of the comparison. other_columns: columns that were compared with none."""

    path: str
    rows: int
    alone: Rows
    duplicates: Rows
    duplicate_rows: int
    other_columns: Sequence[str]


@dataclass(frozen=True)
class ColumnResult:
    """name: in NEW; old_name: in OLD. worst: `key`, `new`, `old`, and of numbers `at`, the indices of the value of a list
    that differs most, and `difference`; both None where lists have other lengths.

    numbers: what was measured, of a column of numbers; None of any other, whose values are equal or not.
    """

    name: str
    old_name: str
    differing: int
    worst: Sequence[Row]
    numbers: Differences | None = None


@dataclass(frozen=True)
class Comparison:
    """The end of one `compare` command.

    on: the key columns. paired: rows on both sides. differing: rows of them that differ in any column.
    """

    new: SideResult
    old: SideResult
    on: Sequence[str]
    paired: int
    differing: int
    columns: Sequence[ColumnResult]
    max_differing: int = 0

    @property
    def all_differing(self) -> int:
        """Rows that differ or are on one side only."""
        return self.differing + self.new.alone.count + self.old.alone.count

    @property
    def differs(self) -> bool:
        """Whether more rows differ than may. A key that stands for several rows always counts as a difference."""
        return self.all_differing > self.max_differing or bool(self.new.duplicates.count + self.old.duplicates.count)

    @property
    def exit_code(self) -> int:
        return 8 if self.differs else 0

    def to_json(self) -> str:
        """All of it but the histograms; numbers that are not finite are the strings NaN, Infinity and -Infinity."""
        return json.dumps(
            _plain(
                {
                    "format_version": 1,
                    "exit_code": self.exit_code,
                    "on": list(self.on),
                    "new": _side(self.new),
                    "old": _side(self.old),
                    "paired": self.paired,
                    "differing": self.differing,
                    "max_differing": self.max_differing,
                    "columns": [_column(column, self.paired) for column in self.columns],
                }
            ),
            indent=1,
            allow_nan=False,
        )

    def summary(self) -> str:
        """The lines that a person reads."""
        return "\n".join([*facts(self.facts()), *(line for part in self.tables() for line in table(*part))])

    def facts(self) -> Iterator[tuple[str, str]]:
        """Name and text of what is known of the rows; the verdict last."""
        for label, side in (("new", self.new), ("old", self.old)):
            yield label, f"{side.path}, {counted(side.rows, 'row')}"
        yield "on", f"{', '.join(self.on)}: {counted(self.paired, 'row')} on both sides"
        for label, side in (("new", self.new), ("old", self.old)):
            if side.alone.count:
                yield f"only in {label}", f"{counted(side.alone.count, 'row')}: {self._first_keys(side.alone)}"
            if side.duplicates.count:
                yield (
                    f"twice in {label}",
                    f"{counted(side.duplicates.count, 'key')} of {side.duplicate_rows:,} rows, which were not compared: "
                    f"{self._first_keys(side.duplicates)}",
                )
            if side.other_columns:
                yield f"not in {'old' if label == 'new' else 'new'}", f"columns {', '.join(side.other_columns)}"
        rows = self.paired + self.new.alone.count + self.old.alone.count
        verdict = "DIFFERS" if self.differs else "within tolerance"
        yield (
            "result",
            f"{verdict}: {self.all_differing:,} of {counted(rows, 'row')} differ, {self.max_differing:,} may",
        )

    def tables(self) -> Iterator[tuple[str, Sequence[Sequence[str]], Sequence[str]]]:
        """Title, rows and header of the tables: numbers, other columns, the worst rows of each column that differs."""
        numbers = [(column, column.numbers) for column in self.columns if column.numbers is not None]
        yield (
            "numbers: |new - old| of each value",
            [_number_cells(column, measured) for column, measured in numbers],
            ("column", "rows differ", "largest", "mean", *QUANTILES, "NaN on one side", "other length", "tolerance"),
        )
        yield (
            "others: equal or not",
            [
                (_title(column), f"{column.differing:,}", _share(column.differing, self.paired))
                for column in self.columns
                if column.numbers is None
            ],
            ("column", "rows differ", "share"),
        )
        for column in self.columns:
            shown = [_at_its_place(row) for row in column.worst[:_SHOWN_ROWS]]
            names = [
                "new",
                "old",
                *(name for name in ("at", "difference") if any(row.get(name) is not None for row in shown)),
            ]
            yield (
                f"{_title(column)}: the {'first' if column.numbers is None else 'worst'} rows that differ",
                [
                    (*(_shown(row["key"][key]) for key in self.on), *(_shown(row.get(name)) for name in names))
                    for row in shown
                ],
                (*self.on, *names),
            )

    def _first_keys(self, rows: Rows) -> str:
        keys = [", ".join(f"{name}={_shown(key[name])}" for name in self.on) for key in rows.first[:_SHOWN_ROWS]]
        return "; ".join(keys) + ("; ..." if rows.count > len(keys) else "")


def _side(side: SideResult) -> dict[str, Any]:
    return {
        "path": side.path,
        "rows": side.rows,
        "alone": {"rows": side.alone.count, "first": list(side.alone.first)},
        "duplicates": {
            "keys": side.duplicates.count,
            "rows": side.duplicate_rows,
            "first": list(side.duplicates.first),
        },
        "other_columns": list(side.other_columns),
    }


def _column(column: ColumnResult, paired: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": column.name,
        "old_name": column.old_name,
        "differing": column.differing,
        "share": column.differing / paired if paired else 0.0,
    }
    if column.numbers is not None:
        measured = column.numbers
        found |= {
            "values": measured.values,
            "largest": measured.largest,
            "mean": measured.mean,
            **{name: measured.quantile(per_mille) for name, per_mille in QUANTILES.items()},
            "nan_mismatches": measured.mismatches,
            "other_lengths": measured.other_lengths,
            "tolerance": {"absolute": measured.tolerance.absolute, "relative": measured.tolerance.relative},
        }
    return found | {"worst": list(column.worst)}


def _number_cells(column: ColumnResult, measured: Differences) -> tuple[str, ...]:
    sizes = (measured.largest, measured.mean, *map(measured.quantile, QUANTILES.values()))
    counts = (f"{measured.mismatches:,}", f"{measured.other_lengths:,}")
    return _title(column), f"{column.differing:,}", *(f"{size:.3g}" for size in sizes), *counts, str(measured.tolerance)


def _title(column: ColumnResult) -> str:
    return column.name if column.name == column.old_name else f"{column.name} ({column.old_name})"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4%}" if whole else "0%"


def _at_its_place(row: Row) -> Row:
    """A row of which the lists are replaced by the values that differ most."""
    new, old = row["new"], row["old"]
    if row.get("at") is None:
        return row
    for index in row["at"]:
        new, old = new[index], old[index]
    return {**row, "new": new, "old": old, "at": "".join(f"[{index}]" for index in row["at"])}


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list):
        value = f"[{', '.join(map(_shown, value))}]"
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _plain(value: Any) -> Any:
    """Values as JSON has them; what it has not, such as bytes and dates, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
