"""What a trainer leaves for scoring to be held against: raw rows, and the predictions that its own Estimator gave for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.errors import BadRows, JobError, ModelError
from pipeline.features import Feature, from_tensorflow, to_tensorflow
from pipeline.rows import Columns, feature_column

if TYPE_CHECKING:
    from pipeline.checkpoint import Checkpoint
    from pipeline.record.file import Record, RecordedFeature

MIN_ROWS = 100
ROWS = 200
BATCH_ROWS = 64


def record(
    estimator: Any,
    raw_rows: Any,
    transform: Any = None,
    *,
    raw_spec: Mapping[str, Any] | None = None,
    features: Sequence[str] | str | None = None,
    optional: Sequence[str] = (),
    checkpoint: Any = "latest",
    rows: int = ROWS,
    folder: str | None = None,
) -> str:
    """Record what this Estimator predicts, for scoring to replay before it starts; called after training.

    `Estimator.predict` is run on the first distinct raw rows, with the transform in `dataset.map`, as training has it.
    What is written, and where, is told in `pipeline.record.file`. A checkpoint that is recorded again gets a new sample;
    the samples of other checkpoints stay.

    Args:
      estimator: the trainer's `tf.estimator.Estimator`.
      raw_rows: raw features, name -> array (rows, *shape), a DataFrame, a RecordBatch or a Table; or serialized
        tf.Examples, as a list of bytes. Training rows will do.
      transform: the `transforms.Transform`, the path of one, what `from_function` made, or None.
      raw_spec: the raw feature spec: name -> `Feature`, or a `tf.io` parsing spec. Without it that of the transform, or
        of the arrays, in their order; tf.Examples need one or the other.
      features: which features the model gets and in which order; one name: as a bare tensor. None: all of them.
      optional: raw features that rows may lack.
      checkpoint: "latest", a step, or a path.
      rows: how many rows to keep, 100 or more (all there are, if they are fewer); 0: none, only names, order, dtypes and
        ranks of the features, and the fingerprint of the transform.
      folder: where to write; `record` in the model_dir when None.

    Returns:
      The path of the file that was written.

    Raises:
      BadRows: rows that do not fit the spec; the first is named.
      JobError: nothing can be written in the folder.
      ModelError: there is no checkpoint, or this model was recorded with another transform.
      ValueError: the arguments do not go together.
    """
    # Imported here because Beam, which reaches the files, takes seconds, and not every trainer records.
    from pipeline import checkpoint as checkpoints
    from pipeline import files
    from pipeline.record.file import FOLDER
    from transforms.load import load

    if 0 < rows < MIN_ROWS or rows < 0:
        raise ValueError(f"rows: expected 0 or at least {MIN_ROWS}, got {rows}")
    transform = load(transform) if isinstance(transform, str) else transform
    examples = _as_examples(raw_rows)
    columns = Columns(_spec(raw_rows, examples, raw_spec, transform), frozenset(optional))
    sample = examples[:rows] if examples is not None else _decoded(raw_rows, columns, rows)
    made = predicted_record(
        estimator, checkpoints.resolve(estimator.model_dir, checkpoint), sample, columns, transform, features
    )
    return save_record(folder or files.join(estimator.model_dir, FOLDER), made, transform)


def predicted_record(
    estimator: Any,
    checkpoint: Checkpoint,
    sample: Sequence[bytes] | pa.RecordBatch,
    columns: Columns,
    transform: Any = None,
    choice: Sequence[str] | str | None = None,
) -> Record:
    """Run `Estimator.predict` on a sample.

    Args:
      estimator: a `tf.estimator.Estimator`.
      checkpoint: the one to predict with.
      sample: serialized tf.Examples, or decoded columns `feature:NAME`; may have no rows.
      columns: the raw features, and their names in the examples.
      transform: called in `dataset.map`, or None.
      choice: as `features` of `record`.

    Raises:
      ModelError: a prediction does not have a row for each of the batch.
    """
    import tensorflow as tf

    from pipeline import files
    from pipeline.plan import utc_now
    from pipeline.record.file import Record, framework_versions, raw_features
    from pipeline.record.graph_files import recorded_files
    from pipeline.record.rows import rows_of_examples

    for name, feature in columns.features.items():
        if feature.partitions:
            raise JobError(f"features: {name}: a parity record keeps no RaggedFeature with partitions; make none")
    count = sample.num_rows if isinstance(sample, pa.RecordBatch) else len(sample)
    given: list[Any] = []

    def input_fn() -> Any:
        batch = _batches_of_columns(sample, columns) if isinstance(sample, pa.RecordBatch) else _parsed(sample, columns)
        starts = tf.data.Dataset.range(0, count, BATCH_ROWS)
        dataset = starts.map(lambda start: batch(start, tf.minimum(start + BATCH_ROWS, tf.constant(count, tf.int64))))
        if transform is not None:
            dataset = dataset.map(transform)
        if isinstance(choice, str):
            dataset = dataset.map(lambda features: features[choice])
        elif choice is not None:
            dataset = dataset.map(lambda features: {name: features[name] for name in choice})
        given.append(dataset.element_spec)
        return dataset

    batches = [min(BATCH_ROWS, count - start) for start in range(0, count, BATCH_ROWS)]
    if count:
        predicted = estimator.predict(input_fn, checkpoint_path=checkpoint.path, yield_single_examples=False)
        predictions = tuple(_by_key(batch, rows) for batch, rows in zip(predicted, batches, strict=True))
    else:
        predictions = ()
        with tf.Graph().as_default():
            input_fn()
    kept = sample if isinstance(sample, pa.RecordBatch) else rows_of_examples(sample, columns)
    return Record(
        checkpoint=files.base_name(checkpoint.path),
        step=checkpoint.step,
        digest=checkpoint.digest,
        raw=raw_features(columns.features),
        model=_model_features(given[0], choice),
        bare=isinstance(choice, str),
        batches=tuple(batches),
        rows=kept.select([feature_column(name) for name in columns.decoded]),
        predictions=predictions,
        created=utc_now(),
        versions=framework_versions(),
        files=recorded_files(estimator, input_fn),
    )


def save_record(folder: str, made: Record, transform: Any) -> str:
    """Write a record, and the fingerprint of the transform if the folder does not have it yet; returns the path.

    Raises:
      JobError: nothing can be written there.
      ModelError: the folder says that the model was trained with another transform.
    """
    from pipeline.record.file import write_record
    from pipeline.record.transform import recorded_transform, write_transform

    try:
        write_transform(folder, recorded_transform(transform))
        return write_record(folder, made)
    except OSError as error:
        raise JobError(
            f"{folder}: the record cannot be written there ({type(error).__name__}); name another folder, by model.record in "
            "the job file and by folder= in transforms.record"
        ) from error


def _model_features(given: Any, choice: Sequence[str] | str | None) -> tuple[RecordedFeature, ...]:
    """What the dataset gave the model_fn, in its order."""
    import tensorflow as tf

    from pipeline.record.file import RecordedFeature

    specs = {choice: given} if isinstance(choice, str) else given
    kinds = {tf.SparseTensorSpec: "sparse", tf.RaggedTensorSpec: "ragged"}
    return tuple(
        RecordedFeature(name, kinds.get(type(spec), "dense"), spec.dtype.name, spec.shape.rank)
        for name, spec in specs.items()
    )


def _parsed(examples: Sequence[bytes], columns: Columns) -> Any:
    """Batches of tf.Examples, parsed by the op of training."""
    import tensorflow as tf

    records = tf.constant(list(examples), tf.string, (len(examples),))
    fillers = {
        name: replace(feature, default=feature.filler)
        if name in columns.optional and feature.kind == "fixed" and feature.default is None
        else feature
        for name, feature in columns.features.items()
    }
    renamed = {columns.source(name): feature.renamed(columns.source) for name, feature in fillers.items()}
    spec = to_tensorflow(renamed)
    names = {columns.source(name): name for name in columns.features}

    def batch(start: Any, stop: Any) -> dict[str, Any]:
        parsed = tf.io.parse_example(records[start:stop], spec)
        return {names[source]: value for source, value in parsed.items()}

    return batch


def _batches_of_columns(rows: pa.RecordBatch, columns: Columns) -> Any:
    """Batches of decoded columns, as the tensors that `tf.io.parse_example` gives for such features."""
    import tensorflow as tf

    from pipeline.graph_input import assembled, dense_values

    values: dict[str, Any] = {}
    for name, feature in columns.decoded.items():
        column, dtype = rows.column(feature_column(name)), tf.as_dtype(feature.dtype)
        if not feature.is_list:
            values[name] = tf.constant(dense_values(column, feature), dtype, (rows.num_rows, *feature.shape))
        else:
            splits = tf.as_dtype(feature.row_splits) if feature.kind == "ragged" else tf.int64
            offsets = column.offsets.to_numpy() - column.offsets[0].as_py()
            flat = tf.constant(column.flatten().to_numpy(zero_copy_only=False), dtype)
            values[name] = tf.RaggedTensor.from_row_splits(flat, tf.constant(offsets, splits), validate=False)

    def batch(start: Any, stop: Any) -> dict[str, Any]:
        pieces = {name: value[start:stop] for name, value in values.items()}
        return {name: assembled(name, feature, pieces) for name, feature in columns.features.items()}

    return batch


def _by_key(predicted: Any, rows: int) -> dict[str, np.ndarray]:
    """The predictions of a batch under the names that they have in a job file."""
    by_key = predicted if isinstance(predicted, Mapping) else {"predictions": predicted}
    found = {}
    for key, values in by_key.items():
        name = "/".join(map(str, key)) if isinstance(key, tuple) else key
        if np.ndim(values) == 0 or len(values) != rows:
            raise ModelError(
                f"prediction {name!r} has the shape {np.shape(values)} for a batch of {rows} rows; its first dimension has "
                "to be the batch"
            )
        found[name] = np.asarray(values)
    return found


def _as_examples(raw_rows: Any) -> list[bytes] | None:
    """Distinct serialized tf.Examples, those that can matter; None if the rows are something else."""
    if isinstance(raw_rows, (pa.Array, pa.ChunkedArray, np.ndarray)):
        raw_rows = raw_rows.tolist() if isinstance(raw_rows, np.ndarray) else raw_rows.to_pylist()
    if not isinstance(raw_rows, (list, tuple)):
        return None
    for index, row in enumerate(raw_rows):
        if not isinstance(row, bytes):
            raise ValueError(
                f"raw_rows[{index}] is a {type(row).__name__}; a list has to hold serialized tf.Examples. Arrays go into a "
                "dict by the name of their feature"
            )
    return list(dict.fromkeys(raw_rows))


def _spec(
    raw_rows: Any, examples: list[bytes] | None, raw_spec: Mapping[str, Any] | None, transform: Any
) -> dict[str, Feature]:
    from pipeline.memory_rows import spec_from_memory

    if raw_spec is None and transform is not None:
        raw_spec = transform.raw_spec
    if raw_spec is None and examples is not None:
        raise ValueError("raw_spec: serialized tf.Examples do not tell their features; pass the spec of training")
    if raw_spec is None:
        return spec_from_memory(raw_rows)
    if all(isinstance(feature, Feature) for feature in raw_spec.values()):
        return dict(raw_spec)
    return from_tensorflow(raw_spec, "raw_spec")


def _decoded(raw_rows: Any, columns: Columns, count: int) -> pa.RecordBatch:
    """The first distinct rows in memory, as columns `feature:NAME`."""
    from pipeline.memory_rows import rows_from_memory
    from pipeline.probe import distinct_rows

    looked_at = max(1024, 4 * count)
    few = (
        {name: column[:looked_at] for name, column in raw_rows.items()}
        if isinstance(raw_rows, Mapping)
        else raw_rows[:looked_at]
    )
    chunk = rows_from_memory(few, columns)
    if chunk.rejected:
        raise BadRows({row.row: row.reason for row in chunk.rejected})
    return distinct_rows(chunk.rows, count, looked_at) if count else chunk.rows.slice(0, 0)
