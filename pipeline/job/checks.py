"""Combinations of keys that cannot work. Each check yields the key to change and why."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from pipeline.job.code import code_mistakes
from pipeline.job.messages import KeyPath, did_you_mean
from pipeline.job.partitions import may_be_in_path
from pipeline.job.records import record_mistakes
from pipeline.job.saved_model import saved_model_mistakes

if TYPE_CHECKING:
    from pipeline.features import Feature
    from pipeline.job import Job

Found = Iterator[tuple[KeyPath, str]]

_WRITTEN = (
    "part-00000-of-00001.parquet",
    "_rejected/part-00000-of-00001.parquet",
    "_temporary/key/attempt.parquet",
    "key/content/file",
)
"""Names under a folder that a run writes to, which no input pattern may match."""


def mistakes(job: Job) -> Found:
    """Every combination of keys of `job` that cannot work."""
    yield from _sources_of_features(job)
    yield from _model(job)
    yield from saved_model_mistakes(job)
    yield from record_mistakes(job)
    yield from code_mistakes(job)
    yield from _input(job)
    yield from _output_columns(job)
    yield from _output_in_input(job)
    if isinstance(job.features, dict):
        yield from _names_of_features(job, job.features)
        yield from _fields_of_shards(job, job.features)


def _sources_of_features(job: Job) -> Found:
    transform = job.transform
    if transform is None:
        if job.model.serving_input_fn:
            return
        # A SavedModel may take the records of TFRecord as they are.
        if job.features is None and not (job.model.saved_model and job.input.format == "tfrecord"):
            yield (
                ("features",),
                "is missing; write the raw feature spec here, or transform.path if the transform has it",
            )
    elif transform.path and transform.function:
        yield ("transform",), "has both path and function; one transform runs, leave the other out"
    elif transform.path and job.features is not None:
        yield ("features",), "the transform of transform.path has the raw feature spec itself; leave features out"
    elif transform.function and job.features is None:
        yield ("features",), "is missing; transform.function needs the raw feature spec"
    elif not transform.path and not transform.function:
        yield ("transform",), "needs path (a folder) or function (module:function)"


def _model(job: Job) -> Found:
    if job.model.estimator and job.model.model_fn:
        yield ("model",), "has both estimator and model_fn; leave one out"
    if not job.model.estimator and not job.model.model_fn and not job.model.saved_model:
        yield ("model",), "needs estimator (a function that builds one), model_fn or saved_model"
    if job.model.model_fn and not job.model.model_dir:
        yield ("model", "model_dir"), "is missing; a model_fn does not know where its checkpoints are"


def _input(job: Job) -> Found:
    may_be_rejected_rows = job.input.format == "parquet" and "format" not in job.input.model_fields_set
    if "csv" in job.input.model_fields_set and job.input.format != "csv" and not may_be_rejected_rows:
        yield ("input", "csv"), f"is for CSV, the format of the input is {job.input.format}; leave it out"
    if job.input.split_bytes is not None and job.input.format != "parquet":
        yield (
            ("input", "split_bytes"),
            f"cuts Parquet shards at their row groups, the format of the input is {job.input.format}; leave it out",
        )
    if job.input.only_new and not job.input.history:
        yield (
            ("input", "history"),
            "is missing; only_new leaves out what earlier runs have scored: write their output folders, such as "
            "predictions/*",
        )


def _output_columns(job: Job) -> Found:
    predictions = job.output.predictions or {}
    for key, columns in (("passthrough", job.output.passthrough), ("predictions", predictions)):
        for column in columns:
            if column in ("_shard", "_row"):
                yield (
                    ("output", key),
                    f"{column!r} is a column of row ids; give yours another name: {{my{column}: ...}}",
                )
    for column in job.output.passthrough:
        if column in predictions:
            yield ("output", "predictions"), f"{column!r} is a pass-through column too; rename one: {{column: name}}"
    for column in job.output.types:
        if column in job.output.passthrough:
            yield ("output", "types", column), "is a pass-through column; write its dtype in output.passthrough"
        elif job.output.predictions is not None and column not in predictions:
            yield ("output", "types", column), f"no prediction has this column{did_you_mean(column, predictions)}"


def _output_in_input(job: Job) -> Found:
    folders = [
        (("output", "path"), job.output.path),
        (("errors", "rejected_path"), job.errors.rejected_path),
        (("model", "staging"), job.model.staging),
    ]
    for key, folder in folders:
        if not folder:
            continue
        written = [folder.rstrip("/")] + [posixpath.join(folder, name) for name in _WRITTEN]
        for pattern in job.input.pattern:
            if any(_matches(pattern, path) and not _ignored(path, job.input.ignore) for path in written):
                yield (
                    key,
                    f"{folder!r} lies where the input pattern {pattern!r} looks for shards; write elsewhere: --set {'.'.join(key)}=...",
                )


def _names_of_features(job: Job, features: dict[str, Feature]) -> Found:
    for name, feature in features.items():
        if job.input.format == "tfrecord" and feature.dtype not in _example_dtypes():
            allowed = ", ".join(_example_dtypes())
            yield (
                ("features", name, "dtype"),
                f"TFRecord holds {allowed}, not {feature.dtype}; cast it in the transform",
            )
    for name in job.input.optional:
        if name not in features:
            yield ("input", "optional"), f"{name!r} is no raw feature{did_you_mean(name, features)}"
    fields = [key for feature in features.values() for key in feature.keys]
    ours = [*features, *fields, *(column.source for column in job.output.passthrough.values())]
    for name in job.input.rename:
        if name not in ours:
            yield ("input", "rename", name), f"is no raw feature and no pass-through name{did_you_mean(name, ours)}"
    if job.transform is None and job.model.features is not None:
        wanted = [job.model.features] if isinstance(job.model.features, str) else job.model.features
        for name in wanted:
            if name not in features:
                yield ("model", "features"), f"{name!r} is no raw feature{did_you_mean(name, features)}"


def _fields_of_shards(job: Job, features: dict[str, Feature]) -> Found:
    sources = {
        column: source
        for column, source in job.output.passthrough.items()
        if source.source not in features and not may_be_in_path(job.input, source.source)
    }
    for column, source in sources.items():
        key = ("output", "passthrough", column)
        if job.input.format in ("tfrecord", "jsonl") and source.dtype is None:
            yield (
                key,
                (
                    f"{source.source!r} is no raw feature, so its dtype is not known; "
                    f"write {{{column}: {{from: {source.source}, dtype: int64}}}}{_close(source.source, features)}"
                ),
            )
        elif job.input.format == "tfrecord" and source.dtype not in (*_example_dtypes(), "binary"):
            yield (*key, "dtype"), f"TFRecord holds {', '.join(_example_dtypes())}, not {source.dtype}"
    if job.input.csv.columns:
        known = [*job.input.optional, *(name for name in features if may_be_in_path(job.input, name))]
        required = [key for name, feature in features.items() if name not in known for key in feature.keys]
        for name in [*required, *(source.source for source in sources.values())]:
            field = job.input.rename.get(name, name)
            if field not in job.input.csv.columns:
                close = did_you_mean(field, job.input.csv.columns)
                yield ("input", "csv", "columns"), f"{field!r} is not among them, and the job reads it{close}"


def _close(name: str, features: Collection[str]) -> str:
    text = did_you_mean(name, features)
    return text if "did you mean" in text else ""


def _example_dtypes() -> tuple[str, ...]:
    from pipeline.features import EXAMPLE_DTYPES

    return EXAMPLE_DTYPES


def _ignored(path: str, ignore: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(posixpath.basename(path), pattern) for pattern in ignore)


def _matches(pattern: str, path: str) -> bool:
    """Whether a Beam file pattern matches: `*` and `?` stay within a folder, `**` crosses folders."""
    tokens = re.split(r"(\*\*/?|\*|\?|\[[^\]]+\])", pattern)
    wildcards = {"**": ".*", "**/": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(
        wildcards.get(token) or (f"[{token[1:-1].replace('!', '^', 1)}]" if token.startswith("[") else re.escape(token))
        for token in tokens
    )
    return re.fullmatch(expression, path) is not None
