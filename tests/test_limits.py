"""A trial run takes the first rows of the first shards, and its manifest says so."""

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pyarrow as pa
import pytest
import zoo_data
from transform_cases import taxi_case
from transform_job import differences, manifest, predictions_of, read_output, trained_job, write_shards

from pipeline.commands import main
from pipeline.read import first_rows
from pipeline.rows import ROW, Chunk, Rejected

pytestmark = pytest.mark.any_tensorflow


def chunk(start, count, bad=()):
    numbers = [number for number in range(start, start + count) if number not in bad]
    rows = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], [ROW])
    return Chunk(rows, tuple(Rejected(number, "read", "bad") for number in bad), count, {"a": len(numbers)})


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9, 10, 11])
def test_the_first_rows_good_or_bad_and_no_more(limit):
    chunks = list(first_rows([chunk(0, 4, bad=[2]), chunk(4, 4), chunk(8, 2, bad=[9])], limit))
    numbers = [number for part in chunks for number in part.rows.column(ROW).to_pylist()]
    rejected = [row.row for part in chunks for row in part.rejected]
    assert sorted(numbers + rejected) == list(range(min(limit, 10)))
    assert sum(part.read for part in chunks) == min(limit, 10)
    assert all(part.present["a"] <= part.read for part in chunks)


def test_nothing_behind_the_limit_is_read():
    def chunks():
        yield chunk(0, 4)
        raise AssertionError("read on")

    assert sum(part.read for part in first_rows(chunks(), 4)) == 4


def test_a_trial_run_scores_its_rows_as_the_whole_run_does(tmp_path):
    case = taxi_case("taxi_tft")
    write_shards(tmp_path, case, zoo_data.split(case.rows(), 4), "tfrecord")
    job, trial = str(trained_job(tmp_path)), tmp_path / "trial"
    limits = ["--limit_shards", "2", "--limit_rows", "5", "--set", f"output.path={trial / 'out'}", "--quiet"]

    assert main(["score", "--config", job, *limits]) == 0

    assert not (tmp_path / "out").exists()
    assert manifest(trial)["limited"] == {"shards": 2, "rows": 5}
    assert manifest(trial)["rows"] == {"read": 10, "scored": 10, "rejected": 0}
    assert main(["score", "--config", job, "--quiet"]) == 0
    assert manifest(tmp_path)["limited"] is None
    rows, whole = read_output(trial), read_output(tmp_path)
    chosen = whole.take([*range(5), *range(20, 25)])
    assert rows.select(["id", "_shard", "_row"]) == chosen.select(["id", "_shard", "_row"])
    assert differences(predictions_of(rows), predictions_of(chosen), 1e-5) == []
