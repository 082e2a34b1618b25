"""Pass-through columns: as in the file, or of the type that is asked for, exactly."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from test_decode import RANGE, text

from pipeline.decode_rows import decode_rows
from pipeline.features import Feature
from pipeline.rows import Columns, PassThrough


def passed(values, type_, *, is_text=False, features=()):
    columns = Columns({feature.name: feature for feature in features}, passthrough={"p": PassThrough("x", type_)})
    rows = len(values)
    return decode_rows({"x": values}, columns, np.arange(rows), text=is_text)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None], pa.int16()),
        pa.array([Decimal("1.5"), None]),
        pa.array([0, None], pa.timestamp("ns", "UTC")),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([{"a": [1]}, None]),
        pa.array([[1], []], pa.list_(pa.int64())),
        pa.array([b"\xff", None]),
        pa.array(["a", None], pa.large_string()),
    ],
    ids=lambda array: str(array.type)[:20],
)
def test_pass_through_as_in_the_file(array):
    chunk = passed(array, None)
    assert chunk.rows.column("passthrough:p").equals(array)
    assert chunk.rejected == ()


@pytest.mark.parametrize(
    ("values", "type_", "expected"),
    [
        (pa.array([1, None]), pa.int32(), [1, None]),
        (pa.array([1.0, None]), pa.int64(), [1, None]),
        (text(b"180.0", None), pa.int64(), [180, None]),
        (text(b"x", b""), pa.string(), ["x", ""]),
        (text(b"x"), pa.binary(), [b"x"]),
        (["x", None], pa.large_string(), ["x", None]),
        ([[1, 2], None, []], pa.list_(pa.int64()), [[1, 2], None, []]),
        ([[1, 2]], pa.list_(pa.int32(), 2), [[1, 2]]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_pass_through_of_a_type(values, type_, expected):
    is_text = isinstance(values, pa.Array) and pa.types.is_binary(values.type)
    chunk = passed(values, type_, is_text=is_text)
    assert chunk.rows.column("passthrough:p").type == type_
    assert chunk.rows.column("passthrough:p").to_pylist() == expected
    assert chunk.rejected == ()


def test_pass_through_that_does_not_fit_is_a_bad_row():
    def reasons(*args, **options):
        return [(row.row, row.reason) for row in passed(*args, **options).rejected]

    prefix = "pass-through column 'p': "
    assert reasons(pa.array([1, 300, None]), pa.int8()) == [(1, prefix + RANGE.format("int8"))]
    not_utf8 = prefix + "its text is not UTF-8; write dtype: binary"
    assert reasons(text(b"a", b"\xff"), pa.string(), is_text=True) == [(1, not_utf8)]
    assert reasons(text(b"a", b"\xff"), None, is_text=True) == [(1, not_utf8)]
    lying = pa.Array.from_buffers(pa.string(), 2, text(b"a", b"\xff").buffers())
    assert reasons(lying, None) == [(1, not_utf8)]
    assert reasons(text(b"2024-01-01", b"2024-13-01", None), pa.timestamp("s"), is_text=True) == [
        (1, prefix + "its value does not fit timestamp[s]")
    ]
    assert reasons(pa.array([{"a": 1}, None]), pa.int64()) == [(0, prefix + "expected int64, found struct<a: int64>")]


def test_pass_through_of_a_raw_feature_has_its_dtype_and_no_default():
    features = [Feature("x", "int64", "fixed", (), 7)]
    chunk = passed(text(b"180.0", None), None, is_text=True, features=features)
    assert chunk.rows.to_pylist() == [
        {"_row": 0, "feature:x": 180, "passthrough:p": 180}, {"_row": 1, "feature:x": 7, "passthrough:p": None},
    ]  # fmt: skip
    shaped = Feature("x", "string", "fixed", (2,))
    assert passed([["a", "b"]], None, features=[shaped]).rows.schema.field("passthrough:p").type == pa.list_(
        pa.string(), 2
    )
