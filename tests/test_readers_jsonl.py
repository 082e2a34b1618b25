"""JSON lines: what a line has to be, at any block size."""

from __future__ import annotations

import gzip
import io
import json

import pyarrow as pa
import pytest

from pipeline.errors import BrokenShard
from pipeline.features import Feature
from pipeline.readers.jsonl import read_jsonl
from pipeline.rows import Columns, PassThrough, Rejected

BIG = 2**53 + 1
COLUMNS = Columns(
    {
        "n": Feature("n", "int64", default=7),
        "x": Feature("x", "float32", default=0.0),
        "s": Feature("s", "string", default=""),
        "l": Feature("l", "int64", "varlen"),
        "image": Feature("image", "float32", "fixed", (2, 2), 0.0),
    },
    sources={"n": "number"},
    passthrough={"id": PassThrough("id", pa.string()), "n": PassThrough("n")},
)
GOOD = [
    b'{"number": 9007199254740993, "x": NaN, "s": "\\u00e9\\u0000", "l": [1, 2], "id": "a"}',
    b' {"number":180.0,"x":-0.0,"s":"\xc3\xa9","l":[],"image":[[1,2],[3,4]],"id":null}\t',
    b'{"number": -9223372036854775808, "x": -Infinity, "l": 5, "image": [1, 2, 3, 4], "other": {"a": 1}}',
    b"{}",
]
GOOD_ROWS = [
    (BIG, "nan", "é\0".encode(), [1, 2], [0.0] * 4, "a", BIG),
    (180, "-0.0", "é".encode(), [], [1, 2, 3, 4], None, 180),
    (-(2**63), "-inf", b"", [5], [1, 2, 3, 4], None, -(2**63)),
    (7, "0.0", b"", [], [0.0] * 4, None, None),
]
BAD = {
    b"x": "the line is not JSON",
    b'{"number": 1': "the line is not JSON",
    b'{"number": 01}': "the line is not JSON",
    b"[1]": "the line is not an object",
    b"null": "the line is not an object",
    b'{"number": 1, "number": 1}': "a key stands twice in an object",
    b'{"s": "\xff"}': "the line is not UTF-8",
    b'{"s": "\\ud800"}': "feature 's': expected string, found text that is not Unicode",
    b'{"number": true}': "feature 'n': expected int64, found bool",
    b'{"number": 1.5}': "feature 'n': expected int64, found a number with a fraction",
    b'{"number": 9007199254740993.0}': "feature 'n': expected int64, found a float64 too large to tell which integer it was",
    b'{"number": 9223372036854775808}': "feature 'n': expected int64, found a number out of its range",
    b'{"x": 1e39}': "feature 'x': expected float32, found a number too large for it",
    b'{"s": 5}': "feature 's': expected string, found int64",
    b'{"l": [1, null]}': "feature 'l': a null inside its list",
    b'{"image": [[1, 2], [3]]}': "feature 'image': expected shape (2, 2) = 4 values, found lists of different lengths",
    b'{"number": ' + b"1" * 5000 + b"}": None,
    b"[" * 100_000: "the line is not JSON",
    b'{"id": 5}': "pass-through column 'id': expected string, found int64",
}


def read(data: bytes, block_bytes: int = 1 << 20, rows: int = 3, columns: Columns = COLUMNS):
    good: list[dict] = []
    rejected: list[Rejected] = []
    count = 0
    try:
        for chunk in read_jsonl(io.BytesIO(data), columns, rows=rows, max_bytes=1 << 20, block_bytes=block_bytes):
            assert chunk.read == chunk.rows.num_rows + len(chunk.rejected) <= rows
            count += chunk.read
            good += chunk.rows.to_pylist()
            rejected += chunk.rejected
    except BrokenShard as error:
        return good, rejected, str(error)
    assert sorted([row["_row"] for row in good] + [row.row for row in rejected]) == list(range(count))
    return good, rejected, None


def values(rows):
    return [
        (row["feature:n"], str(row["feature:x"]), row["feature:s"], row["feature:l"], row["feature:image"],
         row["passthrough:id"], row["passthrough:n"])
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 64, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n \n"], ids=["LF", "CRLF", "blank lines"])
def test_lines_at_any_block_size(end, block_bytes):
    for data in (end.join(GOOD), b"\xef\xbb\xbf" + end.join([*GOOD, b""]), gzip.compress(end.join(GOOD))):
        good, rejected, broken = read(data, block_bytes)
        assert (rejected, broken) == ([], None)
        assert values(good) == GOOD_ROWS
        assert [row["record"] for row in good] == GOOD


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=[line[:30].decode(errors="replace") for line in BAD])
def test_a_bad_line_costs_its_row(line, reason):
    good, rejected, broken = read(b"\n".join([GOOD[0], line, GOOD[1]]))
    assert broken is None
    assert values(good) == GOOD_ROWS[:2]
    [row] = rejected
    assert (row.row, row.stage, row.record) == (1, "read", line)
    if reason is not None:  # how many digits json takes depends on the version of Python
        assert row.reason == reason


def test_an_empty_file_has_no_rows():
    assert read(b"") == ([], [], None)
    assert read(b"\xef\xbb\xbf\n \n") == ([], [], None)


def test_a_cut_gzip_gives_the_whole_lines_before():
    lines = [json.dumps({"number": index, "s": str(index**5)}).encode() for index in range(20_000)]
    data = gzip.compress(b"\n".join(lines))
    good, rejected, broken = read(data[: len(data) // 2], rows=1000, block_bytes=4096)
    assert broken == "the gzip stream is cut off"
    assert rejected == []
    assert len(good) > 5_000
    assert [row["feature:n"] for row in good] == list(range(len(good)))


def test_present_counts():
    [chunk] = read_jsonl(io.BytesIO(b"\n".join(GOOD)), COLUMNS, rows=9, max_bytes=1 << 20)
    assert chunk.present == {"n": 3, "x": 3, "s": 2, "l": 2, "image": 2}
