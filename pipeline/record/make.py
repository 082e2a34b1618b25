"""The command `record`: makes the parity record of a model that was trained without one, from rows of the job's shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.code import add_user_code
from pipeline.errors import BrokenShard, InputError, JobError
from pipeline.job import Job
from pipeline.job.records import unrecorded
from pipeline.launch import open_estimator, open_transform, probe, resolve_columns
from pipeline.plan import match_shards
from pipeline.predict import RowScorer
from pipeline.probe import distinct_rows
from pipeline.read import read_input
from pipeline.record import Found, record_folder, replay
from pipeline.record.file import Predictions
from pipeline.record.known_scores import is_exported_model, scores_in_file, signature_predictions
from pipeline.record.rows import plain_rows
from pipeline.report import record_in_words
from pipeline.rows import ROW, Columns, Shard, take_rows
from pipeline.scoring import ScoringSpec, build_scorer
from pipeline.serialized_rows import concat_rows
from pipeline.signature import refuse_record

ROWS = 200
_EXAMINED = 20_000
"""Rows that are looked at for distinct ones that can be scored."""


def make_record(job: Job, rows: int = ROWS, against: str | None = None, on: Sequence[str] = ()) -> str:
    """Record known predictions for the first distinct rows of a job's shards, if the job's own are the same.

    Args:
      job: a checked job.
      rows: how many rows to keep; 0: none, only names, order, dtypes and ranks of the features and the fingerprint.
      against: where the predictions are known from: a SavedModel that was exported from this model, or a file of scores.
        None: `Estimator.predict` is asked.
      on: the pass-through columns by which rows are found in the file of scores.

    Returns:
      What was recorded, in words.

    Raises:
      ScoringError: what a run would be refused for, or scores that are not the known ones; nothing is written then. An
        older record of the checkpoint is not looked at.
    """
    from transforms.record import MIN_ROWS, predicted_record, save_record

    if rows < 0 or 0 < rows < MIN_ROWS:
        raise JobError(f"--rows {rows}: expected 0 or at least {MIN_ROWS}")
    reason = unrecorded(job)
    if reason:
        raise JobError(f"record: {reason}; hold a run against known scores by the command compare")
    exported = against is not None and is_exported_model(against)
    _check_against(job, rows, against, exported, on)
    shards = match_shards(job.input)
    add_user_code(job.code)
    places, features, transform = open_transform(job)
    columns = resolve_columns(job, features, shards)
    places, estimator = open_estimator(places)
    refuse_record(estimator, features, transform is not None)
    checkpoint = places.local_checkpoint
    spec = ScoringSpec("", job, job.input.format, columns, checkpoint)
    with places.named_as_in_job():
        scorer = build_scorer(spec, estimator, places)
    try:
        probe(spec, scorer, shards)
        in_file = None if exported else against
        sample, known = _sample(job, columns, scorer, shards, rows, in_file, on)
        columns = replace(columns, partitions={})  # the sample has them in its rows
        made = predicted_record(estimator, checkpoint, sample, columns, transform, job.model.features)
        if against is not None:
            keys = [prediction.key for prediction in scorer.model.predictions]
            predictions = (
                signature_predictions(against, made.rows, columns, made.batches, keys)
                if exported
                else _in_batches(known, made.batches)
            )
            made = replace(made, predictions=predictions, source=against)
        parity = replay(Found(made), scorer, job)
        path = save_record(record_folder(job, estimator.model_dir), made, transform)
    finally:
        scorer.model.close()
    lines = [
        f"checkpoint  {places.chosen.path}",
        f"rows        {made.rows.num_rows}, predictions of {made.source}",
        f"replayed    {record_in_words(parity.to_manifest())}",
        f"written     {path}",
    ]
    return "\n".join(lines + ([f"warning     {parity.warning}"] if parity.warning else []))


def _check_against(job: Job, rows: int, against: str | None, exported: bool, on: Sequence[str]) -> None:
    if on and (against is None or exported):
        raise JobError("--on: it goes with --against and a file of known scores")
    if against is None:
        return
    if not rows:
        raise JobError("--against: there is nothing to compare with --rows 0; leave one of them out")
    if not exported and not on:
        raise JobError(
            f"--against {against}: name the columns of the key by --on; they are pass-through columns of the job"
        )
    for name in on:
        if name not in job.output.passthrough:
            passed = ", ".join(job.output.passthrough) or "none"
            raise JobError(
                f"--on: {name!r} is no pass-through column of the job (output.passthrough); there are: {passed}"
            )


def _sample(
    job: Job,
    columns: Columns,
    scorer: RowScorer,
    shards: Sequence[Shard],
    rows: int,
    against: str | None,
    on: Sequence[str],
) -> tuple[Sequence[bytes] | pa.RecordBatch, Predictions]:
    """The first distinct rows that can be scored, as serialized tf.Examples or as decoded columns, and known predictions.

    against: only rows that have known scores there are taken.
    """
    good, keys = [], []
    for batch in _batches(job, columns, shards):
        scored = scorer.score(batch)
        good.append(_numbered(batch, scored.rows.column(ROW)))
        keys.append(scored.rows.select(list(on)))
        if not against and _distinct(concat_rows(good), max(rows, 1)).num_rows >= rows:
            break
    found = concat_rows(good) if good else None
    if found is None or not found.num_rows:
        raise InputError(
            f"input.pattern: no row of {', '.join(job.input.pattern)} can be scored, so none can be recorded"
        )
    known: Predictions = {}
    places = np.arange(found.num_rows)
    if against:
        places, known = scores_in_file(against, on, pa.Table.from_batches(keys), scorer.outputs)
    numbers = pa.array(range(len(places)), pa.int64())
    found = take_rows(found, places).set_column(found.schema.get_field_index(ROW), ROW, numbers)
    found = _distinct(found, rows) if rows else found.slice(0, 0)
    chosen = found.column(ROW).to_numpy()
    return plain_rows(found, columns, job.input.format), {name: values[chosen] for name, values in known.items()}


def _numbered(batch: pa.RecordBatch, numbers: pa.Array) -> pa.RecordBatch:
    """The rows of a batch that have one of these numbers."""
    return take_rows(batch, pc.is_in(batch.column(ROW), numbers).to_numpy(zero_copy_only=False))


def _distinct(rows: pa.RecordBatch, count: int) -> pa.RecordBatch:
    return distinct_rows(rows, count, rows.num_rows)


def _in_batches(predictions: Predictions, batches: Sequence[int]) -> tuple[Predictions, ...]:
    ends = list(accumulate(batches, initial=0))
    return tuple({name: values[start:end] for name, values in predictions.items()} for start, end in pairwise(ends))


def _batches(job: Job, columns: Columns, shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    seen = 0
    for shard in shards:
        try:
            for chunk in read_input(shard.path, job.input, columns, job.batch, keep_record=False):
                if chunk.rows.num_rows:
                    yield chunk.rows
                seen += chunk.rows.num_rows
                if seen >= _EXAMINED:
                    return
        except BrokenShard:
            continue  # a run tells of it; other shards will do
