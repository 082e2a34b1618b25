"""Two sets of scores, joined by key: how far apart they are, and which rows.

DuckDB joins, within a bound of memory and with files in a temporary folder for the rest; what it joined is measured here,
batch by batch. The result does not depend on the order of rows, of files or of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from pipeline.compare.result import ColumnResult, Comparison, Rows, SideResult
from pipeline.compare.sides import Side, open_side, reading
from pipeline.compare.types import ROW_IDS, Pair, cast_test, identifier, pair_columns
from pipeline.compare.values import WORST_ROWS, Differences, Range, Tolerance, WorstRows
from pipeline.errors import JobError

TOLERANCE = 1e-5
"""Relative to the largest |old| of the column, or 1: the design's, as in pipeline/probe.py, which imports TensorFlow's parts."""

_MEMORY_LIMIT = "1GB"
_THREADS = 4
"""At most: every thread holds row groups and a part of the hash table of its own."""
_BATCH_ROWS = 16384
_BATCH_BYTES = 16 << 20


def compare(
    new: str,
    old: str,
    on: Sequence[str],
    *,
    renamed: Mapping[str, str] | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    max_differing: int = 0,
) -> Comparison:
    """Join two sets of scores by their keys, and measure how far apart the other columns are.

    Args:
      new, old: an output folder, or a file or pattern of Parquet, CSV or JSON lines.
      on: the key columns, by their names in NEW.
      renamed: name of a column in NEW -> its name in OLD.
      atol, rtol: a value differs beyond atol + rtol * |old|; one that is not given is 0. Neither: TOLERANCE.
      max_differing: rows that may differ, or be on one side only.

    Raises:
      JobError: columns or tolerances that cannot be.
      InputError: a side is not there, not complete, or cannot be read.
    """
    renamed = renamed or {}
    _check_settings(on, atol, rtol, max_differing)
    with TemporaryDirectory(prefix="compare-") as scratch:
        settings: dict[str, Any] = {
            "memory_limit": _MEMORY_LIMIT,
            "threads": min(_THREADS, os.cpu_count() or 1),
            "temp_directory": scratch,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
        }
        with duckdb.connect(config=settings) as connection:
            new_side = open_side(connection, "NEW", new, Path(scratch))
            old_side = open_side(connection, "OLD", old, Path(scratch))
            with reading(f"{new} or {old}"):
                comparison = _compare(connection, new_side, old_side, on, renamed, atol, rtol, max_differing)
            new_side.check_unchanged()
            old_side.check_unchanged()
            return comparison


def key_columns(text: str) -> list[str]:
    """The columns of `--on a,b`."""
    return [name.strip() for name in text.split(",")]


def renamed_columns(options: Sequence[str]) -> dict[str, str]:
    """The columns of `--map new=old`, as often as it was given.

    Raises:
      JobError: an option is not of that form, or a name is given twice.
    """
    renamed: dict[str, str] = {}
    for option in options:
        name, equals, counterpart = option.partition("=")
        if not (name and equals and counterpart):
            raise JobError(f"--map {option}: expected NEW=OLD, the name of a column in NEW and its name in OLD")
        if name in renamed:
            raise JobError(f"--map {option}: {name!r} was mapped before")
        renamed[name] = counterpart
    return renamed


def _check_settings(on: Sequence[str], atol: float | None, rtol: float | None, max_differing: int) -> None:
    if not all(on) or len(set(on)) < len(on) or not on:
        raise JobError(f"--on {','.join(on)}: expected different names of columns, separated by commas")
    for option, value in (("--atol", atol), ("--rtol", rtol)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise JobError(f"{option} {value}: expected a number from 0 on")
    if max_differing < 0:
        raise JobError(f"--max_differing {max_differing}: expected a number of rows from 0 on")


def _compare(
    connection: duckdb.DuckDBPyConnection,
    new: Side,
    old: Side,
    on: Sequence[str],
    renamed: Mapping[str, str],
    atol: float | None,
    rtol: float | None,
    max_differing: int,
) -> Comparison:
    def castable(side: Side, name: str, type_name: str) -> bool:
        test = cast_test(identifier(name), type_name)
        return connection.execute(f"SELECT coalesce(bool_and({test}), true) FROM {side.relation}").fetchall()[0][0]

    keys, values = pair_columns(new, old, on, renamed, castable)
    selected = {"new": _select(new, [pair.new for pair in keys], [pair.new for pair in values])}
    selected["old"] = _select(old, [pair.old for pair in keys], [pair.old for pair in values])
    duplicates = {label: _duplicates(connection, label, selected[label], on) for label in selected}
    if any(rows.count for rows, _ in duplicates.values()):
        selected = {label: _without_duplicates(selected[label], len(keys)) for label in selected}

    measured = _measures(connection, selected, values, atol, rtol)
    counts = _Counts(len(keys), values, measured)
    for batch in _batches(connection, _join(selected, len(keys), values)):
        counts.add(batch)

    results = []
    for side, label, mine, alone in (
        (new, "new", [pair.column_new for pair in (*keys, *values)], counts.only_new),
        (old, "old", [pair.column_old for pair in (*keys, *values)], counts.only_old),
    ):
        rows, duplicate_rows = duplicates[label]
        first = [_key(row, on) for row in alone.worst.rows()]
        others = [name for name in side.types if name not in mine and name not in ROW_IDS]
        results.append(SideResult(side.path, side.rows, Rows(alone.count, first), rows, duplicate_rows, others))
    columns = [
        ColumnResult(
            pair.column_new,
            pair.column_old,
            counts.differing[number],
            [_worst_row(row, on, pair.numeric) for row in counts.worst[number].rows()],
            measured.get(number),
        )
        for number, pair in enumerate(values)
    ]
    return Comparison(results[0], results[1], on, counts.paired, counts.differing_rows, columns, max_differing)


class _Alone:
    """Rows that one side lacks: how many, and those with the first keys."""

    def __init__(self, keys: int) -> None:
        self.count = 0
        self.worst = WorstRows(keys)

    def add(self, rows: pa.Table) -> None:
        self.count += rows.num_rows
        self.worst.add(np.zeros(rows.num_rows), rows)


class _Counts:
    """What the batches of the join came to."""

    def __init__(self, keys: int, values: Sequence[Pair], measured: Mapping[int, Differences]) -> None:
        self._keys = [f"k{number}" for number in range(keys)]
        self._values, self._measured = values, measured
        self.only_new, self.only_old = _Alone(keys), _Alone(keys)
        self.paired = self.differing_rows = 0
        self.differing = [0] * len(values)
        self.worst = [WorstRows(keys) for _ in values]

    def add(self, batch: pa.RecordBatch) -> None:
        in_new, in_old = (batch[name].is_valid().to_numpy(zero_copy_only=False) for name in ("in_new", "in_old"))
        both = in_new & in_old
        if not both.all():
            keys = pa.Table.from_batches([batch]).select(self._keys)
            self.only_new.add(keys.filter(pa.array(~in_old)))
            self.only_old.add(keys.filter(pa.array(~in_new)))
            batch = batch.filter(pa.array(both))
        self.paired += batch.num_rows
        differing = np.zeros(batch.num_rows, bool)
        for number, pair in enumerate(self._values):
            a, b = batch[f"a{number}"], batch[f"b{number}"]
            if pair.numeric:
                severity = self._measured[number].add(a, b)
            else:
                severity = np.where(batch[f"d{number}"].to_numpy(zero_copy_only=False), 0.0, -1.0)
            far = severity >= 0
            if far.any():
                self.differing[number] += int(far.sum())
                differing |= far
                keys = [batch[name] for name in self._keys]
                self.worst[number].add(severity, pa.table([*keys, a, b], [*self._keys, "new", "old"]))
        self.differing_rows += int(differing.sum())


def _select(side: Side, keys: Sequence[str], values: Sequence[str]) -> str:
    """The rows of a side with keys as k0, k1, ... and values as v0, v1, ..."""
    columns = [f"{key} AS k{number}" for number, key in enumerate(keys)]
    columns += [f"{value} AS v{number}" for number, value in enumerate(values)]
    return f"SELECT true AS here, {', '.join(columns)} FROM {side.relation}"


def _duplicates(connection: duckdb.DuckDBPyConnection, label: str, select: str, on: Sequence[str]) -> tuple[Rows, int]:
    """Keys that more than one row has, kept in a table for `_without_duplicates`; and how many rows they are of."""
    keys = ", ".join(f"k{number}" for number in range(len(on)))
    connection.execute(
        f"CREATE TEMP TABLE duplicates_{label} AS "
        f"SELECT {keys}, count(*) AS rows FROM ({select}) GROUP BY {keys} HAVING count(*) > 1"
    )
    ((count, rows),) = connection.execute(f"SELECT count(*), coalesce(sum(rows), 0) FROM duplicates_{label}").fetchall()
    first = connection.execute(f"SELECT {keys} FROM duplicates_{label} ORDER BY {keys} LIMIT {WORST_ROWS}").fetchall()
    return Rows(count, [dict(zip(on, row, strict=True)) for row in first]), int(rows)


def _without_duplicates(select: str, keys: int) -> str:
    """The rows whose keys neither side has twice: which of them belong together cannot be told."""
    conditions = [
        f"NOT EXISTS (SELECT 1 FROM duplicates_{label} d WHERE {_same_keys('s', 'd', keys)})"
        for label in ("new", "old")
    ]
    return f"SELECT * FROM ({select}) s WHERE {' AND '.join(conditions)}"


def _join(selected: Mapping[str, str], keys: int, values: Sequence[Pair]) -> str:
    """All rows of both sides: keys, a0, b0, ... of NEW and OLD; of a column that is no number only those that differ."""
    columns = [f"coalesce(n.k{number}, o.k{number}) AS k{number}" for number in range(keys)]
    for number, pair in enumerate(values):
        a, b = f"n.v{number}", f"o.v{number}"
        if not pair.numeric:
            columns.append(f"{a} IS DISTINCT FROM {b} AS d{number}")
            a, b = (f"CASE WHEN {a} IS DISTINCT FROM {b} THEN {value} END" for value in (a, b))
        columns += [f"{a} AS a{number}", f"{b} AS b{number}"]
    return (
        f"SELECT n.here AS in_new, o.here AS in_old, {', '.join(columns)} "
        f"FROM ({selected['new']}) n FULL OUTER JOIN ({selected['old']}) o ON {_same_keys('n', 'o', keys)}"
    )


def _same_keys(left: str, right: str, keys: int) -> str:
    return " AND ".join(f"{left}.k{number} IS NOT DISTINCT FROM {right}.k{number}" for number in range(keys))


def _measures(
    connection: duckdb.DuckDBPyConnection,
    selected: Mapping[str, str],
    values: Sequence[Pair],
    atol: float | None,
    rtol: float | None,
) -> dict[int, Differences]:
    """What measures each column of numbers. Its tolerance and its plots need the range of its values first."""
    numbers = [number for number, pair in enumerate(values) if pair.numeric]
    ranges = {label: {number: Range() for number in numbers} for label in selected}
    for label, select in selected.items():
        if numbers:
            columns = ", ".join(f"v{number}" for number in numbers)
            for batch in _batches(connection, f"SELECT {columns} FROM ({select})"):
                for number in numbers:
                    ranges[label][number].add(batch[f"v{number}"])
    measured = {}
    for number in numbers:
        new, old = ranges["new"][number], ranges["old"][number]
        tolerance = Tolerance(atol or 0.0, rtol or 0.0)
        if atol is None and rtol is None:
            tolerance = Tolerance(TOLERANCE * max(1.0, old.largest), 0.0)
        measured[number] = Differences(tolerance, min(new.low, old.low), max(new.high, old.high))
    return measured


def _batches(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.RecordBatch]:
    """The rows of a query as they come, in batches of bounded rows and bytes."""
    for batch in connection.sql(query).to_arrow_reader(_BATCH_ROWS):
        rows = max(1, batch.num_rows * _BATCH_BYTES // max(batch.nbytes, _BATCH_BYTES))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def _key(row: Mapping[str, Any], on: Sequence[str]) -> dict[str, Any]:
    return {name: row[f"k{number}"] for number, name in enumerate(on)}


def _worst_row(row: Mapping[str, Any], on: Sequence[str], numeric: bool) -> dict[str, Any]:
    found = {"key": _key(row, on), "new": row["new"], "old": row["old"]}
    if numeric:
        found |= {"at": None, "difference": None}
        places = list(_places(row["new"], row["old"]))
        if None not in places:
            worst = max(filter(None, places), key=lambda place: math.inf if math.isnan(place[1]) else place[1])
            found |= {"at": worst[0] or None, "difference": worst[1]}
    return found


def _places(new: Any, old: Any, at: tuple[int, ...] = ()) -> Iterator[tuple[list[int], float] | None]:
    """Indices and difference of each value of a row, NaN where one side has no number; None where the lengths are others."""
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        for index, (a, b) in enumerate(zip(new, old, strict=True)):
            yield from _places(a, b, (*at, index))
    elif isinstance(new, list) or isinstance(old, list):
        yield None
    else:
        a, b = (math.nan if value is None else float(value) for value in (new, old))
        same = a == b or (math.isnan(a) and math.isnan(b))
        yield list(at), 0.0 if same else abs(a - b)
