"""Rows that cannot be scored cost themselves alone. The model is a fake that fails where a test wants it to."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from pipeline.errors import BudgetError, ModelError
from pipeline.graph_input import ColumnInput
from pipeline.model import BatchResult
from pipeline.outputs import OutputColumn
from pipeline.predict import RowScorer, refuse_wrong_job
from pipeline.rows import RECORD, ROW, Columns, PassThrough, Rejected

SCORE = OutputColumn("score", "score", None, pa.float32(), ())


class FakeModel:
    """Scores a row by twice its number. `refuses`: rows that TensorFlow would refuse; `room`: rows that fit into memory."""

    graph_input = ColumnInput({})

    def __init__(self, refuses=(), scores=None, room=10**9, error=tf.errors.InvalidArgumentError):
        self.refuses, self.scores, self.room, self.error = set(refuses), scores or {}, room, error
        self.calls = []

    def run(self, rows, keys):
        numbers = rows.column(ROW).to_pylist()
        self.calls.append(numbers)
        if len(numbers) > self.room:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        if self.refuses & set(numbers):
            raise self.error(None, None, "the bytes of a row: secret")
        values = np.array([self.scores.get(number, 2.0 * number) for number in numbers], np.float32)
        return BatchResult({"score": values}, {"id": rows.column("passthrough:id")}, {"a": len(numbers)})

    def failing_stage(self, row):
        return "transform", "InvalidArgumentError in DecodeRaw"


def rows(count, ids=None):
    ids = ids if ids is not None else [10 * number for number in range(count)]
    arrays = [pa.array(range(count), pa.int64()), pa.array([b"record %d" % n for n in range(count)]), pa.array(ids)]
    return pa.RecordBatch.from_arrays(arrays, [ROW, RECORD, "passthrough:id"])


def scorer(model, **settings):
    return RowScorer(model, Columns({}, passthrough={"id": PassThrough("id", pa.int64())}), [SCORE], **settings)


def test_a_good_batch_is_one_call():
    model = FakeModel()
    scored = scorer(model).score(rows(5))
    assert scored.rows.to_pydict() == {"id": [0, 10, 20, 30, 40], "score": [0, 2, 4, 6, 8], ROW: [0, 1, 2, 3, 4]}
    assert scored.rejected == ()
    assert scored.present == {"a": 5}
    assert len(model.calls) == 1


@pytest.mark.parametrize("bad", [{0}, {6}, {3}, {0, 6}, {2, 3}, set(range(6)), set(range(7))], ids=str)
def test_bad_rows_are_isolated_and_all_others_scored_in_order(bad):
    scored = scorer(FakeModel(refuses=bad)).score(rows(7))
    good = [number for number in range(7) if number not in bad]
    assert scored.rows.column(ROW).to_pylist() == good
    assert scored.rows.column("score").to_pylist() == [2.0 * number for number in good]
    assert [row.row for row in scored.rejected] == sorted(bad)
    assert {row.stage for row in scored.rejected} == {"transform"}


def test_one_bad_row_of_4096_takes_few_calls():
    model = FakeModel(refuses={1234})
    scored = scorer(model).score(rows(4096))
    assert scored.rows.num_rows == 4095
    assert len(model.calls) <= 1 + 2 * 12


def test_a_rejected_row_keeps_its_record_and_the_reason_holds_no_bytes_of_it():
    (rejected,) = scorer(FakeModel(refuses={2})).score(rows(4)).rejected
    assert rejected == Rejected(2, "transform", "InvalidArgumentError in DecodeRaw", b"record 2")


def test_a_rejected_row_is_kept_without_its_record_where_the_job_says_so():
    (rejected,) = scorer(FakeModel(refuses={2}), keep_record=False).score(rows(4)).rejected
    assert rejected.record is None


def test_an_error_that_no_row_can_cause_fails_the_bundle():
    model = FakeModel(refuses={1}, error=tf.errors.FailedPreconditionError)  # a table that is not initialised
    with pytest.raises(tf.errors.FailedPreconditionError):
        scorer(model).score(rows(4))
    assert len(model.calls) == 1


def test_bytes_in_the_message_of_tensorflow_are_a_data_error():
    model = FakeModel(refuses={1}, error=lambda *_: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    assert [row.row for row in scorer(model).score(rows(4)).rejected] == [1]


def test_a_batch_too_large_for_the_memory_is_halved_once():
    model = FakeModel(room=4)
    scored = scorer(model).score(rows(8))
    assert scored.rows.column("score").to_pylist() == [2.0 * number for number in range(8)]
    assert scored.halved == 1
    assert [len(call) for call in model.calls] == [8, 4, 4]


def test_a_batch_is_not_halved_twice():
    with pytest.raises(tf.errors.ResourceExhaustedError):
        scorer(FakeModel(room=3)).score(rows(8))


def test_a_bad_row_is_found_in_a_halved_batch():
    scored = scorer(FakeModel(room=4, refuses={5})).score(rows(8))
    assert [row.row for row in scored.rejected] == [5]
    assert scored.rows.num_rows == 7


def test_a_batch_that_is_not_row_wise_is_rejected_whole_and_never_cut():
    model = FakeModel(refuses={1})
    scored = scorer(model, row_wise=False).score(rows(4))
    assert [row.row for row in scored.rejected] == [0, 1, 2, 3]
    assert "rejected whole" in scored.rejected[0].reason
    assert len(model.calls) == 1
    with pytest.raises(tf.errors.ResourceExhaustedError):
        scorer(FakeModel(room=2), row_wise=False).score(rows(4))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_predictions_that_are_not_finite(value):
    model = FakeModel(scores={2: value})
    with pytest.raises(BudgetError, match=r"'score' is not finite .* in 1 of 4 rows .* row 2;.*errors.non_finite"):
        scorer(model).score(rows(4))
    rejected = scorer(model, non_finite="reject").score(rows(4))
    assert [(row.row, row.stage) for row in rejected.rejected] == [(2, "predict")]
    assert rejected.rows.column(ROW).to_pylist() == [0, 1, 3]
    kept = scorer(model, non_finite="keep").score(rows(4))
    np.testing.assert_equal(kept.rows.column("score").to_pylist(), [0.0, 2.0, value, 6.0])


def test_a_pass_through_value_that_does_not_fit_its_type_is_a_bad_row():
    columns = Columns({}, passthrough={"id": PassThrough("id", pa.int8())})
    scored = RowScorer(FakeModel(), columns, [SCORE]).score(rows(3, ids=[1, 4000, None]))
    assert scored.rows.column("id").to_pylist() == [1, None]
    assert [(row.row, row.stage, row.reason) for row in scored.rejected] == [
        (1, "read", "pass-through column 'id': its value does not fit int8")
    ]


def test_pass_through_lists_of_the_graph_become_values():
    columns = Columns({}, passthrough={"id": PassThrough("id", pa.string())})
    ids = pa.array([[b"x"], None, [b"y", b"z"], [b"\xff"], ["ä".encode()]], pa.list_(pa.binary()))
    scored = RowScorer(FakeModel(), columns, [SCORE]).score(rows(5, ids=ids))
    assert scored.rows.column("id").to_pylist() == ["x", None, "ä"]
    assert [row.row for row in scored.rejected] == [2, 3]
    assert "expected one value, found 2" in scored.rejected[0].reason
    assert "dtype: binary" in scored.rejected[1].reason


def test_no_rows_give_an_empty_batch_of_the_same_schema():
    some, none = scorer(FakeModel()).score(rows(2)), scorer(FakeModel()).score(rows(0))
    assert none.rows.schema == some.rows.schema
    assert none.rows.num_rows == 0


def test_a_first_batch_that_fails_alike_is_a_wrong_job():
    with pytest.raises(ModelError, match="all 4 rows of the first batch fail alike"):
        refuse_wrong_job(scorer(FakeModel(refuses=range(4))).score(rows(4)))
    refuse_wrong_job(scorer(FakeModel(refuses=range(3))).score(rows(4)))
    refuse_wrong_job(scorer(FakeModel(refuses=[0])).score(rows(1)))
