"""What a record is and who parses it: `input.record`, `model.serving_input_fn`, and features that only some records have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline.job.messages import KeyPath

if TYPE_CHECKING:
    from pipeline.features import Feature
    from pipeline.job import Job

CONTEXT_KINDS = ("fixed", "varlen", "ragged")
LIST_KINDS = ("sequence", "varlen", "ragged")
"""What `tf.io.parse_sequence_example` takes in the context and in the feature lists."""

Found = Iterator[tuple[KeyPath, str]]


def record_mistakes(job: Job) -> Found:
    """What does not go with `input.record` and `model.serving_input_fn`."""
    yield from _record(job)
    if job.model.serving_input_fn:
        yield from _serving_input_fn(job)
    elif isinstance(job.features, dict):
        for name, why in feature_mistakes(job.features, job.input.record):
            yield ("features", name), why


def unrecorded(job: Job) -> str:
    """Why no parity record is looked for or made, or "": its rows are those of tf.Examples or columns that we parse."""
    if job.model.serving_input_fn:
        return "a parity record does not go with model.serving_input_fn, so the scores are not verified"
    if job.input.record != "example":
        return f"a parity record does not go with input.record: {job.input.record}, so the scores are not verified"
    return ""


def _record(job: Job) -> Found:
    record = job.input.record
    if record == "example":
        return
    may_be_rejected_rows = job.input.format == "parquet" and "format" not in job.input.model_fields_set
    if job.input.format != "tfrecord" and not may_be_rejected_rows:
        yield ("input", "record"), what_other_formats_have(job.input.format)
    if job.input.partitions is not None:
        yield ("input", "partitions"), f"does not go with input.record: {record}; leave it out"
    if job.model.require_record:
        yield (
            ("model", "require_record"),
            f"a parity record is of tf.Examples, and not of input.record: {record}; leave it out",
        )
    if record == "bytes":
        own = [*job.features] if isinstance(job.features, dict) else []
        for column, source in job.output.passthrough.items():
            if source.source not in own:
                yield (
                    ("output", "passthrough", column),
                    "of input.record: bytes nothing but the record itself can be passed through, under the name of the feature",
                )


def what_other_formats_have(record_format: str) -> str:
    """Why `input.record` is not for a format."""
    return (
        f"says what the records of TFRecord are, the format of the input is {record_format}; leave it out: a column of bytes "
        "is a feature {dtype: string}"
    )


def _serving_input_fn(job: Job) -> Found:
    key = "model.serving_input_fn"
    if job.transform is not None:
        yield ("transform",), f"does not go with {key}, which gives the model its features; leave one of them out"
    if job.features is not None and job.input.format == "tfrecord":
        yield (
            ("features",),
            f"does not go with {key}, which parses the record or has placeholders by name; leave it out",
        )
    if job.model.features is not None:
        yield ("model", "features"), f"does not go with {key}, whose features the model gets; leave it out"
    if job.model.saved_model:
        yield (
            ("model", "serving_input_fn"),
            "is for an Estimator, and model.saved_model has its own input; leave it out",
        )
    if job.input.partitions is not None and job.input.format == "tfrecord":
        yield ("input", "partitions"), f"does not go with {key} and TFRecord; leave it out"
    if job.model.require_record:
        yield ("model", "require_record"), f"a parity record does not go with {key}; leave it out"


def feature_mistakes(features: Mapping[str, Feature], record: str) -> Iterator[tuple[str, str]]:
    """Features that records of a kind cannot have: name, and why and what to write instead."""
    for name, feature in features.items():
        if record == "bytes":
            is_plain = (feature.dtype, feature.kind, feature.shape, feature.default) == ("string", "fixed", (), None)
            if len(features) > 1 or not is_plain:
                yield (
                    name,
                    "of input.record: bytes the record is the one feature: write {dtype: string} without kind, shape and default",
                )
        elif record == "example":
            if feature.feature_list:
                yield (
                    name,
                    "a tf.Example has no feature lists; leave feature_list out, or write input.record: sequence_example",
                )
        else:
            in_lists = feature.feature_list or feature.kind == "sequence"
            kinds, place = (LIST_KINDS, "feature lists") if in_lists else (CONTEXT_KINDS, "the context")
            if feature.kind not in kinds:
                yield (
                    name,
                    f"kind {feature.kind} is not read from {place} of a tf.SequenceExample; there are {', '.join(kinds)}",
                )
            elif in_lists and feature.default is not None:
                yield name, "a feature list has no default: tf.io pads with 0 and the empty string; leave it out"
