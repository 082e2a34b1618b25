"""What earlier runs have scored, by the manifests of their outputs (`input.only_new`, `input.history`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.commit import SUCCESS, published_run
from pipeline.errors import OutputError
from pipeline.manifest import file_time, read_manifest

if TYPE_CHECKING:
    from pipeline.job import Job
    from pipeline.rows import Shard

Identity = tuple[str, int, str | None]
"""Path, bytes, and what tells these bytes from others under the same path, as a manifest has it."""

_THREADS = 16


class History:
    """The shards that the outputs of earlier runs hold.

    outputs: how many complete ones there are. shards: those that were scored with the same settings, whatever the output.
    """

    def __init__(self, outputs: int, shards: frozenset[Identity]):
        self.outputs = outputs
        self.shards = shards

    def __contains__(self, shard: Shard) -> bool:
        return identity(shard) in self.shards


def new_shards(job: Job, shards: Sequence[Shard], settings: Mapping[str, str]) -> tuple[list[Shard], list[str]]:
    """Those that a run of the job has to score, which are all of them without `only_new`, and warnings."""
    if not job.input.only_new:
        return list(shards), []
    history = read_history(job, settings)
    return [shard for shard in shards if shard not in history], _warnings(job, history)


def identity(shard: Shard) -> Identity:
    """How the manifest of a run that scored a shard names it."""
    return shard.path, shard.bytes, shard.etag if shard.etag is not None else file_time(shard.modified)


def read_history(job: Job, settings: Mapping[str, str]) -> History:
    """What the outputs under `input.history` hold that counts for a run with some settings.

    The output of the job itself does not count: a run that replaces it has to score its shards again.

    Args:
      settings: component -> digest, as in the manifest.
    """
    marks = {info.path for pattern in job.input.history for info in files.match(files.join(pattern, SUCCESS))}
    folders = sorted({mark.rpartition("/")[0] for mark in marks} - {job.output.path.rstrip("/")})
    with ThreadPoolExecutor(_THREADS) as pool:
        manifests = [found for found in pool.map(_complete, folders) if found is not None]
    return History(len(manifests), frozenset(shard for each in manifests for shard in _scored(each, settings)))


def _warnings(job: Job, history: History) -> list[str]:
    """What makes this run score shards that it need not, or the next one."""
    warnings = []
    if not history.outputs:
        warnings.append(f"input.history: no output of an earlier run under {', '.join(job.input.history)}; all is new")
    output = job.output.path.rstrip("/")
    if not any(files.matcher(pattern.rstrip("/"))(output) for pattern in job.input.history):
        warnings.append(f"input.history: does not match {output}, so the next run will not know of this one")
    return warnings


def _complete(output: str) -> Mapping[str, Any] | None:
    """The manifest of an output that is complete and of one run."""
    try:
        manifest = read_manifest(output)
    except OutputError:
        return None  # of somebody else
    return manifest if manifest is not None and published_run(output) == manifest.get("run_id") else None


def _scored(manifest: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[Identity]:
    """The shards that a run has scored whole, if its scores are those of these settings."""
    limited = manifest.get("limited") or {}
    if manifest.get("settings") != settings or limited.get("rows") is not None:
        return
    for shard in manifest["shards"]:
        if shard["state"] == "done" and (shard["scored"] or not shard["read"]):
            yield shard["path"], shard["bytes"], shard.get("etag") or shard["modified"]
