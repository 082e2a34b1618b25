"""Predictions to Arrow columns: types from the graph, values unchanged."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import JobError, ModelError
from pipeline.job.values import PredictionKey
from pipeline.outputs import OutputColumn, PredictionSpec, check_names, output_columns, to_arrow

PROBABILITIES = PredictionSpec("probabilities", "float32", (3,), "probabilities")
CLASSES = PredictionSpec("classes", "string", (1,), "classes")
SCORE = PredictionSpec("score", "float64", (), "score")
ALL_CLASSES = PredictionSpec("all_classes", "string", (3,), "all_classes")
HEAD = PredictionSpec("first/logits", "float32", (2,), "first_logits")


@pytest.mark.parametrize(
    ("dtype", "shape", "expected"),
    [
        pytest.param("float32", (), pa.float32(), id="one value is a plain column"),
        pytest.param("int64", (1,), pa.list_(pa.int64(), 1), id="one column is a list of one"),
        pytest.param("float32", (10,), pa.list_(pa.float32(), 10), id="known length"),
        pytest.param("string", (None,), pa.list_(pa.string()), id="unknown length"),
        pytest.param("bool", (2, 3), pa.list_(pa.list_(pa.bool_(), 3), 2), id="nested"),
        pytest.param("int32", (None, 3), pa.list_(pa.list_(pa.int32(), 3)), id="nested, unknown outside"),
        pytest.param("float16", (), pa.float16(), id="half"),
        pytest.param("uint8", (), pa.uint8(), id="unsigned"),
    ],
)
def test_the_type_is_that_of_the_graph(dtype, shape, expected):
    (column,) = output_columns([PredictionSpec("p", dtype, shape, "p")], None, {})
    assert column.type == expected


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_values_come_back_as_they_were(dtype, shape, rows):
    values = np.random.default_rng(0).integers(0, 2, (rows, *shape)).astype(dtype)
    (column,) = output_columns([PredictionSpec("p", dtype, shape, "p")], None, {})
    array, bad = to_arrow(column, values)
    assert array.type == column.type
    assert array.to_pylist() == values.tolist()
    assert bad == {}


@pytest.mark.parametrize("length", [0, 1, 4])
def test_a_length_that_the_graph_does_not_know(length):
    values = np.arange(3 * length, dtype=np.int64).reshape(3, length)
    (column,) = output_columns([PredictionSpec("p", "int64", (None,), "p")], None, {})
    array, _ = to_arrow(column, values)
    assert array.type == pa.list_(pa.int64())
    assert array.to_pylist() == values.tolist()


def test_all_but_the_constant_predictions_are_written_when_none_is_named():
    columns = output_columns([PROBABILITIES, ALL_CLASSES, SCORE], None, {})
    assert [column.name for column in columns] == ["probabilities", "score"]


def test_constant_predictions_are_written_when_named():
    columns = output_columns([PROBABILITIES, ALL_CLASSES], {"all_classes": PredictionKey("all_classes", None)}, {})
    assert [column.name for column in columns] == ["all_classes"]


def test_predictions_are_renamed_and_indexed():
    chosen = {"label": PredictionKey("score", None), "second": PredictionKey("probabilities", 1)}
    label, second = output_columns([PROBABILITIES, SCORE], chosen, {})
    assert (label.name, label.type) == ("label", pa.float64())
    assert (second.name, second.type) == ("second", pa.float32())
    array, _ = to_arrow(second, np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    assert array.to_pylist() == [2.0, 5.0]


def test_a_key_of_a_head_has_a_column_without_the_slash():
    assert [column.name for column in output_columns([HEAD], None, {})] == ["first_logits"]
    named = {"first/logits": PredictionKey("first/logits", None)}
    assert [column.name for column in output_columns([HEAD], named, {})] == ["first_logits"]


@pytest.mark.parametrize(
    ("chosen", "types", "message"),
    [
        pytest.param({"x": PredictionKey("probabilites", None)}, {}, "did you mean 'probabilities'", id="mistyped key"),
        pytest.param({"x": PredictionKey("score", 0)}, {}, "has one value a row", id="index of a scalar"),
        pytest.param({"x": PredictionKey("probabilities", 3)}, {}, "has 3 values", id="index too large"),
        pytest.param(None, {"clases": pa.binary()}, "no output column is called 'clases'", id="type of no column"),
        pytest.param(None, {"score": pa.binary()}, "float64 predictions cannot be written", id="number as bytes"),
    ],
)
def test_what_a_job_cannot_ask_for(chosen, types, message):
    with pytest.raises(JobError, match=message):
        output_columns([PROBABILITIES, SCORE], chosen, types)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(JobError, match="two columns are called 'a'"):
        check_names(["a", "b", "a"])


def test_bytes_that_are_not_utf8_are_bad_rows_that_name_the_remedy():
    (column,) = output_columns([CLASSES], None, {})
    array, bad = to_arrow(column, np.array([[b"a"], [b"\xff"], ["ä".encode()]], object))
    assert array.to_pylist()[0] == ["a"]
    assert array.to_pylist()[2] == ["ä"]
    assert list(bad) == [1]
    assert "output.types: {classes: binary}" in bad[1]


def test_bytes_are_kept_as_binary_where_the_job_says_so():
    (column,) = output_columns([CLASSES], None, {"classes": pa.binary()})
    array, bad = to_arrow(column, np.array([[b"\xff\x00"]], object))
    assert array.to_pylist() == [[b"\xff\x00"]]
    assert bad == {}


def test_a_value_that_does_not_fit_the_type_of_the_job_is_a_bad_row():
    column = OutputColumn("score", "score", None, pa.int8(), ())
    array, bad = to_arrow(column, np.array([1, 300, -5], np.int64))
    assert array.to_pylist() == [1, None, -5]
    assert list(bad) == [1]
    assert "300" not in bad[1]


def test_another_rank_than_the_graph_said_is_refused():
    (column,) = output_columns([SCORE], None, {})
    with pytest.raises(ModelError, match="expected rank 1, got 2"):
        to_arrow(column, np.zeros((2, 2)))
