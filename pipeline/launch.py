"""Everything that is proved before a run starts: code, transform, features, checkpoint, graph, and one batch of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import checkpoint as checkpoints
from pipeline import files
from pipeline.artifacts import Copies, Places, local_assets, stage_assets, stage_model, stage_transform
from pipeline.assets import asset_digests
from pipeline.batch import Regrouper
from pipeline.code import add_user_code, resolve, source_files
from pipeline.decode_rows import output_type
from pipeline.environment import open_environment, references
from pipeline.errors import BrokenShard, JobError, ScoringError
from pipeline.estimator import load_estimator
from pipeline.features import Feature
from pipeline.job import Job
from pipeline.job.records import unrecorded
from pipeline.outputs import check_names
from pipeline.partitions import check_partitions, partition_columns, partition_type
from pipeline.pinned import Pinned, what_is_asked
from pipeline.plan import settings_digest
from pipeline.predict import RowScorer, Scored, refuse_wrong_job
from pipeline.probe import PROBE_ROWS, check_row_wise, distinct_rows, optional_that_matter
from pipeline.raw_features import load_features
from pipeline.read import read_input, with_format
from pipeline.readers import source_schema
from pipeline.record import find_record, replay
from pipeline.record.file import FOLDER, TRANSFORM
from pipeline.record.graph_files import compare_files
from pipeline.rows import ROW, Columns, PassThrough, Rejected, Shard, take_rows
from pipeline.scoring import ScoringSpec, build_scorer, keep_open
from pipeline.settings import settings_components
from pipeline.shipment import Shipment
from pipeline.signature import facts_of
from pipeline.staging import file_digest
from pipeline.stopwatch import Stopwatch
from pipeline.versions import installed_versions


@dataclass(frozen=True)
class Prepared:
    """A job that was proved to work: what workers need, the scorer that was built, and what the manifest says of them.

    settings: all that scores rest on beside the shard, component -> digest; `spec.key` is the digest of it.
    code: path -> SHA-256, in hex, of every source file that counts.
    staged: the copies that the run reads, as plain JSON, for a restart of it; empty where production is read in place.
    stopwatch: what `build`, `replay` of the record and `probe` took.
    """

    spec: ScoringSpec
    scorer: RowScorer
    schema: pa.Schema
    model: Mapping[str, Any]
    transform: Mapping[str, Any] | None
    record: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    code: Mapping[str, str]
    staged: Mapping[str, Any]
    warnings: tuple[str, ...]
    stopwatch: Stopwatch = field(default_factory=Stopwatch)


def prepare(
    job: Job, shards: Sequence[Shard], staging: str | None = None, pinned: Mapping[str, Any] | None = None
) -> Prepared:
    """Load and check all that a run needs; the scorer stays open for `pipeline.scoring.open_scorer` in this process.

    Args:
      job: a checked job.
      shards: the input.
      staging: the folder where the run's copies go (`pipeline.artifacts.staging_folder`). None: local files are read in
        place, and others fetched to the cache of this machine.
      pinned: `staged` of the unfinished run that is restarted: its checkpoint and its transform are kept.

    Raises:
      JobError, ModelError, InputError: each names what is wrong and the remedy.
    """
    stopwatch = Stopwatch()
    add_user_code(job.code)
    job = job.model_copy(update={"input": with_format(job.input, shards)})
    pin = Pinned.of_run(pinned, job) if pinned else None
    places, features, transform = open_transform(job, staging, pin)
    columns = resolve_columns(job, features, shards)
    places, estimator = open_estimator(places, staging, pin)
    checkpoint, assets_copy = places.chosen, None

    def keep_assets(paths: Sequence[str]) -> Mapping[str, str]:
        nonlocal assets_copy
        assets_copy = pin.assets(paths, places, staging) if pin else stage_assets(paths, places, staging)
        return local_assets(paths, places, assets_copy)

    spec = ScoringSpec("", job, job.input.format, columns, checkpoint)
    with places.named_as_in_job():
        recorded = _with_record(places) if pin else job
        folder = estimator.model_dir
        found = None if unrecorded(job) else find_record(recorded, folder, checkpoint, features, transform)
        with stopwatch.phase("build"):
            scorer = build_scorer(spec, estimator, places, keep_assets)
    versions = installed_versions()
    fingerprint = transform.fingerprint if transform is not None else None
    in_copies = local_assets(scorer.model.assets, places, assets_copy)
    assets = {path: file_digest(in_copies.get(path, path)) for path in scorer.model.assets}
    code = {path: file_digest(path) for path in source_files(job.code, [*_model_fn(estimator), *_references(job)])}
    named = asset_digests(job.model.assets, places.named)
    settings = settings_components(spec, fingerprint, assets.values(), code, versions, named)
    copies = Copies(
        *(copy.staged if copy else None for copy in (places.model, places.transform, assets_copy, places.named))
    )
    spec = replace(spec, key=settings_digest(settings), copies=copies, code=Shipment.of(job.code, code))
    keep_open(spec, scorer)
    compare_files(found, {places.original(path): assets[path] for path in scorer.model.files.paths})
    with stopwatch.phase("replay"):
        parity = replay(found, scorer, job)
    with stopwatch.phase("probe"):
        warnings = probe(spec, scorer, shards)
    asset_paths = tuple(places.original(path) for path in scorer.model.assets)
    return Prepared(
        spec=spec,
        scorer=scorer,
        schema=output_schema(scorer, job.output.row_ids),
        model={
            "estimator": job.model.estimator or job.model.model_fn,
            "checkpoint": checkpoint.path,
            "step": checkpoint.step,
            "digest": checkpoint.digest,
            "assets": dict(sorted(zip(asset_paths, assets.values(), strict=True))),
            **facts_of(estimator, checkpoint),
            "files": {path: digest for found in named.values() for path, digest in found.items()},
        },
        transform=None
        if job.transform is None
        else {"path": job.transform.path or job.transform.function, "fingerprint": fingerprint},
        record=parity.to_manifest(),
        versions=versions,
        settings=settings,
        code=code,
        staged={} if staging is None else Pinned(what_is_asked(job), checkpoint, copies, asset_paths).to_json(),
        warnings=(*filter(None, (checkpoint.note, parity.warning)), *scorer.model.files.warnings, *warnings),
        stopwatch=stopwatch,
    )


def open_transform(
    job: Job, staging: str | None = None, pin: Pinned | None = None
) -> tuple[Places, dict[str, Feature], Any]:
    """Make this process ready for the job's code, find its transform and load it.

    Returns:
      Where things lie, the raw feature spec, and the transform or None.
    """
    path = job.transform.path if job.transform is not None else None
    places = open_environment(job, staging, pin)
    places = replace(places, transform=pin.transform(job, staging) if pin else stage_transform(path, staging))
    with places.named_as_in_job():
        features, transform = load_features(places.local_job)
    if places.transform is not None:
        transform.path = path  # how a record and messages call it
    return places, features, transform


def open_estimator(places: Places, staging: str | None = None, pin: Pinned | None = None) -> tuple[Places, Any]:
    """Choose the checkpoint of a job and build its Estimator, which gets the copy of model_dir, if there is one."""
    job = places.job
    own: Any = None
    if not (job.model.model_dir or job.model.saved_model):
        own = load_estimator(places.local_job.model)  # it alone knows its model_dir
    model_dir = own.model_dir if own is not None else job.model.model_dir
    if pin is not None:
        checkpoint, copy = pin.model(job, model_dir, staging)
    else:
        checkpoint, copy = stage_model(job, model_dir, staging, partial(checkpoints.of_job, job, model_dir))
    places = replace(places, checkpoint=checkpoint, model=copy)
    with places.named_as_in_job():
        return places, own or load_estimator(places.local_job.model)


def resolve_columns(job: Job, features: Mapping[str, Feature], shards: Sequence[Shard]) -> Columns:
    """What is taken out of every record, with the type of each pass-through column known."""
    partitions = partition_columns(job.input.partitions, shards)
    optional, sources = frozenset(job.input.optional), dict(job.input.rename)
    known = Columns(features, optional, sources, partitions=partitions, record=job.input.record)
    passthrough = {}
    in_files = _file_types(job, shards) if job.output.passthrough else {}
    for name, column in job.output.passthrough.items():
        passthrough[name] = PassThrough(
            column.source, _passthrough_type(name, column, known, in_files, job.input.format)
        )
    check_names(list(passthrough))
    columns = replace(known, passthrough=passthrough)
    check_partitions(columns, shards)
    return columns


def _passthrough_type(
    name: str, column: Any, known: Columns, in_files: Mapping[str, pa.DataType], record_format: str
) -> pa.DataType:
    if column.dtype is not None:
        return pa.string() if column.dtype == "string" else pa.type_for_alias(column.dtype)
    source = known.source(column.source)
    if source in known.partitions:
        return partition_type(known.partitions[source])
    if source in in_files:
        return in_files[source]
    if in_files:
        raise JobError(
            f"output.passthrough: {name}: the shards have no column {source!r}; they have: {', '.join(in_files)}"
        )
    for feature_name, feature in known.features.items():
        if source == known.source(feature_name) and not feature.is_composite and not feature.feature_list:
            return output_type(feature)
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
    first = _first_batch(spec, shards)
    if first is None:
        return ()
    shard, batch = first
    try:
        return _probe(spec, scorer, batch)
    except ScoringError as error:
        error.shard = error.shard or shard.path
        raise


def _probe(spec: ScoringSpec, scorer: RowScorer, batch: pa.RecordBatch) -> tuple[str, ...]:
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
    return take_rows(rows, np.array([row not in bad for row in rows.column(ROW).to_pylist()], bool))


def first_batch(spec: ScoringSpec, shards: Sequence[Shard]) -> pa.RecordBatch | None:
    """The first batch of the first shard that has rows, cut as the run will cut it; None where no shard has any.

    Raises:
      ModelError: no row of the first chunk can be decoded, and all for one reason.
    """
    first = _first_batch(spec, shards)
    return first[1] if first else None


def _first_batch(spec: ScoringSpec, shards: Sequence[Shard]) -> tuple[Shard, pa.RecordBatch] | None:
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
                    return shard, batches[0]
        except BrokenShard:
            pass  # the run tells of it
        if batches := regrouper.finish():
            return shard, batches[0]
    return None


def _model_fn(estimator: Any) -> list[Any]:
    return [] if hasattr(estimator, "signature") else [estimator._model_fn]


def _references(job: Job) -> list[Any]:
    return [resolve(reference, key) for key, reference in references(job).items() if key != "features"]


def _with_record(places: Places) -> Job:
    """The job with the parity record that was staged: production may have lost it with the checkpoint."""
    job = places.job
    record = files.join(places.model.folder, FOLDER) if places.model is not None else ""
    if not record or not files.exists(files.join(record, TRANSFORM)):
        return job
    return job.model_copy(update={"model": job.model.model_copy(update={"record": record})})
