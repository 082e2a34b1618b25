"""CSV and JSON lines with bad cells, bad lines or broken quoting: what each costs, and what the command says of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import bad_inputs
import pytest
from bad_inputs import BAD, TEXT_MARK, BadRow, Bench, BrokenShard, Row, make_rows, with_rows

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

HEADER = b"id,note,x,n,pixels,words"


def csv_line(row: Row, **cells: bytes) -> bytes:
    """A row as a line of CSV; `cells` replace what stands there, quotes included."""
    plain = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in row.items()}
    quoted = {
        name: ('"' + text.replace('"', '""') + '"').encode() if name in ("note", "pixels", "words") else text.encode()
        for name, text in plain.items()
    }
    return b",".join({**quoted, **cells}.values())


def csv(lines: Iterable[bytes], header: bytes = HEADER) -> bytes:
    return b"".join(line + b"\r\n" for line in (header, *lines))


def cells(**cells: str) -> Callable[[Row], bytes]:
    return lambda row: csv_line(row, **{name: text.encode() for name, text in cells.items()})


SHAPE = "feature 'pixels': expected shape (2, 2) = 4 values"
BAD_LINES: dict[str, tuple[Callable[[Row], bytes], str]] = {
    "too few fields": (lambda row: csv_line(row).rpartition(b',"')[0], "expected 6 fields, found 5"),
    "too many fields": (lambda row: csv_line(row) + f",{TEXT_MARK}".encode(), "expected 6 fields, found 7"),
    "comma that is not quoted": (cells(note=f"{TEXT_MARK},{TEXT_MARK}"), "expected 6 fields, found 7"),
    "text for float": (cells(x=TEXT_MARK), "feature 'x': expected float32, found text that is not a number"),
    "quoted and empty": (cells(x='""'), "feature 'x': expected float32, found text that is not a number"),
    "empty": (cells(x=""), "feature 'x': missing, and it has no default"),
    "two numbers": (cells(x="31337313 2"), "feature 'x': expected float32, found text that is not a number"),
    "decimal comma": (cells(x='"31337313,5"'), "feature 'x': expected float32, found text that is not a number"),
    "too large for float32": (
        cells(x="3.1337313e39"),
        "feature 'x': expected float32, found a number too large for it",
    ),
    "fraction for integer": (cells(n="31337313.5"), "feature 'n': expected int64, found a number with a fraction"),
    "out of range": (cells(n="3133731300000000000000"), "feature 'n': expected int64, found a number out of its range"),
    "infinity for integer": (cells(n="inf"), "feature 'n': expected int64, found a number that is not finite"),
    "no JSON in a cell": (cells(pixels=f'"[[{TEXT_MARK}]"'), f"{SHAPE} as JSON, found text that is not JSON"),
    "list cut off": (cells(pixels='"[[31337313, 2], [3,"'), f"{SHAPE} as JSON, found text that is not JSON"),
    "list of another shape": (cells(pixels='"[[31337313, 2, 3, 4]]"'), f"{SHAPE}, found shape (1, 4)"),
    "list with a null": (cells(pixels='"[[31337313, 2], [3, null]]"'), "feature 'pixels': a null inside its list"),
    "object for words": (cells(words=f'"{{""{TEXT_MARK}"": 1}}"'), "feature 'words': expected string, found object"),
    "text to pass through as integer": (
        cells(id=TEXT_MARK),
        "pass-through column 'id': expected int64, found text that is not a number",
    ),
    "bytes to pass through as text": (
        lambda row: csv_line(row, note=b"\xff" + TEXT_MARK.encode()),
        "pass-through column 'note': its text is not UTF-8; write dtype: binary",
    ),
}


@pytest.mark.fault("one-bad-row")
def test_bad_csv_lines_cost_themselves(bench: Bench) -> None:
    bench.format = "csv"
    shards, bad = {}, {}
    for kind, rows, (spoil, reason) in with_rows(BAD_LINES):
        lines = [csv_line(row) for row in rows]
        lines[BAD] = spoil(rows[BAD])
        bad[kind] = HEADER + b"\n" + lines[BAD]
        shards[kind] = BadRow(csv(lines), rows, reason)
    outcome = bench.assert_bad_rows_cost_themselves(shards)
    assert {Path(row["_shard"]).stem: row["_record"] for row in outcome.rejected} == bad


def spoiled(spoil: Callable[[Row], bytes]) -> Callable[[list[Row]], bytes]:
    return lambda rows: csv([spoil(row) if number == BAD else csv_line(row) for number, row in enumerate(rows)])


LACKS = "the CSV file lacks the column 'x' (feature 'x'); name it in input.optional or rename it in input.rename"
BROKEN_CSV: dict[str, tuple[Callable[[list[Row]], bytes], int, str]] = {
    "stray quote": (spoiled(cells(note=f'{TEXT_MARK}"')), BAD, "row 2: a quote inside a field that is not quoted"),
    "text after a quote": (spoiled(cells(note=f'"a"{TEXT_MARK}')), BAD, "row 2: text after a closing quote"),
    "quote that is never closed": (
        spoiled(cells(words=f'"{TEXT_MARK}')), BAD, "row 2: text after a closing quote",
    ),
    "end of file in a quote": (
        lambda rows: csv(map(csv_line, rows)).removesuffix(b'"\r\n'), 4, "row 4: the file ends inside a quoted field",
    ),
    "lone carriage return": (
        spoiled(cells(note=f"{TEXT_MARK}\r{TEXT_MARK}")), BAD, "row 2: a carriage return without a line feed",
    ),
    "column missing": (lambda rows: csv(map(csv_line, rows), HEADER.replace(b"x", b"y")), 0, LACKS),
    "column twice": (
        lambda rows: csv(map(csv_line, rows), HEADER.replace(b"note", b"x")), 0, "the header names the column 'x' 2 times",
    ),
    "another delimiter": (lambda rows: csv(map(csv_line, rows), HEADER.replace(b",", b";")), 0, LACKS),
    "no header": (lambda rows: csv(map(csv_line, rows[1:]), csv_line(rows[0])), 0, LACKS),
    "no header, and a value twice": (
        lambda rows: csv(map(csv_line, rows[1:]), f"{TEXT_MARK},{TEXT_MARK}".encode()), 0,
        "the header gives one name to its columns 1, 2",
    ),
    "empty file": (lambda rows: b"", 0, "the file has no header"),
    "UTF-16": (
        lambda rows: csv(map(csv_line, rows)).decode().encode("utf-16"), 0, "the text is UTF-16; write it as UTF-8",
    ),
    "gzip cut off": (lambda rows: gzip.compress(csv(map(csv_line, rows)))[:-8], 5, "the gzip stream is cut off"),
}  # fmt: skip


@pytest.mark.fault("one-broken-shard")
def test_broken_csv_shards_cost_themselves(bench: Bench) -> None:
    bench.format = "csv"
    shards = {
        kind: BrokenShard(spoil(rows), rows[:kept], reason)
        for kind, rows, (spoil, kept, reason) in with_rows(BROKEN_CSV)
    }
    good = make_rows(3, first=1000)
    bench.assert_broken_shards_cost_themselves(shards, csv(map(csv_line, good)), good)


def json_line(row: Mapping[str, Any], **values: Any) -> bytes:
    return json.dumps({**row, **values}).encode()


def written(name: str, text: str) -> Callable[[Row], bytes]:
    """A line where `name` stands with this JSON text."""
    return lambda row: json_line(row, **{name: "HERE"}).replace(b'"HERE"', text.encode())


NOT_JSON = "the line is not JSON"
BAD_OBJECTS: dict[str, tuple[Callable[[Row], bytes], str]] = {
    "text": (lambda row: TEXT_MARK.encode(), NOT_JSON),
    "cut off": (lambda row: json_line(row)[:-9], NOT_JSON),
    "two objects": (lambda row: json_line(row) * 2, NOT_JSON),
    "single quotes": (lambda row: json_line(row).replace(b'"', b"'"), NOT_JSON),
    "nested too deep": (written("x", "[" * 100_000), NOT_JSON),
    "list": (lambda row: b"[" + json_line(row) + b"]", "the line is not an object"),
    "null": (lambda row: b"null", "the line is not an object"),
    "key twice": (lambda row: json_line(row)[:-1] + b', "x": 31337313}', "a key stands twice in an object"),
    "not UTF-8": (lambda row: json_line(row).replace(b"note", b"\xff"), "the line is not UTF-8"),
    "missing": (
        lambda row: json_line({name: value for name, value in row.items() if name != "x"}),
        "feature 'x': missing, and it has no default",
    ),
    "text for float": (
        written("x", f'"{TEXT_MARK}"'),
        "feature 'x': expected float32, found text that is not a number",
    ),
    "bool for float": (written("x", "true"), "feature 'x': expected float32, found bool"),
    "object for float": (written("x", f'{{"{TEXT_MARK}": 1}}'), "feature 'x': expected float32, found object"),
    "list for float": (written("x", "[31337313, 2]"), "feature 'x': expected one value, found 2 values"),
    "too large for float32": (
        written("x", "3.1337313e39"),
        "feature 'x': expected float32, found a number too large for it",
    ),
    "float beyond 2^53 for integer": (
        written("n", "31337313370000000.0"),
        "feature 'n': expected int64, found a float64 too large to tell which integer it was",
    ),
    "fraction for integer": (written("n", "31337313.5"), "feature 'n': expected int64, found a number with a fraction"),
    "out of range": (
        written("n", "3133731300000000000000"),
        "feature 'n': expected int64, found a number out of its range",
    ),
    "number for words": (written("words", "[31337313]"), "feature 'words': expected string, found int64"),
    "half a surrogate pair": (
        written("words", f'["{TEXT_MARK}\\ud800"]'),
        "feature 'words': expected string, found text that is not Unicode",
    ),
    "lists of different lengths": (
        written("pixels", "[[31337313, 2], [3]]"),
        f"{SHAPE}, found lists of different lengths",
    ),
    "text to pass through as integer": (
        written("id", f'"{TEXT_MARK}"'),
        "pass-through column 'id': expected int64, found text that is not a number",
    ),
    "object to pass through": (
        written("note", f'{{"{TEXT_MARK}": 1}}'),
        "pass-through column 'note': expected string, found object",
    ),
}


@pytest.mark.fault("one-bad-row")
def test_bad_json_lines_cost_themselves(bench: Bench) -> None:
    bench.format = "jsonl"
    shards, bad = {}, {}
    for kind, rows, (spoil, reason) in with_rows(BAD_OBJECTS):
        lines = [json_line(row) for row in rows]
        bad[kind] = lines[BAD] = spoil(rows[BAD])
        shards[kind] = BadRow(b"\n".join(lines), rows, reason)
    outcome = bench.assert_bad_rows_cost_themselves(shards)
    assert {Path(row["_shard"]).stem: row["_record"] for row in outcome.rejected} == bad


def test_last_line_that_is_cut_off(bench: Bench) -> None:
    bench.format = "jsonl"
    rows = make_rows(3)
    shard = BadRow(b"\n".join(map(json_line, rows))[:-9], rows, NOT_JSON)
    bench.assert_bad_rows_cost_themselves({"cut": shard})


@pytest.mark.fault("one-broken-shard")
def test_broken_json_lines_cost_themselves(bench: Bench) -> None:
    bench.format = "jsonl"
    rows, good = make_rows(5), make_rows(3, first=1000)
    lines = b"".join(json_line(row) + b"\n" for row in rows)
    shards = {
        "gzip cut off": BrokenShard(gzip.compress(lines)[:-8], rows, "the gzip stream is cut off"),
        "UTF-16": BrokenShard(lines.decode().encode("utf-16"), [], "the text is UTF-16; write it as UTF-8"),
    }
    bench.assert_broken_shards_cost_themselves(shards, b"\n".join(map(json_line, good)), good)
