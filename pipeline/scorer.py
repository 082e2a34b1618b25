"""Scores from Python: the core of the pipeline over features in memory, its session kept open between calls."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import checkpoint as checkpoints
from pipeline.artifacts import fetched_checkpoint, stage_transform
from pipeline.batch import Regrouper
from pipeline.decode_rows import output_type
from pipeline.errors import BadRows, JobError
from pipeline.example_input import input_for
from pipeline.features import Feature, FeatureSpec, from_tensorflow
from pipeline.memory_rows import named_columns, rows_from_memory, spec_from_memory
from pipeline.model import build_model
from pipeline.outputs import output_columns
from pipeline.predict import RowScorer
from pipeline.raw_features import check_columns
from pipeline.rows import ROW, Columns, PassThrough, Rejected, passthrough_column
from pipeline.scoring import output_types
from pipeline.serving_input import serving_input

if TYPE_CHECKING:
    from typing import TypeAlias

    import pandas as pd

    from pipeline.graph_input import GraphInput
    from pipeline.job import Job
    from pipeline.job.values import PassThroughColumn

    Features: TypeAlias = Mapping[str, Any] | pd.DataFrame | pa.RecordBatch | pa.Table

REJECTED_SCHEMA = pa.schema([(ROW, pa.int64()), ("_stage", pa.string()), ("_reason", pa.string())])


class Scorer:
    """An Estimator with its checkpoint, open for calls; calls are safe from several threads.

    Args:
      estimator: a `tf.estimator.Estimator`.
      checkpoint: "latest", a step, a path, or `pipeline.checkpoint.Best`.
      transform: a folder with a transform, a `transforms.Transform`, or None.
      features: the raw feature spec: name -> `pipeline.features.Feature`, or a `tf.io` parsing spec. Without it the
        transform's; without one the dtypes and row shapes of the first call, to which later ones are held.

    Raises:
      ModelError: the checkpoint, the graph or the transform is refused; for the checks see `pipeline.model.build_model`.
    """

    _closed = False

    def __init__(
        self,
        estimator: Any,
        checkpoint: Any = "latest",
        transform: Any = None,
        features: Mapping[str, Any] | None = None,
    ):
        import transforms

        self._estimator = estimator
        self._checkpoint = fetched_checkpoint(checkpoints.resolve(estimator.model_dir, checkpoint))
        if isinstance(transform, (str, os.PathLike)):
            copy = stage_transform(os.fspath(transform), None)
            transform = transforms.load(copy.folder if copy else os.fspath(transform))
        self._transform = transform
        self._job: Any = None
        self._lock = threading.Lock()
        self._scorer: RowScorer | None = None
        self._passthrough: Mapping[str, PassThrough] = {}
        self._optional: frozenset[str] = frozenset()
        self._rows, self._max_bytes = 4096, 64 * 1024 * 1024
        self._keep_non_finite = False
        spec = features if features is not None else getattr(self._transform, "raw_spec", None)
        if spec is not None:
            self._open(_features(spec))

    @classmethod
    def from_config(
        cls, path: str, run_date: str | None = None, overrides: Sequence[str] = (), variables: Sequence[str] = ()
    ) -> Scorer:
        """A scorer for the model, transform and output columns of a job file; its shards are not looked at.

        Args:
          path: the job file.
          run_date: YYYY-MM-DD, fills `{run_date}`.
          overrides: `section.key=value`, as `--set` on the command line.
          variables: `name=value`, as `--var` on the command line.
        """
        from pipeline.code import add_user_code
        from pipeline.job.file import load_job
        from pipeline.launch import open_estimator, open_transform

        job = load_job(path, run_date, overrides, variables)
        add_user_code(job.code)
        places, features, transform = open_transform(job)
        places, estimator = open_estimator(places)
        scorer = cls.__new__(cls)
        scorer._estimator, scorer._checkpoint = estimator, places.local_checkpoint
        scorer._transform, scorer._job, scorer._lock = transform, places.local_job, threading.Lock()
        scorer._passthrough = {
            name: PassThrough(column.source, _passthrough_type(job, column, features))
            for name, column in job.output.passthrough.items()
        }
        scorer._optional = frozenset(job.input.optional)
        scorer._rows, scorer._max_bytes = job.batch.rows, job.batch.bytes
        scorer._keep_non_finite = job.errors.non_finite == "keep"
        scorer._open(features)
        return scorer

    def score(self, features: Features, on_bad_row: str = "raise") -> Any:
        """Score rows.

        Args:
          features: name -> array or list (rows, *shape), a DataFrame, a RecordBatch or a Table.
          on_bad_row: "raise", or "reject" to score the others.

        Returns:
          A table of the pass-through columns that `features` has and the predictions, in the order of the rows; with
          "reject" (that table with the column `_row`, a table of `_row`, `_stage`, `_reason`).

        Raises:
          BadRows: some rows cannot be scored; names the first one and its feature.
          ValueError: `features` is not what the first call or the spec said, or the scorer is closed.
        """
        if on_bad_row not in ("raise", "reject"):
            raise ValueError(f"on_bad_row: expected 'raise' or 'reject', got {on_bad_row!r}")
        scorer = self._opened(features)
        names = named_columns(features)
        given = {name: column for name, column in self._passthrough.items() if column.source in names}
        chunk = rows_from_memory(features, replace(scorer.columns, passthrough=given))
        typed = {name: replace(column, type=_type(chunk.rows, name)) for name, column in given.items()}
        scorer = replace(scorer, columns=replace(scorer.columns, passthrough=typed))
        rejected = list(chunk.rejected)
        pieces = []
        for batch in self._batches(chunk.rows):
            scored = scorer.score(batch)
            pieces.append(scored.rows)
            rejected += scored.rejected
        if rejected and on_bad_row == "raise":
            raise BadRows({row.row: row.reason for row in rejected})
        schema = pieces[0].schema if pieces else scorer.schema
        table = pa.Table.from_batches(pieces, schema)
        if on_bad_row == "raise":
            return table.remove_column(table.num_columns - 1)
        return table, _rejected_table(rejected)

    def close(self) -> None:
        """Close the session; it cannot score afterwards."""
        self._closed = True
        if self._scorer is not None:
            self._scorer.model.close()
            self._scorer = None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _batches(self, rows: pa.RecordBatch) -> Sequence[pa.RecordBatch]:
        if rows.num_rows <= self._rows and rows.nbytes <= self._max_bytes:
            return [rows]
        regrouper = Regrouper(self._rows, self._max_bytes)
        return [*regrouper.add(rows), *regrouper.finish()]

    def _opened(self, features: Features) -> RowScorer:
        with self._lock:
            if self._closed:
                raise ValueError("this Scorer is closed; make another one")
            if self._scorer is None:
                self._open(spec_from_memory(features))
            assert self._scorer is not None
            return self._scorer

    def _graph_input(self, columns: Columns) -> GraphInput:
        job = self._job
        check_columns(columns.features)
        if job and job.input.record == "sequence_example":
            raise JobError(
                "input.record: a Scorer takes arrays, which make no tf.SequenceExamples; use the command score"
            )
        if not (job and job.model.serving_input_fn):
            return input_for(self._estimator, columns, "memory", self._transform is not None)
        if not columns.features:
            raise JobError(
                "model.serving_input_fn parses the record in a way that does not tell its features, so a Scorer can make none "
                "of arrays; use the command score"
            )
        return serving_input(job, columns, as_columns=True)

    def _open(self, features: FeatureSpec) -> None:
        job = self._job
        columns = Columns(features, self._optional)
        model = build_model(
            self._estimator,
            self._checkpoint,
            self._graph_input(columns),
            self._transform,
            job.model.features if job else None,
            job.model.allow_unused if job else (),
        )
        outputs = output_columns(
            model.predictions, job.output.predictions if job else None, output_types(job) if job else {}
        )
        row_wise = job.model.row_wise if job else True
        non_finite = "keep" if self._keep_non_finite else "reject"
        self._scorer = RowScorer(model, columns, outputs, row_wise, non_finite, keep_record=False)


def _passthrough_type(job: Job, column: PassThroughColumn, features: FeatureSpec) -> pa.DataType | None:
    """As the command has it; None, as in the arrays, where the command takes it from the files or cannot tell."""
    if column.dtype is not None:
        return pa.type_for_alias(column.dtype)
    feature = features.get(column.source)
    return output_type(feature) if feature is not None and job.input.format not in ("parquet", "avro") else None


def _type(rows: pa.RecordBatch, passthrough: str) -> pa.DataType:
    return rows.schema.field(passthrough_column(passthrough)).type


def _features(spec: Mapping[str, Any]) -> dict[str, Feature]:
    if all(isinstance(feature, Feature) for feature in spec.values()):
        return dict(spec)
    return from_tensorflow(spec, "features")


def _rejected_table(rejected: Sequence[Rejected]) -> pa.Table:
    rows = sorted(rejected)
    columns = [[row.row for row in rows], [row.stage for row in rows], [row.reason for row in rows]]
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, REJECTED_SCHEMA, strict=True)],
        schema=REJECTED_SCHEMA,
    )
