"""Parity at launch: what the trainer recorded is compared with the job, and its sample is replayed through the scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.checkpoint import Checkpoint
from pipeline.errors import JobError, ModelError
from pipeline.features import FeatureSpec
from pipeline.graph_input import RecordInput, parse_order
from pipeline.memory_rows import rows_from_memory
from pipeline.model import is_data_error
from pipeline.predict import RowScorer
from pipeline.probe import differing
from pipeline.record_file import (
    FOLDER,
    Record,
    RecordedFeature,
    described,
    read_record,
    read_transform,
)
from pipeline.record_rows import examples_of_rows
from pipeline.rows import RECORD, ROW, Columns, feature_column

if TYPE_CHECKING:
    from pipeline.job import Job

_ROWS_SHOWN = 5


@dataclass(frozen=True)
class Parity:
    """How far scores were proved to be the trainer's.

    state: `verified` (the sample of this checkpoint was replayed), `fingerprint only` (its record keeps no rows) or
        `unverified` (no record of this checkpoint, or not of all predictions).
    max_difference: the largest difference of a float prediction in the replay, 0.0 to the tolerance; None without one.
    rows: how many were replayed. warning: what a person should know, or "".
    """

    state: str = "unverified"
    max_difference: float | None = None
    rows: int = 0
    warning: str = ""

    def to_manifest(self) -> dict[str, Any]:
        return {"state": self.state, "max_difference": self.max_difference}

    def __str__(self) -> str:
        if self.max_difference is None:
            return self.state
        return f"{self.state}, {self.rows} recorded rows, largest difference {self.max_difference:.2g}"


@dataclass(frozen=True)
class Found:
    """The record of a checkpoint, compared with the job as far as names go.

    order: how the order of the model's features differs from training's, or "". Only a model that goes by their order
    minds, and that is for the replay to tell.
    """

    record: Record
    order: str = ""


def record_folder(job: Job, model_dir: str) -> str:
    """Where the record of a job lies. model_dir: the Estimator's."""
    return job.model.record or files.join(job.model.model_dir or model_dir, FOLDER)


def find_record(job: Job, model_dir: str, checkpoint: Checkpoint, features: FeatureSpec, transform: Any) -> Found | None:
    """Look for the record of a checkpoint, and compare transform and features with what it says.

    Args:
      job: names the record and the features of the model.
      model_dir: the Estimator's.
      checkpoint: the one that is going to score.
      features: the job's raw features.
      transform: the job's transform, or None.

    Returns:
      None where this checkpoint was not recorded.

    Raises:
      JobError: `model.record` names a folder without a record.
      ModelError: another transform or other features than in training; or no record where the job requires one.
    """
    folder = record_folder(job, model_dir)
    known, recorded = read_transform(folder)
    if job.model.record and not known:
        raise JobError(f"model.record: there is no record in {folder}; make it with: {_command(job)}")
    if known:
        _compare_transforms(recorded, transform, folder)
    record = read_record(folder, checkpoint.digest)
    if record is None:
        if job.model.require_record:
            raise ModelError(
                f"checkpoint {checkpoint.path} has no record in {folder}, and model.require_record is true; call "
                f"transforms.record in the trainer after the last step, or make one with: {_command(job)}"
            )
        return None
    bare = isinstance(job.model.features, str)
    if bare != record.bare:
        was, now = ("one bare tensor", "a dict") if record.bare else ("a dict", "one bare tensor")
        names = record.model[0].name if record.bare else f"[{', '.join(feature.name for feature in record.model)}]"
        raise ModelError(f"training gave the model {was}, the job gives it {now}; write model.features: {names}")
    order = _compare_features(record, job, features, transform)
    if order and not record.rows.num_rows:
        raise ModelError(order)
    return Found(record, order)


def replay(found: Found | None, scorer: RowScorer, job: Job) -> Parity:
    """Score the recorded rows as the run is going to score its own, and compare with the trainer's predictions.

    Rows enter the graph as those of the shards do: as tf.Examples for TFRecord, as columns for other formats, in the
    batches in which the trainer's were predicted.

    Raises:
      ModelError: a prediction differs beyond the tolerance of `pipeline.probe.differing`; with a table of the worst rows.
    """
    if found is None:
        return Parity()
    record = found.record
    if not record.rows.num_rows:
        return Parity("fingerprint only")
    of_model = [spec.key for spec in scorer.model.predictions]
    keys = [key for key in record.predictions[0] if key in of_model]
    rows = _fed_rows(record, scorer)
    now = _scored(rows, record, scorer, keys)
    then = [{key: batch[key] for key in keys} for batch in record.predictions]
    different = {key: rows for key in keys if (rows := _differing(then, now, key)).size}
    if different:
        raise ModelError(_refusal(found, then, now, different, job))
    missing = sorted({column.key for column in scorer.outputs} - set(keys))
    largest = max((_largest(before[key], after[key]) for before, after in zip(then, now, strict=True) for key in keys), default=0.0)
    count = record.rows.num_rows
    if missing:
        warning = f"the record does not have the prediction {missing[0]!r}, so it is not verified"
        return Parity("unverified", largest, count, warning)
    return Parity("verified", largest, count)


def _compare_transforms(recorded: Any, transform: Any, folder: str) -> None:
    from transforms.record import recorded_transform

    given = recorded_transform(transform)
    same = bool(recorded) == bool(given)
    if recorded and given and recorded.fingerprint and given.fingerprint:
        same = recorded.fingerprint == given.fingerprint
    if not same:
        raise ModelError(
            f"the model was trained with {described(recorded)}, and the job has {described(given)}: its scores would not be "
            "those of training. Name the transform of training under transform:, a copy of it will do. If the model was "
            f"trained anew with this one, delete {folder} and record it again"
        )


def _compare_features(record: Record, job: Job, spec: FeatureSpec, transform: Any) -> str:
    """Refuse other features than in training; returns how their order differs, or ""."""
    from transforms.record import raw_features

    raw = raw_features({name: spec[name] for name in parse_order(spec)})
    lacking = [] if transform is not None else [feature.name for feature in record.raw if feature.name not in spec]
    _compare(
        # Raw features that no transform takes matter only as far as the model gets them, which is compared below.
        [feature for feature in record.raw if feature.name not in lacking],
        [feature for feature in raw if feature.name in _names(record.raw) or feature.name not in job.input.optional],
        "raw feature",
        "name features as in training, input.rename maps them to the names in the files",
    )
    model = raw if transform is None else _outputs(transform)
    if job.model.features is not None:
        chosen = [job.model.features] if isinstance(job.model.features, str) else job.model.features
        by_name = {feature.name: feature for feature in model}
        model = tuple(by_name[name] for name in chosen if name in by_name)
    _compare(record.model, model, "feature of the model", "correct features or model.features")
    then, now = _names(record.model), _names(model)
    if then == now:
        return ""
    return (
        f"the features reach the model in another order than in training: {_listed(now)}, where training had "
        f"{_listed(then)}; a model that stacks them would mix them up. Write model.features: [{', '.join(then)}]"
    )


def _compare(then: Sequence[RecordedFeature], now: Sequence[RecordedFeature], what: str, remedy: str) -> None:
    before, after = {feature.name: feature for feature in then}, {feature.name: feature for feature in now}
    gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
    if gone and new:
        renamed = f"; was {gone[0]!r} renamed to {new[0]!r}?" if len(gone) == len(new) == 1 else ";"
        raise ModelError(f"training had the {what} {_listed(gone)}, the job has {_listed(new)}{renamed} Remedy: {remedy}")
    if gone:
        raise ModelError(f"training had the {what} {_listed(gone)}, which the job drops; {remedy}")
    if new:
        raise ModelError(f"the job has the {what} {_listed(new)}, which training did not have; {remedy}")
    for name, feature in before.items():
        found = after[name]
        ranks = {feature.rank, found.rank} - {None}
        if (feature.kind, feature.dtype) != (found.kind, found.dtype) or len(ranks) > 1:
            raise ModelError(f"the {what} {name!r} was {_in_words(feature)} in training, and is {_in_words(found)}; {remedy}")


def _outputs(transform: Any) -> tuple[RecordedFeature, ...]:
    return tuple(
        RecordedFeature(name, output.kind, output.dtype, None if output.shape is None else 1 + len(output.shape))
        for name, output in transform.output_spec.items()
    )


def _fed_rows(record: Record, scorer: RowScorer) -> pa.RecordBatch:
    columns = scorer.columns
    numbers = pa.array(range(record.rows.num_rows), pa.int64())
    if isinstance(scorer.model.graph_input, RecordInput):
        examples = pa.array(examples_of_rows(record.rows, columns), pa.binary())
        return pa.RecordBatch.from_arrays([numbers, examples], names=[ROW, RECORD])
    given = {name: record.rows.column(feature_column(name)) for name in columns.features if name in _names(record.raw)}
    chunk = rows_from_memory(given, Columns(columns.features, columns.optional))
    if chunk.rejected:
        first = chunk.rejected[0]
        raise ModelError(f"row {first.row} of the recorded sample cannot be read: {first.reason}; {_RECORD_AGAIN}")
    return chunk.rows


_RECORD_AGAIN = "correct features, or make the record again if that is meant"


def _scored(rows: pa.RecordBatch, record: Record, scorer: RowScorer, keys: list[str]) -> list[dict[str, np.ndarray]]:
    scored, start = [], 0
    for count in record.batches:
        batch = rows.slice(start, count)
        try:
            scored.append(scorer.model.run(batch, keys).predictions)
        except Exception as error:
            if not is_data_error(error):
                raise
            raise ModelError(_failing(batch, start, scorer)) from error
        start += count
    return scored


def _failing(batch: pa.RecordBatch, start: int, scorer: RowScorer) -> str:
    from pipeline.predict import RowScorer as _  # noqa: F401

    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        scored = scorer.score(row)
        if scored.rejected:
            stage, reason = scored.rejected[0].stage, scored.rejected[0].reason
            return f"row {start + index} of the recorded sample fails, in {stage}: {reason}; {_RECORD_AGAIN}"
    return f"the recorded sample fails from row {start} on, although each of its rows can be scored alone"


def _differing(then: list[dict[str, np.ndarray]], now: list[dict[str, np.ndarray]], key: str) -> np.ndarray:
    """Numbers of the rows that differ in `key`. Batches are looked at as one where their shapes allow it."""
    if any(before[key].shape != after[key].shape for before, after in zip(then, now, strict=True)):
        return np.arange(sum(len(batch[key]) for batch in then))
    return np.flatnonzero(differing(_joined(then), _joined(now), key))
