"""What has changed since an output was made, for a run that leaves it as it is (`if_exists: skip`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import checkpoint as checkpoints
from pipeline import files
from pipeline.artifacts import transform_digests
from pipeline.errors import ScoringError
from pipeline.history import read_history
from pipeline.job import Job
from pipeline.manifest import file_time, read_manifest
from pipeline.plan import match_shards
from pipeline.staging import file_digest

_NAMED_AT_MOST = 5
_WITHOUT_MEANING = {
    "input": ("split_bytes", "ready", "min_shards", "require_complete", "wait", "only_new", "history"),
    "output": ("path", "if_exists", "rows_per_file"),
    "runner": ("name", "options", "processes_per_machine"),
}
"""Keys of the job that say nothing of the rows in an output."""


def stale(job: Job) -> list[str]:
    """What differs now from the manifest of the job's output, in words; nothing where a run would give the same.

    Looks at names, sizes, times and digests alone: no model is loaded.
    """
    manifest = read_manifest(job.output.path)
    if manifest is None:
        return ["the output has no manifest"]
    return [
        *_settings(manifest["job"], job.settings()),
        *_shards(manifest, job),
        *_checkpoint(manifest["model"], job),
        *_transform(manifest["transform"], job),
        *_files({**manifest.get("code", {}), **manifest["model"]["assets"], **manifest["model"].get("files", {})}),
    ]


def _settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for section in dict.fromkeys([*now, *then]):
        before, after = then.get(section), now.get(section)
        if section in _WITHOUT_MEANING:
            before, after = before or {}, after or {}
        if isinstance(before, dict) and isinstance(after, dict):
            for key in dict.fromkeys([*after, *before]):
                if before.get(key) != after.get(key) and key not in _WITHOUT_MEANING.get(section, ()):
                    yield f"job file: {section}.{key} was changed"
        elif before != after:
            yield f"job file: {section} was changed"


def _shards(manifest: Mapping[str, Any], job: Job) -> Iterator[str]:
    then = {shard["path"]: (shard["bytes"], shard["modified"]) for shard in manifest["shards"]}
    try:
        now = {shard.path: shard for shard in match_shards(job.input)}
    except ScoringError as error:
        yield f"shards: {error}"
        return
    if manifest.get("limited"):
        yield "the output is that of a trial run (limited)"
    added = [path for path in now if path not in then]
    if added and job.input.only_new:
        history = read_history(job, manifest.get("settings", {}))
        added = [path for path in added if now[path] not in history]
    yield from _named("added", added)
    known = {path: (shard.bytes, file_time(shard.modified)) for path, shard in now.items()}
    yield from _named("changed", [path for path in now if path in then and known[path] != then[path]])
    yield from _named("gone", [path for path in then if path not in now])


def _named(what: str, paths: list[str]) -> Iterator[str]:
    if paths:
        more = f", and {len(paths) - _NAMED_AT_MOST} more" if len(paths) > _NAMED_AT_MOST else ""
        yield f"shards {what}: {', '.join(paths[:_NAMED_AT_MOST])}{more}"


def _checkpoint(then: Mapping[str, Any], job: Job) -> Iterator[str]:
    if job.model.model_dir is None and job.model.saved_model is None:
        return  # only the user's builder knows, and it is not called for this
    try:
        now = checkpoints.of_job(job, job.model.model_dir)
    except (ScoringError, OSError) as error:
        yield f"checkpoint: {error}"
        return
    if now.digest != then["digest"]:
        yield f"checkpoint: {now.path} in place of {then['checkpoint']}"


def _transform(then: Mapping[str, Any] | None, job: Job) -> Iterator[str]:
    if then is None or job.transform is None or job.transform.path is None:
        return  # another kind of transform is a change of the job file, its code one of the files
    if transform_digests(job.transform.path.rstrip("/")) != then.get("files"):
        yield f"transform: {job.transform.path} was changed"


def _files(then: Mapping[str, str]) -> Iterator[str]:
    for path, digest in then.items():
        if not files.exists(path):
            yield f"file gone: {path}"
        elif file_digest(path) != digest:
            yield f"file changed: {path}"
