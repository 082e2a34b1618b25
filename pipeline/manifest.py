"""The manifest of a published output, `_manifest.json`: what was read, what was written, by which model. Keys are only ever added."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from pipeline import files
from pipeline.errors import OutputError
from pipeline.plan import REJECTED, Plan, part_name, part_path
from pipeline.results import PartResult, ShardResult, WrittenFile, of_shards

MANIFEST = "_manifest.json"
FORMAT_VERSION = 1
ABSENT_ROWS = 1000
"""From this many rows on, a feature that none of them has is no accident."""

PART_NAME = re.compile(r"part-\d{5,}-of-\d{5,}\.parquet")


def build_manifest(
    plan: Plan, results: Sequence[PartResult], finished: str, rejected_path: str | None
) -> dict[str, Any]:
    """The manifest as plain JSON values.

    Args:
      results: one a part, in the order of the plan.
      finished: RFC 3339, UTC.
      rejected_path: folder of the rejected rows, or None for `_rejected` in the output.
    """
    count = len(results)
    read = sum(result.read for result in results)
    present = total_present(results)
    shards = of_shards(results)
    return {
        "format_version": FORMAT_VERSION,
        "name": plan.name,
        "run_id": plan.run_id,
        "run_date": plan.run_date,
        "started": plan.started,
        "finished": finished,
        "rows": {
            "read": read,
            "scored": sum(result.scored for result in results),
            "rejected": sum(result.rejected for result in results),
        },
        "files": [_file(part_path(part, count), found.file) for part, found in zip(plan.parts, results, strict=True)],
        "rejected_files": [
            _file(files.join(rejected_path or REJECTED, part_name(index, count)), result.rejected_file)
            for index, result in enumerate(results)
            if result.rejected_file
        ],
        "schema": [{"name": column.name, "type": str(column.type)} for column in plan.schema],
        "shards": [_shard(shard) for shard in shards],
        "features": {
            name: {"present": present[name], "missing": read - present[name]}
            for name in dict.fromkeys([*plan.features, *present])
        },
        "model": dict(plan.model),
        "transform": None if plan.transform is None else dict(plan.transform),
        "record": dict(plan.record),
        "job": dict(plan.job),
        "versions": dict(plan.versions),
        "settings": dict(plan.settings),
        "code": dict(plan.code),
        "timings": {"total_seconds": _seconds_between(plan.started, finished), **plan.timings},
        "memory": {**plan.memory, "workers_peak_bytes": _peaks(plan, results)},
        "resumed_parts": sum(result.run_id != plan.run_id for result in results),
        "halved_batches": sum(result.halved for result in results),
        "limited": None if plan.limited is None else dict(plan.limited),
        "warnings": [*plan.warnings, *_broken_shards(shards), *_absent_in_one_part(plan, results)],
    }


def read_manifest(output: str) -> dict[str, Any] | None:
    """The manifest of an output folder, or None if it has none.

    Raises:
      OutputError: a file of that name is there which we have not written.
    """
    path = files.join(output, MANIFEST)
    if not files.exists(path):
        return None
    try:
        manifest = json.loads(files.read_bytes(path))
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or "format_version" not in manifest or "files" not in manifest:
        raise OutputError(f"{path} is no manifest of ours; delete it, or write to another output.path")
    return manifest


def named_files(output: str, manifest: Mapping[str, Any], rejected_path: str | None) -> list[str]:
    """Paths of the files that a manifest calls its own, and that bear a name we give.

    A manifest lies where others may write: what it names elsewhere than in `output` and `rejected_path` is none of ours.
    """
    is_own = _is_below if _is_mirrored(manifest) else PART_NAME.fullmatch
    own = [files.join(output, file["path"]) for file in manifest["files"] if is_own(file["path"])]
    for file in manifest.get("rejected_files", []):
        folder, _, name = file["path"].rpartition("/")
        if PART_NAME.fullmatch(name) and folder in (REJECTED, (rejected_path or REJECTED).rstrip("/")):
            own.append(files.join(output, REJECTED, name) if folder == REJECTED else file["path"])
    return own


def _is_mirrored(manifest: Mapping[str, Any]) -> bool:
    return manifest.get("job", {}).get("output", {}).get("layout") == "mirror"


def _is_below(path: str) -> bool:
    """Whether a path from a manifest is that of a part in the output or in a folder below it, and not one of our own."""
    *folders, name = path.split("/")
    return PART_NAME.fullmatch(name) is not None and not any(
        folder.startswith(("_", ".")) or not folder for folder in folders
    )


def total_present(results: Sequence[PartResult]) -> Counter[str]:
    """Feature -> number of rows of the input that had a value for it."""
    return sum((Counter(result.present) for result in results), Counter())


def absent_features(plan: Plan, results: Sequence[PartResult]) -> list[str]:
    """Features that no row of an input of `ABSENT_ROWS` rows or more has, though it is not optional."""
    if sum(result.read for result in results) < ABSENT_ROWS:
        return []
    present = total_present(results)
    return [name for name in plan.features if not present[name] and name not in plan.optional]


def _absent_in_one_part(plan: Plan, results: Sequence[PartResult]) -> list[str]:
    """Shards that lack a feature which others have; parts of one split shard are taken together."""
    together: dict[str, list[PartResult]] = {}
    for result in results:
        together.setdefault(result.name, []).append(result)
    total, warnings = total_present(results), []
    for shards, some in together.items():
        read, present = sum(result.read for result in some), total_present(some)
        warnings += [
            f"{shards}: none of {'its' if len(some[0].pieces) == 1 else 'their'} {read} rows has a value for the feature "
            f"{name}, unlike other shards"
            for name in plan.features
            if read >= ABSENT_ROWS and total[name] and not present[name] and name not in plan.optional
        ]
    return warnings


def _peaks(plan: Plan, results: Sequence[PartResult]) -> list[int]:
    """The most memory that each process of this run had by the end of its last part, the largest first."""
    peaks: dict[str, int] = {}
    for result in results:
        if result.run_id == plan.run_id:
            peaks[result.process] = max(result.peak_bytes, peaks.get(result.process, 0))
    return sorted(peaks.values(), reverse=True)


def _broken_shards(shards: Sequence[ShardResult]) -> list[str]:
    return [f"{found.shard.path}: {found.state}: {found.reason}" for found in shards if found.state != "done"]


def _file(path: str, file: WrittenFile) -> dict[str, Any]:
    return {"path": path, "rows": file.rows, "bytes": file.bytes, "sha256": file.sha256}


def _shard(result: ShardResult) -> dict[str, Any]:
    return {
        "path": result.shard.path,
        "bytes": result.shard.bytes,
        "modified": file_time(result.shard.modified),
        "etag": result.shard.etag,
        "read": result.read,
        "scored": result.scored,
        "rejected": result.rejected,
        "state": result.state,
        "rows_lost": result.rows_lost,
    }


def file_time(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 in UTC, to the microsecond; None stays None."""
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds_between(started: str, finished: str) -> float:
    first, last = (datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (started, finished))
    return round((last - first).total_seconds(), 3)
