"""Everything that is proved before a run starts: code, transform, features, checkpoint, graph, and one batch of rows."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

import pyarrow as pa

from pipeline import checkpoint as checkpoints
from pipeline import files
from pipeline.batch import Regrouper
from pipeline.code import add_user_code, resolve, source_files
from pipeline.errors import BrokenShard, JobError
from pipeline.estimator import load_estimator
from pipeline.features import EXAMPLE_DTYPES, Feature, from_tensorflow
from pipeline.job import Best, Job
from pipeline.outputs import check_names
from pipeline.plan import settings_digest
from pipeline.predict import RowScorer, Scored, refuse_wrong_job
from pipeline.probe import PROBE_ROWS, check_row_wise, distinct_rows, optional_that_matter
from pipeline.read import read_input
from pipeline.readers import source_schema
from pipeline.record import find_record, replay
from pipeline.rows import ROW, Columns, PassThrough, Rejected, Shard
from pipeline.scoring import ScoringSpec, build_scorer, forget_transforms, keep_open, load_transform

VERSIONED = ("tensorflow", "tensorflow-estimator", "apache-beam", "pyarrow", "numpy", "estimator-score")
_WHICH_MODEL = ("model_dir", "checkpoint", "record", "require_record")
"""Keys of `model` that no score depends on once the checkpoint is resolved."""


@dataclass(frozen=True)
class Prepared:
    """A job that was proved to work: what workers need, the scorer that was built, and what the manifest says of them."""

    spec: ScoringSpec
    scorer: RowScorer
    schema: pa.Schema
    model: Mapping[str, Any]
    transform: Mapping[str, Any] | None
    record: Mapping[str, Any]
    versions: Mapping[str, str]
    warnings: tuple[str, ...]


def prepare(job: Job, shards: Sequence[Shard]) -> Prepared:
    """Load and check all that a run needs; the scorer stays open for `pipeline.scoring.open_scorer` in this process.

    Raises:
      JobError, ModelError, InputError: each names what is wrong and the remedy.
    """
    add_user_code(job.code)
    import pipeline.tf_estimator  # noqa: F401  before any user code is imported

    features, transform = load_features(job)
    columns = resolve_columns(job, features, shards)
    estimator = load_estimator(job.model)
    checkpoint = resolve_checkpoint(job, estimator)
    found = find_record(job, estimator.model_dir, checkpoint, features, transform)
    spec = ScoringSpec("", job, job.input.format, columns, checkpoint)
    scorer = build_scorer(spec, estimator)
    versions = installed_versions()
    fingerprint = transform.fingerprint if transform is not None else None
    spec = replace(spec, key=_settings_key(spec, scorer, fingerprint, versions, estimator))
    keep_open(spec, scorer)
    parity = replay(found, scorer, job)
    warnings = probe(spec, scorer, shards)
    return Prepared(
        spec=spec,
        scorer=scorer,
        schema=output_schema(scorer, job.output.row_ids),
        model={
            "estimator": job.model.estimator or job.model.model_fn,
            "checkpoint": checkpoint.path,
            "step": checkpoint.step,
            "digest": checkpoint.digest,
            "assets": {path: _file_digest(path) for path in sorted(set(scorer.model.assets))},
        },
        transform=None
        if job.transform is None
        else {"path": job.transform.path or job.transform.function, "fingerprint": fingerprint},
        record=parity.to_manifest(),
        versions=versions,
        warnings=(*filter(None, (checkpoint.note, parity.warning)), *warnings),
    )


def load_features(job: Job) -> tuple[dict[str, Feature], Any]:
    """The raw feature spec of a job, and its transform or None. The spec is the transform's where that carries one."""
    features = job.features
    if isinstance(features, str):
        spec = resolve(features, "features")()
        if not isinstance(spec, Mapping):
            raise JobError(f"features: {features} returned a {type(spec).__name__}; a dict of tf.io features is wanted")
        features = from_tensorflow(spec, f"features: {features}")
    forget_transforms()  # a process may launch many runs, and a transform be made anew between them
    transform = load_transform(job, features)
    if features is None:
        features = dict(transform.raw_spec)
    for name in job.input.optional:
        if name not in features:
            raise JobError(f"input.optional: there is no raw feature {name!r}; there are: {', '.join(features)}")
    if job.input.format == "tfrecord":
        for name, feature in features.items():
            if feature.dtype not in EXAMPLE_DTYPES:
                raise JobError(
                    f"features: {name}: a tf.Example holds {', '.join(EXAMPLE_DTYPES)} and no {feature.dtype}; "
                    "declare one of these, and cast it in the transform"
                )
    return dict(features), transform


def resolve_checkpoint(job: Job, estimator: Any) -> checkpoints.Checkpoint:
    """The checkpoint that the job chooses, in its `model_dir` or the one that the builder gave to its RunConfig."""
    written = job.model.checkpoint
    choice = checkpoints.Best(written.metric, written.mode) if isinstance(written, Best) else written
    return checkpoints.resolve(job.model.model_dir or estimator.model_dir, choice)


def resolve_columns(job: Job, features: Mapping[str, Feature], shards: Sequence[Shard]) -> Columns:
    """What is taken out of every record, with the type of each pass-through column known."""
    known = Columns(features, frozenset(job.input.optional), dict(job.input.rename))
    passthrough = {}
    in_files = _file_types(job, shards) if job.output.passthrough else {}
    for name, column in job.output.passthrough.items():
        passthrough[name] = PassThrough(
            column.source, _passthrough_type(name, column, known, in_files, job.input.format)
        )
    check_names(list(passthrough))
    return replace(known, passthrough=passthrough)


def _passthrough_type(
    name: str, column: Any, known: Columns, in_files: Mapping[str, pa.DataType], record_format: str
) -> pa.DataType:
    if column.dtype is not None:
        return pa.string() if column.dtype == "string" else pa.type_for_alias(column.dtype)
    source = known.source(column.source)
    if source in in_files:
        return in_files[source]
    if in_files:
        raise JobError(
            f"output.passthrough: {name}: the shards have no column {source!r}; they have: {', '.join(in_files)}"
        )
    for feature_name, feature in known.features.items():
        if source == known.source(feature_name):
            value = pa.string() if feature.dtype == "string" else feature.value_type
            if feature.kind != "fixed":
                return pa.list_(value)
            return pa.list_(value, feature.size) if feature.shape else value
    if record_format == "csv":
        return pa.string()
    raise JobError(
        f"output.passthrough: {name}: {source!r} is no raw feature, so its type is not known; write "
        f"{{{name}: {{from: {source}, dtype: int64}}}} (or float32, string, binary)"
    )


def _file_types(job: Job, shards: Sequence[Shard]) -> dict[str, pa.DataType]:
    if job.input.format not in ("parquet", "avro"):
        return {}
    for shard in shards:
        try:
            schema = source_schema(partial(files.open_read, shard.path), job.input.format)
        except BrokenShard:
            continue  # it is told of when it is read; the types of the others hold
        return {field.name: field.type for field in schema}
    return {}


def output_schema(scorer: RowScorer, row_ids: bool) -> pa.Schema:
    """Columns of every output file: pass-through, predictions, `_shard` and `_row`."""
    fields = list(scorer.schema)[:-1]
    if row_ids:
        fields += [pa.field("_shard", pa.string()), pa.field("_row", pa.int64())]
    return pa.schema(fields)


def probe(spec: ScoringSpec, scorer: RowScorer, shards: Sequence[Shard]) -> tuple[str, ...]:
    """Score the first rows of the input: a job that fails on all of them is wrong, a model that looks at neighbours too.

    Returns warnings, such as of optional features that the predictions depend on.
    """
    batch = first_batch(spec, shards)
    if batch is None:
        return ()
    some = distinct_rows(batch, PROBE_ROWS)
    scored = scorer.score(some)
    if scored.rows.num_rows == 0:
        scored = scorer.score(batch)
        refuse_wrong_job(scored)
        some = distinct_rows(_without(batch, scored.rejected), PROBE_ROWS)
    else:
        some = _without(some, scored.rejected)
    if not spec.job.model.row_wise or not some.num_rows:
        return ()
    keys = dict.fromkeys(column.key for column in scorer.outputs)
    check_row_wise(scorer.model, some, keys)
    matter = optional_that_matter(scorer.model, some, keys, spec.columns)
    return tuple(f"the predictions depend on {name}, which shards may lack (input.optional)" for name in matter)


def _without(rows: pa.RecordBatch, rejected: Sequence[Rejected]) -> pa.RecordBatch:
    bad = {row.row for row in rejected}
    return rows.filter(pa.array([row not in bad for row in rows.column(ROW).to_pylist()], pa.bool_()))


def first_batch(spec: ScoringSpec, shards: Sequence[Shard]) -> pa.RecordBatch | None:
    """The first batch of the first shard that has rows, cut as the run will cut it; None where no shard has any.

    Raises:
      ModelError: no row of the first chunk can be decoded, and all for one reason.
    """
    job, at_first = spec.job, True
    for shard in shards:
        regrouper = Regrouper(job.batch.rows, job.batch.bytes)
        try:
            for chunk in read_input(shard.path, job.input, spec.columns, job.batch, keep_record=False):
                if at_first and chunk.read:
                    at_first = False
                    if chunk.rows.num_rows == 0:
                        refuse_wrong_job(Scored(chunk.rows, chunk.rejected, {}))
                if batches := regrouper.add(chunk.rows):
                    return batches[0]
        except BrokenShard:
            pass  # the run tells of it
        if batches := regrouper.finish():
            return batches[0]
    return None


def installed_versions() -> dict[str, str]:
    """Versions of what scores rest on: Python and the packages, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # run from a checkout, or a TensorFlow under another name
    return versions


def _settings_key(
    spec: ScoringSpec, scorer: RowScorer, fingerprint: str | None, versions: Mapping[str, str], estimator: Any
) -> str:
    job = spec.job
    settings = job.settings()
    code = source_files(job.code, [estimator._model_fn, *_references(job)])
    return settings_digest(
        {
            "checkpoint": spec.checkpoint.digest,
            "transform": fingerprint,
            "code": {path: _file_digest(path) for path in code},
            "assets": [_file_digest(path) for path in scorer.model.assets],  # not their paths: a transform may move
            "versions": {
                name: versions.get(name) for name in ("tensorflow", "tensorflow-estimator", "estimator-score")
            },
            "columns": repr(spec.columns),
            "model": {key: value for key, value in settings["model"].items() if key not in _WHICH_MODEL},
            "input": {key: value for key, value in settings["input"].items() if key not in ("pattern", "ignore")},
            "output": {key: settings["output"].get(key) for key in ("passthrough", "predictions", "types", "row_ids")},
            "batch": settings["batch"],
            "errors": {key: settings["errors"].get(key) for key in ("non_finite", "keep_record")},
        }
    )


def _references(job: Job) -> list[Any]:
    references = [(job.model.estimator, "model.estimator"), (job.model.model_fn, "model.model_fn")]
    if job.transform is not None:
        references.append((job.transform.function, "transform.function"))
    return [resolve(reference, key) for reference, key in references if reference]


def _file_digest(path: str) -> str:
    import hashlib

    return hashlib.sha256(files.read_bytes(path)).hexdigest()
