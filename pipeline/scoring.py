"""What a worker needs to score, frozen at launch, and the scorer that a process builds from it once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import machine
from pipeline.artifacts import Copies, Places, local_assets
from pipeline.assets import lay
from pipeline.checkpoint import Checkpoint
from pipeline.code import resolve, source_files
from pipeline.environment import enter_environment
from pipeline.estimator import load_estimator
from pipeline.example_input import input_for
from pipeline.features import FeatureSpec
from pipeline.memory import Need, usage
from pipeline.model import build_model
from pipeline.outputs import check_names, output_columns
from pipeline.predict import RowScorer
from pipeline.rows import Columns
from pipeline.serving_input import serving_input
from pipeline.shipment import Shipment
from pipeline.staging import fetch

if TYPE_CHECKING:
    from pipeline.job import Job


@dataclass(frozen=True)
class ScoringSpec:
    """Everything that decides a score, and nothing that is open: it travels to the workers.

    key: digest of all of it; scorers of one key give the same scores.
    record_format: tfrecord (the graph parses the record), or a format whose rows arrive as columns.
    columns: what is taken out of a record, pass-through types known.
    checkpoint: as production has it. copies: of it and of what else was staged; workers read these.
    code: `job.code`, as the launcher recorded it.
    processes: that hold a copy of the model on one machine; 0: one a core. No score depends on it.
    """

    key: str
    job: Job
    record_format: str
    columns: Columns
    checkpoint: Checkpoint
    copies: Copies = field(default_factory=Copies)
    code: Shipment = field(default_factory=Shipment)
    processes: int = 1


_open: dict[str, RowScorer] = {}
_opening = threading.RLock()


def open_scorer(spec: ScoringSpec, on_load: Callable[[float], None] = lambda seconds: None) -> RowScorer:
    """The scorer of this process for a spec: built at the first call, shared between threads and with the launcher.

    Args:
      spec: what to build.
      on_load: called with the seconds that the build took, if it was built by this call.
    """
    with _opening:
        if spec.key not in _open:
            start = time.monotonic()
            machine.share_cores(spec.processes, spec.job.model.row_wise)
            spec.code.add()
            places = fetched_places(spec)
            with places.named_as_in_job():
                assets = fetch(spec.copies.assets) if spec.copies.assets else None
                lay(spec.job.model.assets, places.named)
                enter_environment(places.local_job)
                estimator = load_estimator(places.local_job.model)
                _open[spec.key] = build_scorer(
                    spec, estimator, places, lambda paths: local_assets(paths, places, assets)
                )
            on_load(time.monotonic() - start)
        return _open[spec.key]


def keep_open(spec: ScoringSpec, scorer: RowScorer) -> None:
    """Let `open_scorer` give a scorer that was built already: the one that the launch checked."""
    with _opening:
        _open[spec.key] = scorer


def close_scorers() -> None:
    """Close every session that this process holds open."""
    with _opening:
        while _open:
            _open.popitem()[1].model.close()


def fetched_places(spec: ScoringSpec) -> Places:
    """Where this machine reads what a spec names: what was staged is fetched, and every byte of it proved.

    Raises:
      ModelError: a copy is gone or damaged.
    """
    staged = (spec.copies.model, spec.copies.transform, spec.copies.named)
    return Places(spec.job, spec.checkpoint, *(fetch(each) if each else None for each in staged))


def build_scorer(
    spec: ScoringSpec,
    estimator: Any,
    places: Places,
    local_assets: Callable[[Sequence[str]], Mapping[str, str]] = lambda paths: {},
) -> RowScorer:
    """Build the graph, restore the checkpoint and choose the output columns.

    Args:
      spec: what to build.
      estimator: built with the job of `places`.
      places: where this machine reads the model.
      local_assets: as for `pipeline.model.build_model`.
    """
    job = places.local_job
    transform = load_transform(job, spec.columns.features)
    as_columns = spec.record_format != "tfrecord"
    graph_input = (
        serving_input(job, spec.columns, as_columns)
        if job.model.serving_input_fn
        else input_for(estimator, spec.columns, spec.record_format, transform is not None)
    )
    model = build_model(
        estimator,
        places.local_checkpoint,
        graph_input,
        transform,
        job.model.features,
        job.model.allow_unused,
        local_assets,
        partial(_check_memory, spec.processes),
    )
    outputs = output_columns(model.predictions, job.output.predictions, output_types(job))
    own = ["_shard", "_row"] if job.output.row_ids else []
    check_names([*spec.columns.passthrough, *(column.name for column in outputs), *own])
    return RowScorer(model, spec.columns, outputs, job.model.row_wise, job.errors.non_finite, job.errors.keep_record)


def _check_memory(processes: int, variable_bytes: int) -> None:
    """Refuse a model that this machine cannot hold so many copies of, by what this process takes without it."""
    now = usage()
    Need(now.private, variable_bytes, now.shared).check(processes or machine.cores(), machine.memory())


def output_types(job: Job) -> dict[str, pa.DataType]:
    """`output.types` of a job as Arrow types."""
    return {column: pa.type_for_alias(name) for column, name in job.output.types.items()}


def load_transform(job: Job, features: FeatureSpec | None) -> Any:
    """The transform of a job, or None: loaded from its folder once a process, or around the user's function.

    features: what the user's function gets; a folder knows its own.
    """
    import transforms

    if job.transform is None:
        return None
    if job.transform.path is not None:
        return _load_folder(job.transform.path)
    reference = job.transform.function or ""
    function = resolve(reference, "transform.function")
    return transforms.from_function(function, features or {}, reference, source_files((), [function]))


def forget_transforms() -> None:
    """Let `load_transform` look at its folder again: it may hold another transform by now."""
    _load_folder.cache_clear()


@lru_cache(maxsize=4)
def _load_folder(path: str) -> Any:
    import transforms

    return transforms.load(path)
