"""The raw features of a job: out of its file, of a function of the user, of the transform, or of a serving_input_receiver_fn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.code import resolve
from pipeline.errors import JobError
from pipeline.features import EXAMPLE_DTYPES, Feature, FeatureSpec, decoded_features, from_tensorflow
from pipeline.graph_input import parse_order
from pipeline.job.records import feature_mistakes, what_other_formats_have
from pipeline.scoring import forget_transforms, load_transform
from pipeline.serving_input import serving_features

if TYPE_CHECKING:
    from pipeline.job import Job


def load_features(job: Job) -> tuple[dict[str, Feature], Any]:
    """The raw feature spec of a job, and its transform or None. The spec is the transform's where that carries one."""
    features = job.features
    if isinstance(features, str):
        spec = resolve(features, "features")()
        if not isinstance(spec, (Mapping, tuple)):
            raise JobError(f"features: {features} returned a {type(spec).__name__}; a dict of tf.io features is wanted")
        features = from_tensorflow(spec, f"features: {features}", job.input.record)
    forget_transforms()  # a process may launch many runs, and a transform be made anew between them
    transform = load_transform(job, features)
    if job.model.serving_input_fn:
        features = serving_features(job, features)
    elif features is None:
        features = dict(transform.raw_spec) if transform is not None else {}
    for name in job.input.optional:
        if name not in features:
            raise JobError(f"input.optional: there is no raw feature {name!r}; there are: {', '.join(features)}")
    features = _of_record(features, job)
    if job.input.format == "tfrecord":
        for name, feature in features.items():
            if feature.dtype not in EXAMPLE_DTYPES:
                raise JobError(
                    f"features: {name}: a tf.Example holds {', '.join(EXAMPLE_DTYPES)} and no {feature.dtype}; "
                    + (
                        "let model.serving_input_fn parse the record, and cast it there"
                        if job.model.serving_input_fn
                        else "declare one of these, and cast it in the transform"
                    )
                )
    else:
        check_columns(features)
    return dict(features), transform


def _of_record(features: FeatureSpec, job: Job) -> dict[str, Feature]:
    """The features as records of the job have them: of tf.SequenceExamples a sequence always is a feature list."""
    record = job.input.record
    if record != "example" and job.input.format != "tfrecord":
        raise JobError(f"input.record: {what_other_formats_have(job.input.format)}")
    features = {
        name: replace(feature, feature_list=True)
        if record == "sequence_example" and feature.kind == "sequence"
        else feature
        for name, feature in features.items()
    }
    if not job.model.serving_input_fn:
        if record == "example" and job.input.format == "tfrecord":
            try:
                parse_order(features)
            except ValueError as error:
                raise JobError(f"features: tf.io cannot parse them together: {error}") from error
        for name, why in feature_mistakes(features, record):
            raise JobError(f"features: {name}: {why}")
        if record == "bytes" and not features:
            raise JobError("features: of input.record: bytes the record is the one feature, and there is none; add it")
    return features


def check_columns(features: FeatureSpec) -> None:
    """Refuse features that cannot be made of columns.

    Raises:
      JobError: names the feature and what to write instead.
    """
    fields = decoded_features(features)
    for name, feature in features.items():
        if feature.partitions:
            raise JobError(
                f"features: {name}: a RaggedFeature with partitions is read from TFRecord alone; write the shards as that, or "
                "declare its fields as ragged features and put them together in transform.function"
            )
        for part in feature.parts if feature.is_composite else ():
            if fields[part.name].arrow_type != part.arrow_type:
                raise JobError(
                    f"features: {name}: it reads the field {part.name!r} as a list of {part.dtype}, and another feature reads it "
                    f"as {fields[part.name].kind} {fields[part.name].dtype}; declare both alike"
                )
