"""What a path says, and the columns that it becomes beside the rows of a shard."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.batch import row_bytes
from pipeline.errors import BrokenShard, InputError, JobError
from pipeline.example_input import input_for
from pipeline.features import Feature
from pipeline.graph_input import dense_values
from pipeline.partitions import PathError, partition_columns, partitions_of, with_partitions
from pipeline.rows import ORIGIN, RECORD, ROW, Chunk, Columns, Origin, PassThrough, Shard

pytestmark = pytest.mark.any_tensorflow

COLUMNS = Columns(
    {"day": Feature("day", "int64"), "place": Feature("place", "string", default=b"?")},
    sources={"place": "region"},
    passthrough={"where": PassThrough("region", pa.string())},
    partitions={"day": "string", "region": "string", "unused": "string"},
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/in/day=2024-03-01/hour=07/a.csv", {"day": "2024-03-01", "hour": "07"}),
        ("gs://bucket/day=1/a.csv", {"day": "1"}),
        ("/in/day=1/plain/hour=2/a=b.csv", {"day": "1", "hour": "2"}),
        ("/in/a=b=c/x", {"a": "b=c"}),
        ("/in/a=/x", {"a": ""}),
        ("/in/=a/x", {}),
        ("/in/a%3Db=%2Fs%20%2B+%C5%BC/x", {"a=b": "/s ++ż"}),
        ("/in/a=__HIVE_DEFAULT_PARTITION__/x", {"a": None}),
        ("a.csv", {}),
    ],
)
def test_what_a_path_says(path: str, expected: dict[str, str | None]) -> None:
    assert {name: part.text for name, part in partitions_of(path).items()} == expected


@pytest.mark.parametrize(
    ("path", "message"),
    [("/in/a=1/a=2/x", "'a=1' and 'a=2' both give the column 'a'"), ("/in/a=%FF/x", "'a=%FF' is no UTF-8 text")],
)
def test_paths_that_are_refused(path: str, message: str) -> None:
    with pytest.raises(PathError, match=message):
        partitions_of(path)


def test_columns_of_the_paths() -> None:
    shards = [Shard(f"in/day=1/hour={hour}/a.csv", 1) for hour in range(3)]
    assert partition_columns("hive", shards) == {"day": "string", "hour": "string"}
    assert partition_columns({"hour": "int64"}, shards) == {"hour": "int64"}
    assert partition_columns(None, [Shard("plain/a.csv", 1)]) == {}
    with pytest.raises(
        InputError, match=r"the path of in/day=1/a.csv lacks the column 'hour', which that of in/day=1/"
    ):
        partition_columns({"day": "string"}, [*shards, Shard("in/day=1/a.csv", 1)])


def records(count: int) -> Chunk:
    columns = [pa.array(range(count), pa.int64()), pa.array([b"record"] * count)]
    return Chunk(pa.RecordBatch.from_arrays(columns, [ROW, RECORD]), (), count)


def test_constant_columns_hold_one_object() -> None:
    path = "/in/day=07/region=s%C3%BCd/a"
    [chunk] = with_partitions([records(1000)], path, COLUMNS)
    place = dense_values(chunk.rows.column("feature:place"), COLUMNS.features["place"])
    assert len({id(value) for value in place}) == 1
    assert place[0] == "süd".encode()
    assert chunk.rows.column("feature:day").to_pylist() == [7] * 1000
    assert chunk.rows.column("passthrough:where").to_pylist() == ["süd"] * 1000
    assert chunk.present == {"day": 1000, "place": 1000}


def test_batches_end_where_they_would_without_them() -> None:
    [chunk] = with_partitions([records(9)], "/in/day=1/region=" + "x" * 99 + "/a", COLUMNS)
    assert row_bytes(chunk.rows).tolist() == row_bytes(records(9).rows).tolist() == [len(b"record")] * 9


def test_rows_that_come_from_several_shards() -> None:
    rows = records(4).rows
    origins = pa.array(["/in/day=2/region=b/x", "/in/day=1/region=b/y", "/in/day=2/region=b/x", "/in/day=1/region=a/z"])
    numbers = pa.array(np.arange(4))
    rows = rows.append_column(ORIGIN, pa.StructArray.from_arrays([origins, numbers], Origin._fields))
    [chunk] = with_partitions([Chunk(rows, (), 4)], "/elsewhere/day=9/region=z/rejected", COLUMNS)
    assert chunk.rows.column("feature:day").to_pylist() == [2, 1, 2, 1]
    assert chunk.rows.column("feature:place").to_pylist() == [b"b", b"b", b"b", b"a"]
    assert chunk.present == {"day": 4, "place": 4}
    strange = pa.StructArray.from_arrays([pa.array(["/in/plain"] * 4), numbers], Origin._fields)
    other = rows.set_column(2, ORIGIN, strange)
    with pytest.raises(BrokenShard, match="its rows come from /in/plain: the path lacks the column 'day'"):
        list(with_partitions([Chunk(other, (), 4)], "/elsewhere", COLUMNS))


def test_a_signature_that_takes_records_has_no_place_for_them() -> None:
    signature = SimpleNamespace(takes_records=lambda features, transformed: True, place="the signature 'predict'")
    with pytest.raises(
        JobError, match=r"features: day: the path of a shard gives it .* the signature 'predict' takes the"
    ):
        input_for(SimpleNamespace(signature=signature), COLUMNS, "tfrecord", False)


def test_a_missing_value_counts_as_missing() -> None:
    [chunk] = with_partitions([records(2)], "/in/day=1/region=__HIVE_DEFAULT_PARTITION__/a", COLUMNS)
    assert chunk.rows.column("feature:place").to_pylist() == [b"?", b"?"]
    assert chunk.rows.column("passthrough:where").to_pylist() == [None, None]
    assert chunk.present == {"day": 2, "place": 0}
