"""Rows in, predictions out: one session call a batch, and the one bad row found where a batch fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.decode_rows import fitting
from pipeline.errors import BudgetError, ModelError, RowCountError
from pipeline.model import BatchResult, Model, is_data_error
from pipeline.outputs import OutputColumn, to_arrow
from pipeline.rows import ROW, Columns, Rejected, Rows, origin_of, record_bytes


class Scored(NamedTuple):
    """What became of a batch.

    rows: the pass-through columns, the predictions and `_row`, of the rows that were scored, in order.
    rejected: the others. present: feature -> rows that had a value, where the graph parsed them.
    halved: how often a batch was too large for the memory and was scored in two halves.
    """

    rows: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    present: Mapping[str, int]
    halved: int = 0


@dataclass(frozen=True)
class RowScorer:
    """Scores record batches with a model; holds what decides their outcome and nothing that changes.

    columns: what is taken out of a record. outputs: the prediction columns. row_wise: False where scores depend on the
    other rows of the batch: it is never cut then. non_finite: keep, reject (the row) or fail (the run).
    keep_record: whether a rejected row keeps its record.
    """

    model: Model
    columns: Columns
    outputs: Sequence[OutputColumn]
    row_wise: bool = True
    non_finite: str = "fail"
    keep_record: bool = True

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of `Scored.rows`."""
        fields = [pa.field(name, passthrough.type) for name, passthrough in self.columns.passthrough.items()]
        fields += [pa.field(column.name, column.type) for column in self.outputs]
        return pa.schema([*fields, pa.field(ROW, pa.int64())])

    def score(self, rows: Rows) -> Scored:
        """Score a batch; a row that cannot be scored costs itself alone.

        Raises:
          BudgetError: a prediction is not finite, and the job says `errors.non_finite: fail`.
          ModelError: predictions that are not one for each row.
        """
        if rows.num_rows == 0:
            return Scored(_empty(self.schema), (), {})
        of_path = self.columns.of_path.features  # which the chunk has counted
        pieces, failed, halved = self._run(rows)
        scored, rejected, present = [], list(failed), Counter[str]()
        for piece, result in pieces:
            batch, bad = self._to_output(piece, result)
            scored.append(batch)
            rejected += bad
            present.update({name: count for name, count in result.present.items() if name not in of_path})
        batch = scored[0] if len(scored) == 1 else _concat(scored, self.schema)
        return Scored(batch, tuple(rejected), present, halved)

    def _run(self, rows: Rows, may_halve: bool = True) -> tuple[list[tuple[Rows, BatchResult]], list[Rejected], int]:
        """Predictions of the runs of rows that TensorFlow takes, by bisection, and the rows that it refuses alone."""
        import tensorflow as tf

        keys = tuple(dict.fromkeys(column.key for column in self.outputs))
        halved = 0
        try:
            return [(rows, self.model.run(rows, keys))], [], 0
        except tf.errors.ResourceExhaustedError:
            if not (may_halve and self.row_wise and rows.num_rows > 1):
                raise
            may_halve, halved = False, 1
        except RowCountError:
            if not (self.row_wise and rows.num_rows == 1):
                raise
            return (
                [],
                [self._rejected(rows, 0, "predict", "the row alone gives not one prediction but another number")],
                0,
            )
        except Exception as error:
            if not is_data_error(error):
                raise
            if not self.row_wise:
                return [], self._refused_whole(rows), 0
            if rows.num_rows == 1:
                return [], [self._refused(rows)], 0
        middle = rows.num_rows // 2
        first, second = self._run(rows.slice(0, middle), may_halve), self._run(rows.slice(middle), may_halve)
        return first[0] + second[0], first[1] + second[1], first[2] + second[2] + halved

    def _refused_whole(self, rows: Rows) -> list[Rejected]:
        stage, reason = self.model.failing_stage(rows)
        reason += "; its batch is rejected whole, since model.row_wise is false"
        return [self._rejected(rows, index, stage, reason) for index in range(rows.num_rows)]

    def _refused(self, row: Rows) -> Rejected:
        stage, reason = self.model.failing_stage(row)
        if stage == "read":
            reason = self.model.graph_input.refusal(row) or reason
        return self._rejected(row, 0, stage, reason)

    def _rejected(self, rows: Rows, index: int, stage: str, reason: str) -> Rejected:
        record = record_bytes(rows, index) if self.keep_record else None
        return Rejected(rows.column(ROW)[index].as_py(), stage, reason, record)

    def _to_output(self, rows: Rows, result: BatchResult) -> tuple[pa.RecordBatch, list[Rejected]]:
        arrays: list[pa.Array] = []
        bad: dict[int, tuple[str, str]] = {}
        for name, passthrough in self.columns.passthrough.items():
            array, misfits = _passthrough_array(name, result.passthrough[name], passthrough.type)
            arrays.append(array)
            bad.update({index: ("read", reason) for index, reason in misfits.items()})
        for key, values in result.predictions.items():
            for index in self._non_finite(key, values, rows):
                bad.setdefault(index, ("predict", f"prediction {key!r} is not finite"))
        for column in self.outputs:
            array, misfits = to_arrow(column, result.predictions[column.key])
            arrays.append(array)
            for index, reason in misfits.items():
                bad.setdefault(index, ("predict", reason))
        batch = pa.RecordBatch.from_arrays([*arrays, rows.column(ROW)], schema=self.schema)
        if not bad:
            return batch, []
        good = np.ones(rows.num_rows, bool)
        good[list(bad)] = False
        rejected = [self._rejected(rows, index, *bad[index]) for index in sorted(bad)]
        return batch.filter(pa.array(good)), rejected

    def _non_finite(self, key: str, values: np.ndarray, rows: pa.RecordBatch) -> list[int]:
        if self.non_finite == "keep" or values.dtype.kind != "f":
            return []
        finite = np.isfinite(values)
        if finite.all():
            return []
        indices = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1)).tolist()
        if self.non_finite == "fail":
            shard, first = origin_of(rows, indices[0])
            error = BudgetError(
                f"prediction {key!r} is not finite (NaN or infinite) in {len(indices)} of {len(values)} rows of a batch, "
                f"first in row {first}; write errors.non_finite: reject to set such rows aside, or keep to publish them"
            )
            error.stage, error.shard, error.row = "predict", shard, first
            raise error
        return indices


def _passthrough_array(name: str, array: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """A pass-through column in its type, and why rows do not fit it."""
    if array.type == wanted:
        return array, {}
    bad: dict[int, str] = {}
    if pa.types.is_list(array.type) and not pa.types.is_nested(wanted):
        offsets = array.offsets.to_numpy()
        if array.null_count == 0 and (np.diff(offsets) == 1).all():  # as nearly always
            array = array.flatten()
        else:
            lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
            for index in np.flatnonzero(lengths > 1).tolist():
                bad[index] = f"pass-through column {name!r}: expected one value, found {lengths[index]}"
            firsts = pa.array(np.where(lengths > 0, offsets[:-1], 0), mask=lengths == 0)
            array = array.values.take(firsts)
    array, misfits = fitting(array, wanted)
    reasons = {index: f"pass-through column {name!r}: {reason}" for index, reason in misfits.items()}
    return array, {**reasons, **bad}


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _concat(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if not batches:
        return _empty(schema)
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches()[0] if table.num_rows else _empty(schema)


def all_alike(rejected: Sequence[Rejected]) -> bool:
    """Whether rows were all refused for one reason: then the job is wrong, and not the rows."""
    return len({(row.stage, row.reason) for row in rejected}) == 1


def refuse_wrong_job(scored: Scored) -> None:
    """Raise where every row of a first batch fails alike: a wrong job, not thousands of bad rows."""
    rejected = scored.rejected
    if scored.rows.num_rows == 0 and len(rejected) > 1 and all_alike(rejected):
        raise ModelError(
            f"all {len(rejected)} rows of the first batch fail alike, so the job is wrong and not the rows: "
            f"{rejected[0].stage}: {rejected[0].reason}"
        )
