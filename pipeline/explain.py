"""The command `explain`: what became of one row, from its record to its scores. It prints values: that is what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.batch import Regrouper
from pipeline.errors import BrokenShard, InputError, JobError
from pipeline.job import Job
from pipeline.launch import Prepared, prepare
from pipeline.plan import match_shards
from pipeline.read import read_input
from pipeline.rows import RECORD, ROW, Rejected, Shard
from pipeline.scoring import close_scorers


def explain(job: Job, row: str | None, key: str | None, tensors: Sequence[str] = ()) -> str:
    """Tell one row's record, its features before and after the transform, named tensors, and its scores.

    Args:
      job: the job; its checks run first, as before a run.
      row: SHARD:ROW, as `_shard` and `_row` say; or None.
      key: COLUMN=VALUE of a pass-through column; the first row that has it; or None.
      tensors: names of tensors in the graph, such as `dense/BiasAdd:0`.

    Raises:
      JobError: a row or a tensor that cannot be named so. InputError: no such row.
    """
    shards = match_shards(job.input)
    wanted = _Wanted.parse(job, shards, row, key)
    prepared = prepare(job, shards)
    try:
        for shard in wanted.shards:
            for batch in _batches(prepared, shard, wanted.number):
                if isinstance(batch, Rejected):
                    return f"{shard.path}:{batch.row} is rejected at {batch.stage}: {batch.reason}"
                index = wanted.index(prepared, batch)
                if index is not None:
                    return _explain(prepared, shard, batch, index, tensors)
    finally:
        close_scorers()
    raise InputError(f"{wanted.text}: no shard has such a row")


class _Wanted:
    """The row that is looked for: by shard and number, or by the value of a pass-through column."""

    def __init__(self, text: str, shards: Sequence[Shard], number: int | None, column: str = "", value: str = ""):
        self.text, self.shards, self.number, self.column, self.value = text, shards, number, column, value

    @classmethod
    def parse(cls, job: Job, shards: Sequence[Shard], row: str | None, key: str | None) -> _Wanted:
        if row is not None:
            path, _, number = row.rpartition(":")
            named = [shard for shard in shards if path in (shard.path, shard.path.rpartition("/")[2])]
            if not number.isdecimal() or not path:
                raise JobError(f"--row {row}: write SHARD:ROW, as the columns _shard and _row have them")
            if len(named) != 1:
                raise JobError(f"--row {row}: {len(named)} shards of input.pattern are called {path}")
            return cls(f"--row {row}", named, int(number))
        column, _, value = (key or "").partition("=")
        if column not in job.output.passthrough:
            raise JobError(f"--key {key}: write COLUMN=VALUE with a column of output.passthrough")
        return cls(f"--key {key}", shards, None, column, value)

    def index(self, prepared: Prepared, batch: pa.RecordBatch) -> int | None:
        """Position of the row in a batch."""
        if self.number is not None:
            numbers = batch.column(ROW).to_pylist()
            return numbers.index(self.number) if self.number in numbers else None
        scored = prepared.scorer.score(batch).rows
        for number, value in zip(scored.column(ROW).to_pylist(), scored.column(self.column).to_pylist(), strict=True):
            if str(value) == self.value:
                return batch.column(ROW).to_pylist().index(number)
        return None


def _batches(prepared: Prepared, shard: Shard, number: int | None) -> Iterator[pa.RecordBatch | Rejected]:
    """The batches of a shard as the run cuts them, and the wanted row where reading rejects it."""
    job = prepared.spec.job
    regrouper = Regrouper(job.batch.rows, job.batch.bytes)
    try:
        for chunk in read_input(shard.path, job.input, prepared.spec.columns, job.batch):
            yield from (rejected for rejected in chunk.rejected if rejected.row == number)
            yield from regrouper.add(chunk.rows) if chunk.rows.num_rows else ()
    except BrokenShard as error:
        yield from regrouper.finish()
        raise InputError(f"{shard.path} breaks before the row: {error}") from error
    yield from regrouper.finish()


def _explain(prepared: Prepared, shard: Shard, batch: pa.RecordBatch, index: int, tensors: Sequence[str]) -> str:
    scorer = prepared.scorer
    row = batch.slice(index, 1)
    lines = [f"row         {shard.path}:{row.column(ROW)[0].as_py()}", "record"]
    lines += _values(_record(prepared.spec.record_format, prepared.spec.columns.record, row))
    alone = scorer.score(row)
    if alone.rejected:
        return "\n".join([*lines, f"rejected    {alone.rejected[0].stage}: {alone.rejected[0].reason}"])
    raw, transformed, named = scorer.model.tensors(row, tensors)
    lines += ["features", *_values(raw)]
    if prepared.transform is not None or prepared.spec.job.model.serving_input_fn:
        lines += ["transformed", *_values(transformed)]
    if named:
        lines += ["tensors", *_values(named)]
    keys = list(dict.fromkeys(column.key for column in scorer.outputs))
    together = scorer.score(batch)
    lines += ["predictions, alone", *_values(_one(scorer.model.run(row, keys).predictions, 0))]
    if together.rejected:
        return "\n".join([*lines, f"its batch of {batch.num_rows} rows has {len(together.rejected)} that are rejected"])
    in_batch = _one(scorer.model.run(batch, keys).predictions, index)
    return "\n".join([*lines, f"predictions, in its batch of {batch.num_rows} rows", *_values(in_batch)])


def _record(record_format: str, kind: str, row: pa.RecordBatch) -> Mapping[str, Any]:
    record = row.column(RECORD)[0].as_py()
    if record_format != "tfrecord":
        return record if isinstance(record, dict) else {"text": record.decode(errors="replace")}
    import tensorflow as tf

    if kind == "bytes":
        return {"record": record}
    if kind == "sequence_example":
        parsed = tf.train.SequenceExample.FromString(record)
        lists = sorted(parsed.feature_lists.feature_list.items())
        return {name: _listed(value) for name, value in sorted(parsed.context.feature.items())} | {
            name: [_listed(step) for step in steps.feature] for name, steps in lists
        }
    features = tf.train.Example.FromString(record).features.feature
    return {name: _listed(value) for name, value in sorted(features.items())}


def _listed(value: Any) -> list[Any]:
    """The values of a tf.train.Feature."""
    return list(getattr(value, value.WhichOneof("kind") or "bytes_list").value)


def _one(predictions: Mapping[str, np.ndarray], index: int) -> dict[str, Any]:
    return {key: values[index] for key, values in predictions.items()}


def _values(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in values.items():
        value = getattr(value, "flat_values", getattr(value, "values", value))  # of a sparse or ragged tensor
        array = np.asarray(value, dtype=object if isinstance(value, (list, str, bytes)) else None)
        text = np.array2string(array, threshold=40)
        lines.append(f"  {name}: " + text.replace("\n", "\n" + " " * (len(name) + 4)))
    return lines
