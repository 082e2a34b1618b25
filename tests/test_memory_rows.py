"""Features in memory are taken by the rules of the shards, whatever holds them."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest

from pipeline.features import Feature
from pipeline.memory_rows import rows_from_memory, spec_from_memory
from pipeline.rows import Columns, PassThrough

pd = pytest.importorskip("pandas")

BIG = 2**53 + 1
NAN = float("nan")
N, X, S = Feature("n", "int64"), Feature("x", "float32"), Feature("s", "string", default=b"?")


def rows(features, *wanted: Feature, **options):
    chunk = rows_from_memory(features, Columns({feature.name: feature for feature in wanted}, **options))
    assert chunk.read == chunk.rows.num_rows + len(chunk.rejected)
    return chunk


def column(values, feature: Feature) -> list:
    chunk = rows({feature.name: values}, feature)
    assert chunk.rejected == ()
    return chunk.rows.column(f"feature:{feature.name}").to_pylist()


@pytest.mark.parametrize(
    "features",
    [
        {"n": np.array([BIG, -1]), "x": np.array([0.5, -0.0]), "s": np.array(["é", ""], object)},
        {"n": [BIG, -1], "x": [0.5, -0.0], "s": ["é", b""]},
        {"n": (np.int64(BIG), np.int8(-1)), "x": [np.float32(0.5), -0.0], "s": np.array(["é", ""])},
        {"n": np.array([BIG, -1], object), "x": np.array([0.5, -0.0], np.float16), "s": np.array(["é".encode(), b""])},
        {"n": np.array([BIG, -1], ">i8"), "x": np.array([0.5, 9, -0.0])[::2], "s": pa.array(["é", ""])},
        pd.DataFrame({"n": [BIG, -1], "x": [0.5, -0.0], "s": ["é", ""]}),
        pd.DataFrame(
            {"n": pd.array([BIG, -1], "Int64"), "x": [0.5, -0.0], "s": pd.Series(["é", ""]).astype("category")}
        ),
        pa.table({"n": [BIG, -1], "x": [0.5, -0.0], "s": ["é", ""]}),
        pa.record_batch({"n": [BIG, -1], "x": [0.5, -0.0], "s": ["é", ""]}),
    ],
    ids=[
        "arrays",
        "lists",
        "numpy scalars",
        "objects",
        "byte order",
        "DataFrame",
        "extension types",
        "Table",
        "RecordBatch",
    ],
)
def test_all_that_holds_rows(features):
    chunk = rows(features, N, X, S)
    assert chunk.rejected == ()
    assert [str(row) for row in chunk.rows.to_pylist()] == [
        str({"_row": 0, "feature:n": BIG, "feature:x": 0.5, "feature:s": "é".encode()}),
        str({"_row": 1, "feature:n": -1, "feature:x": -0.0, "feature:s": b""}),
    ]
    assert chunk.present == {"n": 2, "x": 2, "s": 2}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_with_a_row_shape(dtype, order):
    images = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    image = Feature("image", "float32", "fixed", (4, 5))
    assert column(np.asarray(images, dtype, order), image) == images.reshape(3, 20).tolist()
    assert column(images.tolist(), image) == images.reshape(3, 20).tolist()
    assert column(list(images), image) == images.reshape(3, 20).tolist()
    assert column(images[1:, ::-1], image) == images[1:, ::-1].reshape(2, 20).tolist()


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 5, 4), (2, 19), (2,), (2, 1, 4, 5)], ids=str)
def test_a_wrong_row_shape_is_refused_by_name(shape):
    chunk = rows({"image": np.zeros(shape)}, Feature("image", "float32", "fixed", (4, 5)))
    assert [row.row for row in chunk.rejected] == [0, 1]
    assert chunk.rejected[0].reason.startswith("feature 'image': expected shape (4, 5) = 20 values, found ")


def test_strings_with_a_row_shape():
    words = Feature("words", "string", "fixed", (2,))
    for array in (
        np.array([["a", "b"], ["c", "é"]]),
        np.array([["a", "b"], ["c", "é"]], object),
        [["a", "b"], ["c", "é"]],
    ):
        assert column(array, words) == [[b"a", b"b"], [b"c", "é".encode()]]


def test_trailing_nul_is_kept_where_numpy_keeps_it():
    assert column(np.array([b"x\0"], object), S) == [b"x\0"]
    assert column([b"x\0"], S) == [b"x\0"]


def test_lists_of_any_length():
    varlen = Feature("v", "int64", "varlen")
    ragged = np.empty(3, object)
    ragged[:] = [np.array([1, BIG]), None, []]
    for values in (
        ragged,
        [[1, BIG], None, []],
        [(1, BIG), None, ()],
        pa.array([[1, BIG], None, []]),
        pd.Series(list(ragged)),
    ):
        assert column(values, varlen) == [[1, BIG], [], []]
    assert column(np.array([[1, 2], [3, 4]]), varlen) == [[1, 2], [3, 4]]
    assert column(np.zeros((2, 0), np.int64), varlen) == [[], []]


@pytest.mark.parametrize(
    ("values", "feature", "expected"),
    [
        (np.array([None, "a"], object), S, [b"?", b"a"]),
        (pd.Series(["a", NAN, None, pd.NA], dtype=object), S, [b"a", b"?", b"?", b"?"]),
        (pd.Series(["a", None]), S, [b"a", b"?"]),
        (pd.Series([1, None], dtype="Int64"), Feature("n", "int64", default=5), [1, 5]),
        (pd.Series([BIG, pd.NA], dtype=object), Feature("n", "int64", default=5), [BIG, 5]),
        (np.ma.masked_array([BIG, 2], [False, True]), Feature("n", "int64", default=5), [BIG, 5]),
    ],
    ids=["None", "NaN among objects", "str", "Int64", "NA", "mask"],
)
def test_missing_values(values, feature, expected):
    assert column(values, feature) == expected


def test_nan_of_a_float_column_is_a_value():
    for values in (pd.Series([NAN]), np.array([NAN]), [NAN], pd.Series([NAN], dtype=object)):
        assert np.isnan(column(values, X)).all()
        assert rows({"x": values}, X).present == {"x": 1}


@pytest.mark.parametrize(
    ("values", "feature", "reason"),
    [
        (np.array([1.5]), N, "expected int64, found a number with a fraction"),
        (np.array([NAN]), N, "expected int64, found a number that is not finite"),
        (np.array([True]), N, "expected int64, found bool"),
        (np.array([1j]), X, "expected float32, found complex"),
        (np.array(["2024-01-01"], "datetime64[D]"), N, "expected int64, found date32[day]"),
        (np.array([1]), S, "expected string, found int64"),
        (["a"], X, "expected float32, found text that is not a number"),
        ([object()], X, "expected float32, found object"),
        ([None], X, "missing, and it has no default"),
    ],
    ids=["fraction", "NaN", "bool", "complex", "date", "number", "text", "object", "None"],
)
def test_refused_rows(values, feature, reason):
    assert [row.reason for row in rows({feature.name: values}, feature).rejected] == [
        f"feature {feature.name!r}: {reason}"
    ]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"n": [1, 2], "x": [1.0]}, "features: 'n' has 2 rows and 'x' has 1"),
        ({"x": [1.0], "y": [1]}, "features: 'n' is missing; there are: 'x', 'y'"),
        ({"n": [1], "x": np.float32(1)}, "features: 'x': expected an array with an item per row, got a single value"),
        ({"n": [1], "x": b"bytes"}, "features: 'x': expected an array or a list with an item per row, got bytes"),
        ({"n": [1], "x": 1.0}, "features: 'x': expected an array or a list with an item per row, got float"),
        ([1], "features: expected a dict of arrays, a DataFrame, a RecordBatch or a Table, got list"),
        (pd.DataFrame([[1, 2]], columns=["n", "n"]), "features: 2 columns of the DataFrame are named 'n'"),
        (pa.table([[1], [2]], names=["n", "n"]), "features: 2 columns of the Table are named 'n'"),
    ],
    ids=["lengths", "lost", "scalar", "bytes", "number", "list", "doubled", "doubled in Arrow"],
)
def test_what_is_no_table_of_rows(features, message):
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(") + "$"):
        rows(features, N, X)


def test_optional_and_pass_through():
    chunk = rows({"id": ["a", None]}, X, optional=frozenset("x"), passthrough={"trip": PassThrough("id", pa.string())})
    assert chunk.rows.to_pylist() == [
        {"_row": 0, "feature:x": 0.0, "passthrough:trip": "a"}, {"_row": 1, "feature:x": 0.0, "passthrough:trip": None},
    ]  # fmt: skip


def test_no_rows():
    assert rows({"x": np.zeros(0, np.float32)}, X).rows.num_rows == 0
    assert rows({"x": []}, X).rows.schema.field("feature:x").type == pa.float32()


def test_spec_from_memory():
    features = {
        "image": np.zeros((3, 2, 4), np.float32), "n": np.array([1, 2, 3], np.int32), "s": ["a", b"b", None],
        "o": np.array(["a", None, "b"], object), "u": np.array(["a", "b", "c"]), "lists": [[1], [], [1, 2]],
        "even": [[1.0, 2.0]] * 3, "flag": [True, False, True], "category": pd.Series(["a", "b", "a"]).astype("category"),
        "arrow": pa.array([["a"], [], None]),
    }  # fmt: skip
    assert spec_from_memory(features) == {
        "image": Feature("image", "float32", "fixed", (2, 4)), "n": Feature("n", "int32"), "s": Feature("s", "string"),
        "o": Feature("o", "string"), "u": Feature("u", "string"), "lists": Feature("lists", "int64", "varlen"),
        "even": Feature("even", "float64", "fixed", (2,)), "flag": Feature("flag", "bool"),
        "category": Feature("category", "string"), "arrow": Feature("arrow", "string", "varlen"),
    }  # fmt: skip
    chunk = rows(features, *spec_from_memory({**features, "s": ["a", "b", "c"], "o": ["a", "b", "c"]}).values())
    assert [row.reason for row in chunk.rejected] == [
        "feature 'o': missing, and it has no default", "feature 's': missing, and it has no default",
    ]  # fmt: skip


def test_spec_of_a_dtype_that_no_feature_has():
    with pytest.raises(
        ValueError, match=r"^features: 'day' is of type timestamp\[s\], which no feature has; give a spec"
    ):
        spec_from_memory({"day": np.array(["2024-01-01"], "datetime64[s]")})


def test_one_row_is_quick():
    features = {"image": np.random.default_rng(0).normal(size=(1, 28, 28)).astype(np.float32)}
    columns = Columns({"image": Feature("image", "float32", "fixed", (28, 28))})
    seconds = []
    for _ in range(300):
        start = time.perf_counter()
        chunk = rows_from_memory(features, columns)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 250e-6  # 50 to 100 where nothing else runs
    np.testing.assert_array_equal(chunk.rows.column(1).flatten().to_numpy(), features["image"].reshape(-1))
