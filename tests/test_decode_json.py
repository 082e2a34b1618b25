"""JSON to canonical columns: what is taken whatever stands beside it, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from test_decode import AMBIGUOUS, BIG, FRACTION, LARGE, MISSING, NAN, RANGE, scalar, text

from pipeline.decode_text import decode_json, decode_text
from pipeline.features import Feature

JSON = [
    ("int", BIG, "int64", BIG),
    ("uint64", 2**64 - 1, "uint64", 2**64 - 1),
    ("whole float", 180.0, "int64", 180),
    ("int for float", 2, "float32", 2.0),
    ("huge int for float", 10**25, "float32", float(np.float32(1e25))),
    ("text", "180.0", "int64", 180),
    ("NaN", NAN, "float32", NAN),
    ("string", "é", "string", "é".encode()),
    ("bytes", b"\xff\0", "string", b"\xff\0"),
    ("bool", True, "bool", True),
    ("list of one", [3], "int64", 3),
]


@pytest.mark.parametrize("others", [[], [None], ["1", 2, 3.0, True, None, {}]], ids=["alone", "null", "mixed"])
@pytest.mark.parametrize(("value", "dtype", "expected"), [case[1:] for case in JSON], ids=[case[0] for case in JSON])
def test_json_taken_whatever_stands_beside(value, dtype, expected, others):
    decoded = decode_json([*others, value], scalar(dtype, default=b"d" if dtype == "string" else 0))
    assert len(others) not in decoded.bad
    assert repr(decoded.values[len(others)].as_py()) == repr(expected)


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (2**64, "int64", RANGE.format("int64")),
        (10**400, "float32", LARGE),
        (2**200, "float32", LARGE),
        (10**400, "string", "expected string, found int64"),
        (10**400, "bool", "expected bool, found int64"),
        (BIG + 2**64, "float64", "expected float64, found an integer that it cannot hold exactly"),
        (2.0**53, "int64", AMBIGUOUS),
        (True, "int64", "expected int64, found bool"),
        (1, "bool", "expected bool, found int64"),
        (1, "string", "expected string, found int64"),
        ({}, "int64", "expected int64, found object"),
        ("\ud800", "string", "expected string, found text that is not Unicode"),
        ([1, 2], "int64", "expected one value, found 2 values"),
        ([], "int64", "expected one value, found an empty list"),
        ([None], "int64", "a null inside its list"),
        ([[1]], "int64", "expected one value, found shape (1, 1)"),
        (None, "int64", MISSING),
    ],
    ids=repr,
)
@pytest.mark.parametrize("others", [[], ["1", 2, 3.0, True]], ids=["alone", "mixed"])
def test_json_refused(value, dtype, reason, others):
    assert decode_json([*others, value], scalar(dtype)).bad[len(others)] == reason


def test_json_in_cells():
    cells = text(b"[1, 9007199254740993]", b" [ ] ", b"x", None, b"[1.5]", b"[null]", b"null", b"7", b"[[1]]", b"\xff")
    decoded = decode_text(cells, Feature("x", "int64", "varlen"))
    assert decoded.values.to_pylist() == [[1, BIG], [], [], [], [], [], [], [7], [], []]
    not_json = "expected a flat list as JSON, found text that is not JSON"
    assert decoded.bad == {
        2: not_json, 4: FRACTION, 5: "a null inside its list", 8: "expected a flat list, found shape (1, 1)", 9: not_json,
    }  # fmt: skip
    assert decoded.missing.tolist() == [row in (3, 6) for row in range(10)]
    shaped = decode_text(text(b"[[1,2],[3,4]]", b"", b"[1,2,3,4]"), Feature("x", "float32", "fixed", (2, 2)))
    assert shaped.bad == {1: "expected shape (2, 2) = 4 values as JSON, found text that is not JSON"}
    assert [shaped.values[row].as_py() for row in (0, 2)] == [[1, 2, 3, 4]] * 2
