"""Parity at launch: what the trainer recorded is compared with the job, and its sample is replayed through the scorer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.errors import JobError, ModelError
from pipeline.features import FeatureSpec
from pipeline.graph_input import RecordInput
from pipeline.memory_rows import rows_from_memory
from pipeline.model import is_data_error
from pipeline.record.difference import different_rows, largest_difference, table
from pipeline.record.features import compare_features
from pipeline.record.file import FOLDER, Record, framework_versions, read_record
from pipeline.record.rows import examples_of_rows
from pipeline.record.transform import compare_transforms, read_transform
from pipeline.rows import RECORD, ROW, Columns, feature_column

if TYPE_CHECKING:
    from pipeline.checkpoint import Checkpoint
    from pipeline.job import Job
    from pipeline.predict import RowScorer


@dataclass(frozen=True)
class Parity:
    """How far scores were proved to be the trainer's.

    state: `verified` (the sample of this checkpoint was replayed), `fingerprint only` (its record keeps no rows) or
        `unverified` (no record of this checkpoint, or none of a prediction that is written).
    max_difference: the largest difference of a float prediction in the replay; None without one.
    warning: what a person should know, or "".
    """

    state: str = "unverified"
    max_difference: float | None = None
    warning: str = ""

    def to_manifest(self) -> dict[str, Any]:
        """`record` of the manifest."""
        return {"state": self.state, "max_difference": self.max_difference}


@dataclass(frozen=True)
class Found:
    """The record of a checkpoint, with the features of the job. order: how they come in another order, or ""."""

    record: Record
    order: str = ""


def record_folder(job: Job, model_dir: str) -> str:
    """The folder of a job's record. model_dir: the Estimator's."""
    return job.model.record or files.join(job.model.model_dir or model_dir, FOLDER)


def find_record(job: Job, model_dir: str, checkpoint: Checkpoint, spec: FeatureSpec, transform: Any) -> Found | None:
    """Look for the record of a checkpoint, and compare its transform and features with those of the job.

    Args:
      job: names the record, and the features of the model.
      model_dir: the Estimator's.
      checkpoint: the one that is going to score.
      spec: the job's raw features.
      transform: the job's transform, or None.

    Returns:
      None where this checkpoint was not recorded. The transform was compared then too, if any checkpoint was.

    Raises:
      JobError: `model.record` names a folder without a record.
      ModelError: the transform or the features are not those of training, or the job requires a record.
    """
    folder = record_folder(job, model_dir)
    known, recorded = read_transform(folder)
    if job.model.record and not known:
        raise JobError(f"model.record: there is no record in {folder}; correct the path, or {_how_to_record(job)}")
    if known:
        compare_transforms(recorded, transform, folder)
    record = read_record(folder, checkpoint.digest)
    if record is None:
        if job.model.require_record:
            raise ModelError(
                f"model.require_record: checkpoint {checkpoint.path} has no record in {folder}; call transforms.record at "
                f"the end of training, or {_how_to_record(job)}"
            )
        return None
    order = compare_features(record, spec, transform, job.model.features, job.input.optional)
    if order and not record.batches:
        raise ModelError(order)  # there is nothing to replay that would tell whether the model minds
    return Found(record, order)


def replay(found: Found | None, scorer: RowScorer, job: Job) -> Parity:
    """Score the recorded rows as the rows of the run will be, and compare with what the trainer got.

    They enter the graph as those of the shards do, as tf.Examples or as columns, in the trainer's batches.

    Raises:
      ModelError: a prediction differs beyond the tolerance; with a table of the worst ones. They are of recorded rows: no
        row of the input is shown.
    """
    if found is None:
        return Parity()
    record = found.record
    if not record.batches:
        return Parity("fingerprint only")
    taken = _taken(record.predictions[0], {spec.key for spec in scorer.model.predictions})
    then = [{name: batch[name] for name in taken} for batch in record.predictions]
    now = _scored(record, scorer, taken)
    different = different_rows(then, now)
    if different:
        rows = len(np.unique(np.concatenate(list(different.values()))))
        raise ModelError(
            "\n".join(
                [
                    f"the recorded sample of checkpoint {record.checkpoint} no longer replays: {rows} of "
                    f"{record.rows.num_rows} rows score differently than by {record.source}",
                    *table(then, now, different),
                    found.order
                    or f"The model's code or params, its features or the environment are not those of "
                    f"training ({_versions(record)}). Score with those; if the change is meant, {_how_to_record(job)}",
                ]
            )
        )
    known = set(taken.values())
    unknown = [column for column in scorer.outputs if not known & {(column.key, None), (column.key, column.index)}]
    return Parity(
        "unverified" if unknown else "verified",
        largest_difference(then, now),
        f"the record does not hold the prediction {unknown[0].key!r}, so that is not verified" if unknown else "",
    )


def _taken(recorded: Iterable[str], of_model: Collection[str]) -> dict[str, tuple[str, int | None]]:
    """Name in the record -> the prediction of the model, and the index on its last axis where the name has one."""
    taken: dict[str, tuple[str, int | None]] = {}
    for name in recorded:
        key, _, index = name.removesuffix("]").rpartition("[")
        if name in of_model:
            taken[name] = (name, None)
        elif key in of_model and index.isdecimal():
            taken[name] = (key, int(index))
    return taken


def _scored(
    record: Record, scorer: RowScorer, taken: Mapping[str, tuple[str, int | None]]
) -> list[dict[str, np.ndarray]]:
    keys = list(dict.fromkeys(key for key, _ in taken.values()))
    rows, start, scored = _fed_rows(record, scorer), 0, []
    for count in record.batches:
        batch = rows.slice(start, count)
        try:
            predictions = scorer.model.run(batch, keys).predictions
        except Exception as error:
            if not is_data_error(error):
                raise
            raise ModelError(_failing_row(batch, start, scorer, keys)) from error
        scored.append(
            {
                name: predictions[key] if index is None else predictions[key][..., index]
                for name, (key, index) in taken.items()
            }
        )
        start += count
    return scored


def _fed_rows(record: Record, scorer: RowScorer) -> pa.RecordBatch:
    """The recorded rows as the graph input of the job takes them."""
    columns = scorer.columns
    examples: pa.Array | None = None
    if isinstance(scorer.model.graph_input, RecordInput):
        examples = pa.array(examples_of_rows(record.rows, columns.of_record), pa.binary())
        if not columns.of_path.features:
            numbers = pa.array(range(len(examples)), pa.int64())
            return pa.RecordBatch.from_arrays([numbers, examples], names=[ROW, RECORD])
        columns = columns.of_path
    known = [name for name in columns.decoded if feature_column(name) in record.rows.schema.names]
    given = {name: record.rows.column(feature_column(name)) for name in known}
    chunk = rows_from_memory(given, Columns(columns.features, columns.optional))
    if chunk.rejected:
        row = chunk.rejected[0]
        raise ModelError(f"row {row.row} of the recorded sample does not fit features: {row.reason}")
    return chunk.rows if examples is None else chunk.rows.append_column(RECORD, examples)


def _failing_row(batch: pa.RecordBatch, start: int, scorer: RowScorer, keys: list[str]) -> str:
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        try:
            scorer.model.run(row, keys)
        except Exception as error:
            if not is_data_error(error):
                raise
            stage, reason = scorer.model.failing_stage(row)
            return (
                f"row {start + index} of the recorded sample cannot be scored, as it was in training: {stage}: {reason}"
            )
    return f"the {batch.num_rows} recorded rows from row {start} on can be scored one by one only, unlike in training"


def _versions(record: Record) -> str:
    now = framework_versions()
    then = [f"{name} {version}" for name, version in record.versions.items()]
    changed = [
        f"{name} {now[name]}" for name, version in record.versions.items() if now.get(name) not in (None, version)
    ]
    return f"{', '.join(then)}; now {', '.join(changed) or 'the same'}"


def _how_to_record(job: Job) -> str:
    config = job.source or "FILE"
    return f"make one: python -m pipeline record --config {config}"
