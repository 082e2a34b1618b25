"""Fits a preprocessing transform to training shards, with TensorFlow Transform on Beam."""

from __future__ import annotations

import operator
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError, JobError, OutputError
from pipeline.features import EXAMPLE_DTYPES, Feature, FeatureSpec
from transforms.load import Transform, load

if TYPE_CHECKING:
    import apache_beam as beam
    import numpy as np
    import pyarrow as pa

    from pipeline.job import Input

PreprocessingFn = Callable[[dict[str, Any]], Mapping[str, Any]]

_RUN = "fit"
"""A fit has its folder for itself, so its verdicts need no number."""


def fit(
    preprocessing_fn: PreprocessingFn,
    shards: str | Sequence[str] | Input,
    raw_spec: Mapping[str, Any],
    path: str,
    beam_arguments: Sequence[str] = (),
) -> Transform:
    """Make a transform in one pass over training shards, and write it as a TensorFlow Transform output folder.

    Args:
      preprocessing_fn: takes a dict of tensors as `raw_spec` has them, returns a dict of tensors; may call the analyzers
        of `tensorflow_transform` (`tft.scale_to_z_score`, `tft.compute_and_apply_vocabulary`, ...).
      shards: a pattern or patterns of files (tfrecord, parquet, csv, jsonl, avro, by their extension), or the `input`
        section of a job, for files that need more to be read.
      raw_spec: name -> `Feature`, or a `tf.io` parsing spec; float32, int64 and string, without defaults.
      path: the folder to make; anywhere that `tf.io.gfile` writes, and on a cluster where all workers do.
      beam_arguments: options for Beam, such as `--runner`; without one it runs in this process.

    Returns:
      The transform, loaded. What it was fitted to is in the folder: it scores without tensorflow-transform.

    Raises:
      JobError: tensorflow-transform or TensorFlow 2.21 is missing, the spec cannot be fitted, or preprocessing_fn fails.
      OutputError: there is something at `path`.
      InputError: no shard, no row, or a feature that no row has.
      VerdictError: a row or a shard that cannot be read; it is named.
    """
    require_fit()
    features = _features(raw_spec)
    source = _input(shards)
    path = _absolute(path)
    _refuse_existing(path)

    import apache_beam as beam
    import tensorflow as tf

    from pipeline.failure import read_verdict
    from pipeline.plan import match_shards
    from pipeline.runner import pipeline_options

    options = pipeline_options(beam_arguments)
    found = [shard.path for shard in match_shards(source)]
    folder = f"{path}.{uuid.uuid4().hex}.fit"  # beside it, so that one rename makes all of it appear
    tf.io.gfile.makedirs(folder)
    try:
        p = beam.Pipeline(options=options)
        _build(p, preprocessing_fn, found, source, features, folder)
        try:
            p.run().wait_until_finish()
        except Exception as error:
            verdict = read_verdict(folder, _RUN)
            if verdict is not None:
                raise verdict.to_error() from error
            raise
        tf.io.gfile.rename(f"{folder}/transform", path)
    finally:
        tf.io.gfile.rmtree(folder)
    return load(path)


def require_fit() -> None:
    """Raises JobError, with what to install, where the extra `fit` cannot be imported."""
    try:
        import pipeline.tf_estimator  # noqa: F401  before TensorFlow, so that one process can fit and train
    except ImportError as error:
        raise JobError(str(error)) from error
    import tensorflow as tf

    if tf.__version__.startswith("2.15."):
        raise JobError(
            f"fit needs TensorFlow 2.21, and this is {tf.__version__}; fit in an environment of its own "
            "(pip install 'estimator-score[fit]', Python 3.11 or 3.12): the transform that it makes scores on both"
        )
    try:
        import tensorflow_transform.beam  # noqa: F401
    except ImportError as error:
        raise JobError(
            f"fit needs tensorflow-transform ({error}); pip install 'estimator-score[fit]', on Python 3.11 or 3.12"
        ) from error


def unfit(features: FeatureSpec) -> Iterator[tuple[str, str, str]]:
    """Features that TensorFlow Transform cannot be given: name, the key of the spec that is in the way, why."""
    for name, feature in features.items():
        if feature.kind in ("sequence", "sparse") or feature.is_composite or feature.feature_list:
            yield (
                name,
                "kind",
                "TensorFlow Transform takes fixed, varlen and ragged features of one field each; declare it as those",
            )
        if feature.dtype not in EXAMPLE_DTYPES:
            allowed = ", ".join(EXAMPLE_DTYPES)
            yield (
                name,
                "dtype",
                f"TensorFlow Transform takes {allowed}, not {feature.dtype}; cast it in preprocessing_fn",
            )
        if feature.default is not None:
            yield (
                name,
                "default",
                (
                    "a saved transform does not keep defaults, so scoring would refuse the row; write kind: varlen, and fill "
                    "what is missing in preprocessing_fn: tft.sparse_tensor_to_dense_with_shape(x, [None, 1], default)"
                ),
            )


def _features(raw_spec: Mapping[str, Any]) -> dict[str, Feature]:
    from pipeline.features import from_tensorflow

    spec = dict(raw_spec)
    if not spec:
        raise JobError("raw_spec: has no feature; name at least one")
    if not all(isinstance(feature, Feature) for feature in spec.values()):
        spec = from_tensorflow(spec, "raw_spec")
    mistakes = [f"raw_spec: {name}: {why}" for name, _, why in unfit(spec)]
    if mistakes:
        raise JobError("\n".join(mistakes))
    return spec


def _input(shards: str | Sequence[str] | Input) -> Input:
    from pydantic import ValidationError

    from pipeline.job import Input

    if isinstance(shards, Input):
        return shards
    try:
        return Input.model_validate({"pattern": shards if isinstance(shards, str) else list(shards)})
    except ValidationError as error:
        raise JobError(f"shards: {error.errors()[0]['msg']}") from error


def _absolute(path: str) -> str:
    path = os.fspath(path).rstrip("/")
    return path if "://" in path else str(Path(path).absolute())


def _refuse_existing(path: str) -> None:
    import tensorflow as tf

    try:
        exists = tf.io.gfile.exists(path)
    except tf.errors.UnimplementedError as error:
        raise JobError(f"{path}: TensorFlow cannot write there; fit to a local folder or gs://, and copy it") from error
    if exists:
        raise OutputError(
            f"{path} exists; a transform is never changed, because of the models that were trained with it: name another folder"
        )


def _build(
    p: beam.Pipeline,
    preprocessing_fn: PreprocessingFn,
    shards: Sequence[str],
    source: Input,
    features: FeatureSpec,
    folder: str,
) -> None:
    """The pipeline: each shard is read once, and analyzers that wait for each other share what was read."""
    import apache_beam as beam
    import pyarrow as pa
    import tensorflow_transform.beam as tft_beam
    from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

    from pipeline.code import explain_user_error
    from transforms.training_rows import lists_schema

    config = TensorAdapterConfig(lists_schema(features), _tensor_representations(features))
    batches = (
        p
        | "Shards" >> beam.Create(shards)
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.FlatMap(_read, source, features, folder).with_output_types(pa.RecordBatch)
    )
    with tft_beam.Context(temp_dir=f"{folder}/analysis"):
        try:
            transform_fn = (batches, config) | "Analyze" >> tft_beam.AnalyzeDataset(preprocessing_fn)
        except Exception as error:  # it traces the user's function
            raise JobError(explain_user_error(error, "preprocessing_fn")) from error
        _ = transform_fn | "Write" >> tft_beam.WriteTransformFn(f"{folder}/transform")
    _ = (
        batches
        | "CountValues" >> beam.Map(_rows_with_values)
        | "Sum" >> beam.CombineGlobally(_sums)
        | "RefuseAbsent" >> beam.Map(_refuse_absent, list(features), folder)
    )


def _tensor_representations(features: FeatureSpec) -> dict[str, Any]:
    """How TensorFlow Transform makes tensors of the lists: as scoring has them."""
    from tensorflow_metadata.proto.v0.schema_pb2 import TensorRepresentation

    representations = {}
    for name, feature in features.items():
        representation = TensorRepresentation()
        if feature.kind == "varlen":
            representation.varlen_sparse_tensor.column_name = name
        elif feature.kind == "ragged":
            representation.ragged_tensor.feature_path.step.append(name)
            splits = TensorRepresentation.RowPartitionDType.Value(feature.row_splits.upper())
            representation.ragged_tensor.row_partition_dtype = splits
        else:
            representation.dense_tensor.column_name = name
            representation.dense_tensor.shape.SetInParent()
            for size in feature.shape:
                representation.dense_tensor.shape.dim.add(size=size)
        representations[name] = representation
    return representations


def _read(path: str, source: Input, features: FeatureSpec, folder: str) -> Iterator[pa.RecordBatch]:
    from pipeline.failure import told
    from transforms.training_rows import read_lists

    with told(folder, _RUN, "fit"):
        yield from read_lists(path, source, features)


def _rows_with_values(batch: pa.RecordBatch) -> np.ndarray:
    """int64 (1 + features,): the rows, and of each feature the rows that have a value."""
    import numpy as np

    offsets = [column.offsets.to_numpy() for column in batch.columns]
    return np.array([batch.num_rows, *(np.count_nonzero(np.diff(each)) for each in offsets)], np.int64)


def _sums(counts: Any) -> Any:
    import functools

    return functools.reduce(operator.add, counts, 0)


def _refuse_absent(counts: Any, names: Sequence[str], folder: str) -> None:
    import numpy as np

    from pipeline.failure import told

    rows, *present = np.broadcast_to(counts, 1 + len(names)).tolist()  # 0 where there was no batch
    absent = [name for name, count in zip(names, present, strict=True) if not count]
    with told(folder, _RUN, "fit"):
        if not rows:
            raise InputError("the training shards hold no row")
        if absent:
            raise InputError(
                f"no row of the training shards ({rows:,}) has a value for {', '.join(absent)}; mend the name, or leave the "
                "feature out of the raw spec"
            )
