"""Source columns to canonical ones: what is taken, exactly as what, and what is refused with which words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.decode import decode_column
from pipeline.decode_rows import decode_rows
from pipeline.decode_text import decode_json
from pipeline.features import Feature
from pipeline.rows import Columns

NAN, INF = float("nan"), float("inf")
BIG = 2**53 + 1
FRACTION = "expected int64, found a number with a fraction"
RANGE = "expected {}, found a number out of its range"
LARGE = "expected float32, found a number too large for it"
WORDS = "found text that is not a number"
AMBIGUOUS = "expected int64, found a float64 too large to tell which integer it was"
MISSING = "missing, and it has no default"


def scalar(dtype: str, default: object = None) -> Feature:
    return Feature("x", dtype, "fixed", (), default)


def text(*cells: bytes | None) -> pa.Array:
    return pa.array(cells, pa.binary())


TAKEN = [
    ("int32 for int64", pa.array([1, -2], pa.int32()), "int64", [1, -2]),
    ("int64 beyond double", pa.array([BIG, -(2**63), 2**63 - 1]), "int64", [BIG, -(2**63), 2**63 - 1]),
    ("uint64 within int64", pa.array([2**63 - 1], pa.uint64()), "int64", [2**63 - 1]),
    ("uint64", pa.array([2**64 - 1], pa.uint64()), "uint64", [2**64 - 1]),
    ("whole floats for int64", pa.array([180.0, -0.0, 2.0**53 - 1]), "int64", [180, 0, 2**53 - 1]),
    ("decimal for int64", pa.array([Decimal("180.00"), Decimal(BIG)], pa.decimal128(20, 2)), "int64", [180, BIG]),
    ("text for int64", text(b"180.0", b" 7 ", b"+5", b"1e3", b"007", b"-9223372036854775808"), "int64",
     [180, 7, 5, 1000, 7, -(2**63)]),
    ("text beyond double", text(b"9007199254740993", b"9007199254740993.0"), "int64", [BIG, BIG]),
    ("text for uint64", text(b"18446744073709551615", b"3"), "uint64", [2**64 - 1, 3]),
    ("int64 for int8", pa.array([-128, 127]), "int8", [-128, 127]),
    ("NaN and infinities", pa.array([NAN, INF, -INF]), "float32", [NAN, INF, -INF]),
    ("text NaN and infinities", text(b"nan", b"-inf", b"Infinity", b"NaN"), "float32", [NAN, -INF, INF, NAN]),
    ("smallest float32", text(b"1e-45", b"-1e-46"), "float32", [float(np.float32(1e-45)), -0.0]),
    ("integer for float64", pa.array([2**53, -(2**60)]), "float64", [2.0**53, -(2.0**60)]),
    ("float16", pa.array(np.array([0.1, 65504], np.float16)), "float16", [float(np.float16(0.1)), 65504.0]),
    ("bool", pa.array([True, False]), "bool", [True, False]),
    ("text for bool", text(b"true", b"False"), "bool", [True, False]),
    ("dictionary", pa.array(["a", "b", "a"]).dictionary_encode(), "string", [b"a", b"b", b"a"]),
    ("large string", pa.array(["é", ""], pa.large_string()), "string", ["é".encode(), b""]),
    ("string with NUL", pa.array([b"x\0", b"\0"]), "string", [b"x\0", b"\0"]),
    ("words", pa.array(["True", "None", "NA", "nan", "007"]), "string", [b"True", b"None", b"NA", b"nan", b"007"]),
    ("not UTF-8", pa.array([b"\xff"]), "string", [b"\xff"]),
    ("list of one", pa.array([[5], [6]]), "int64", [5, 6]),
    ("slice", pa.array([0, BIG, None, 3])[1:2], "int64", [BIG]),
    ("chunks", pa.chunked_array([[1], [], [2]], pa.int64()), "int64", [1, 2]),
    ("no rows", pa.array([], pa.int64()), "int64", []),
    ("no chunks", pa.chunked_array([], pa.int64()), "int64", []),
]  # fmt: skip


@pytest.mark.parametrize(("values", "dtype", "expected"), [case[1:] for case in TAKEN], ids=[case[0] for case in TAKEN])
def test_taken(values, dtype, expected):
    decoded = decode_column(values, scalar(dtype))
    assert decoded.bad == {}
    assert decoded.values.type == scalar(dtype).arrow_type
    assert decoded.values.null_count == 0
    # repr tells -0.0 from 0.0, NaN from other values, and an int from a float
    assert [repr(value) for value in decoded.values.to_pylist()] == [repr(value) for value in expected]
    assert decoded.present.tolist() == [True] * len(expected)


REFUSED = [
    ("fraction", pa.array([1.5]), "int64", FRACTION),
    ("text fraction", text(b"1.5"), "int64", FRACTION),
    ("tiny exponent", text(b"1e-99999999999"), "int64", FRACTION),
    ("decimal fraction", pa.array([Decimal("1.50")]), "int64", FRACTION),
    ("NaN for int64", pa.array([NAN]), "int64", "expected int64, found a number that is not finite"),
    ("text NaN for int64", text(b"nan"), "int64", "expected int64, found a number that is not finite"),
    ("float of 2**53", pa.array([2.0**53]), "int64", AMBIGUOUS),
    ("float of 2**63", pa.array([2.0**63]), "int64", AMBIGUOUS),
    ("text of 2**63", text(b"9223372036854775808"), "int64", RANGE.format("int64")),
    ("huge exponent", text(b"1e999999999999999999999"), "int64", RANGE.format("int64")),
    ("negative for uint64", pa.array([-1]), "uint64", RANGE.format("uint64")),
    ("text negative for uint64", text(b"-1"), "uint64", RANGE.format("uint64")),
    ("uint64 for int64", pa.array([2**63], pa.uint64()), "int64", RANGE.format("int64")),
    ("128 for int8", pa.array([128]), "int8", RANGE.format("int8")),
    ("float 300 for uint8", pa.array([300.0]), "uint8", RANGE.format("uint8")),
    ("becomes infinite", pa.array([1e39]), "float32", LARGE),
    ("text becomes infinite", text(b"-1e400"), "float32", LARGE),
    ("text becomes float64 infinite", text(b"1e309"), "float64", "expected float64, found a number too large for it"),
    ("decimal becomes infinite", pa.array([Decimal(10) ** 39], pa.decimal256(50, 0)), "float32", LARGE),
    (
        "integer that float64 rounds",
        pa.array([BIG]),
        "float64",
        "expected float64, found an integer that it cannot hold exactly",
    ),
    ("hexadecimal", text(b"0x1f"), "int64", f"expected int64, {WORDS}"),
    ("underscore", text(b"1_000"), "float32", f"expected float32, {WORDS}"),
    ("arabic digits", text("٣".encode()), "int64", f"expected int64, {WORDS}"),
    ("empty text", text(b""), "float32", f"expected float32, {WORDS}"),
    ("line feed", text(b"5\n"), "int64", f"expected int64, {WORDS}"),
    ("bool for int64", pa.array([True]), "int64", "expected int64, found bool"),
    ("bool for float32", pa.array([True]), "float32", "expected float32, found bool"),
    ("int64 for bool", pa.array([1]), "bool", "expected bool, found int64"),
    ("text 1 for bool", text(b"1"), "bool", "expected bool, found text that is not true or false"),
    ("int64 for string", pa.array([1]), "string", "expected string, found int64"),
    ("float64 for string", pa.array([1.0]), "string", "expected string, found float64"),
    ("timestamp", pa.array([0], pa.timestamp("us")), "int64", "expected int64, found timestamp[us]"),
    ("struct", pa.array([{"a": 1}]), "int64", "expected int64, found struct<a: int64>"),
    ("two for one", pa.array([[1, 2]]), "int64", "expected one value, found 2 values"),
    ("none for one", pa.array([[]], pa.list_(pa.int64())), "int64", "expected one value, found an empty list"),
    ("null in list", pa.array([[None]], pa.list_(pa.int64())), "int64", "a null inside its list"),
    ("missing", pa.array([None], pa.int64()), "int64", MISSING),
    ("missing text", text(None), "float32", MISSING),
    ("null type", pa.nulls(1), "string", MISSING),
]


@pytest.mark.parametrize(
    ("values", "dtype", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_refused(values, dtype, reason):
    assert decode_column(values, scalar(dtype)).bad == {0: reason}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("source", ["float64", "int64", "uint64", "text"])
def test_floats_are_rounded_to_nearest(dtype, source):
    rng = np.random.default_rng(7)
    values = rng.normal(size=2000) * 10.0 ** rng.integers(-3, 4, 2000)
    if source != "float64":
        values = np.abs(values).astype(source if source != "text" else "float64")
    column = pa.array([repr(float(value)).encode() for value in values]) if source == "text" else pa.array(values)
    decoded = decode_column(column, scalar(dtype))
    assert decoded.bad == {}
    np.testing.assert_array_equal(decoded.values.to_numpy(), [np.dtype(dtype).type(float(value)) for value in values])


def test_only_the_bad_rows_of_a_column_are_bad():
    decoded = decode_column(pa.array([1.0, None, 2.5, 3.0, NAN]), scalar("int64", default=9))
    assert sorted(decoded.bad) == [2, 4]
    assert [decoded.values[row].as_py() for row in (0, 1, 3)] == [1, 9, 3]
    assert decoded.present.tolist() == [True, False, True, True, True]
    assert decoded.missing.tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("dtype", "filler"), [("float32", 0.0), ("int64", 0), ("string", b""), ("bool", False), ("float16", 0.0)]
)
def test_missing_optional_feature_gets_a_filler(dtype, filler):
    decoded = decode_column(pa.nulls(2), scalar(dtype), optional=True)
    assert (decoded.values.to_pylist(), decoded.bad, decoded.present.tolist()) == ([filler] * 2, {}, [False] * 2)


def test_default_of_a_shape():
    feature = Feature("x", "int64", "fixed", (2, 2), (1, 2, 3, 4))
    assert decode_column(pa.array([None, [5, 6, 7, 8]]), feature).values.to_pylist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    feature = Feature("x", "string", "fixed", (2,), "a")
    assert decode_column(pa.array([None, ["b", "c"]]), feature).values.to_pylist() == [[b"a", b"a"], [b"b", b"c"]]


NESTED: list[Any] = [
    [[1, 2], [3, 4]],
    None,
    [[1, 2], [3]],
    [[1, 2]],
    [[1, 2], None],
    [[1, 2], [3, None]],
    [],
    [[5, 6], [7, 8]],
]
NESTED_REASONS = {
    1: MISSING,
    2: "expected shape (2, 2) = 4 values, found lists of different lengths",
    3: "expected shape (2, 2) = 4 values, found shape (1, 2)",
    4: "expected shape (2, 2) = 4 values, found lists beside nulls or single values",
    5: "a null inside its list",
    6: "expected shape (2, 2) = 4 values, found shape (0,)",
}


@pytest.mark.parametrize("type_", [pa.list_(pa.list_(pa.int64())), pa.large_list(pa.large_list(pa.int32()))], ids=str)
@pytest.mark.parametrize("first", [0, 1, 3])
def test_nested_lists_of_any_slice(type_, first):
    decoded = decode_column(pa.array(NESTED, type_)[first:], Feature("x", "float32", "fixed", (2, 2)))
    assert decoded.bad == {row - first: reason for row, reason in NESTED_REASONS.items() if row >= first}
    good = [row for row in range(first, 8) if row not in NESTED_REASONS]
    assert [decoded.values[row - first].as_py() for row in good] == [
        [value for pair in NESTED[row] for value in pair] for row in good
    ]


def test_nested_json_is_judged_as_nested_lists():
    decoded = decode_json(NESTED, Feature("x", "float32", "fixed", (2, 2)))
    assert {**decoded.bad, 6: NESTED_REASONS[6]} == NESTED_REASONS  # [] alone does not tell how deep it is
    assert decoded.bad[6] == "expected shape (2, 2) = 4 values, found an empty list"
    assert decoded.values[7].as_py() == [5, 6, 7, 8]


@pytest.mark.parametrize("type_", [pa.list_(pa.list_(pa.int64(), 2), 2), pa.list_(pa.list_(pa.int64(), 2))], ids=str)
def test_fixed_size_lists_of_any_slice(type_):
    array = pa.array([[[1, 2], [3, 4]], None, [[5, 6], [7, 8]], [[9, 8], [7, 6]]], type_)
    decoded = decode_column(array[1:3], Feature("x", "int64", "fixed", (2, 2), default=0))
    assert decoded.values.to_pylist() == [[0, 0, 0, 0], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1, 2, 3]], "found 3 values"),
        ([1], "found 1 value"),
        ([[[1, 2, 3, 4]]], "found shape (1, 4)"),
        ([[[[1, 2], [3, 4]]]], "found lists nested 3 deep"),
    ],
)
def test_wrong_shape(values, reason):
    feature = Feature("x", "int64", "fixed", (2, 2))
    assert decode_column(pa.array(values), feature).bad == {0: f"expected shape (2, 2) = 4 values, {reason}"}


def test_flat_list_of_a_shape():
    assert decode_column(pa.array([[1, 2, 3, 4]]), Feature("x", "int64", "fixed", (2, 2))).values.to_pylist() == [
        [1, 2, 3, 4]
    ]


@pytest.mark.parametrize("kind", ["varlen", "ragged"])
@pytest.mark.parametrize("type_", [pa.list_(pa.int64()), pa.large_list(pa.int32())], ids=str)
def test_lists(kind, type_):
    array = pa.array([[7], [1, BIG % 1000], None, [], [None], [3]], type_)
    decoded = decode_column(array[1:], Feature("x", "int64", kind))
    assert decoded.values.to_pylist() == [[1, BIG % 1000], [], [], [], [3]]
    assert decoded.present.tolist() == [True, False, False, True, True]
    assert decoded.bad == {3: "a null inside its list"}


def test_list_refusals():
    varlen = Feature("x", "int64", "varlen")
    assert decode_column(pa.array([5, None]), varlen).values.to_pylist() == [[5], []]
    assert decode_column(pa.array([[1.0], [1.5, 2.0], [2.0]]), varlen).bad == {1: FRACTION}
    assert decode_column(pa.array([[1.0], [1.5, 2.0], [2.0]]), varlen).values.to_pylist() == [[1], [], [2]]
    assert decode_column(pa.array([[[1]]]), varlen).bad == {0: "expected a flat list, found lists nested 2 deep"}
    assert decode_column(pa.array([["a"], None]), varlen).bad == {0: f"expected int64, {WORDS}"}
    assert decode_column(pa.array([[0]]).cast(pa.list_(pa.timestamp("s"))), varlen).bad == {
        0: "expected int64, found timestamp[s]"
    }


def test_lists_whose_nulls_cover_values():
    """A null list may have values behind it, which `flatten` drops and offsets do not."""
    offsets, values = pa.array([0, 2, 4, 5], pa.int32()), pa.array([1, 2, 3, 4, 5])
    array = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    assert decode_column(array, Feature("x", "int64", "varlen")).values.to_pylist() == [[1, 2], [], [5]]
    fixed = pa.ListArray.from_arrays(pa.array([0, 2, 4, 6], pa.int32()), pa.array([1, 2, None, 4, 5, 6]),
                                     mask=pa.array([False, True, False]))  # fmt: skip
    decoded = decode_column(fixed, Feature("x", "int64", "fixed", (2,), default=(8, 9)))
    assert (decoded.values.to_pylist(), decoded.bad) == ([[1, 2], [8, 9], [5, 6]], {})


def test_dictionaries_inside_lists():
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    array = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), words)
    assert decode_column(array, Feature("x", "string", "varlen")).values.to_pylist() == [[b"a"], [b"b", b"a"]]


def test_rows_keep_numbers_and_records_of_the_good_and_reasons_of_the_bad():
    columns = Columns({"a": scalar("int64"), "b": scalar("float32")}, frozenset(["b"]), {"a": "source"})
    record = pa.array([b"r0", b"r1", b"r2", b"r3"])
    source = {"source": pa.array([1, None, 3, 4])}
    chunk = decode_rows(source, columns, np.array([10, 11, 13, 14]), record=record, bad={3: "its line is wrong"})
    assert chunk.rows.to_pylist() == [
        {"_row": 10, "record": b"r0", "feature:a": 1, "feature:b": 0.0},
        {"_row": 13, "record": b"r2", "feature:a": 3, "feature:b": 0.0},
    ]
    assert tuple(row[:4] for row in chunk.rejected) == (
        (11, "read", f"feature 'a': {MISSING}", b"r1"),
        (14, "read", "its line is wrong", b"r3"),
    )
    assert (chunk.read, chunk.present) == (4, {"a": 3, "b": 0})
