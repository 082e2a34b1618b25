"""Publishing: from the results of all parts to an output that is complete, or not there at all."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal

from pipeline import files
from pipeline.commit import SUCCESS, Intent, carry_out, clean, pending, published_run, read_intent, replace_files
from pipeline.errors import BudgetError, CountError, InputError, OutputError
from pipeline.files import FileInfo
from pipeline.lease import Lease
from pipeline.manifest import (
    ABSENT_ROWS,
    MANIFEST,
    PART_NAME,
    absent_features,
    build_manifest,
    named_files,
    read_manifest,
)
from pipeline.medium import Move
from pipeline.plan import REJECTED, Plan, part_name, part_path, temporary, utc_now
from pipeline.results import PartResult, of_shards, read_result
from pipeline.rows import Part

REFUSED = "_refused.json"
_THREADS = 8
_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Limits:
    """What a run puts up with, from `errors:` of the job. An int is a count, a float a fraction of rows read or shards."""

    max_bad_rows: int | float = 0
    max_broken_shards: int | float = 0
    rejected_path: str | None = None


def publish(lease: Lease, plan: Plan, limits: Limits) -> dict[str, Any]:
    """Reconcile the results of all parts and make them the output; gives the manifest. Doing it twice is doing it once.

    An earlier output stays untouched until the new one is known to be whole and within the limits. Where it is refused,
    the rejected rows are copied to where they can be read, and the error's last line is that folder.

    Raises:
      CountError: a part without a result, or rows that do not add up.
      BudgetError: more rejected rows or broken shards than `limits` allows.
      InputError: a feature that is not optional is absent from the whole of a large input.
      LeaseLost: another run has the output by now.
    """
    lease.check()
    output = lease.output
    intent = read_intent(lease)
    if intent is None:
        results = collect_results(output, plan)
        _check_limits(lease, plan, results, limits)
        intent = _intend(output, plan, results, limits)
    intent = carry_out(lease, intent)
    clean(lease)
    return intent.manifest


def collect_results(output: str, plan: Plan) -> list[PartResult]:
    """The results of all parts, in the order of the plan.

    Raises:
      CountError: a part has no result (one with a broken shard must be of this run), its files are not there, or its
        rows do not add up.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(partial(read_result, output), plan.parts))
    return [_reconciled(part, result, plan.run_id) for part, result in zip(plan.parts, found, strict=True)]


def existing_output(
    output: str, if_exists: Literal["fail", "skip", "overwrite"], layout: Literal["flat", "mirror"] = "flat"
) -> Literal["write", "skip"]:
    """What to do about that which lies at the output; only `_SUCCESS` makes it an output.

    Args:
      layout: of the output; where it is mirror, readers look into all folders below.

    Raises:
      OutputError: there is one and `if_exists` is fail, or a part file lies there that no manifest of ours names.
    """
    if published_run(output) is not None:
        if if_exists == "skip":
            return "skip"
        if if_exists == "fail":
            raise OutputError(
                f"output.path: {output} holds an output already; write output.if_exists: skip to leave it as it is, "
                "or overwrite to replace it"
            )
    root = output.rstrip("/")
    own = {path[len(root) + 1 :] for path in _own_files(root, None)}
    lying = files.list_folder(root) if layout == "flat" else files.match(files.join(root, "**", "part-*.parquet"))
    for info in lying:
        path = info.path[len(root) + 1 :]
        name = files.base_name(path)
        if name.startswith("part-") and name.endswith(".parquet") and not path.startswith("_") and path not in own:
            raise OutputError(
                f"output.path: {output} holds {path}, which no {MANIFEST} there names, so it is not ours to delete, "
                "and readers of part-*.parquet would take it for scores; delete it or write to another folder"
            )
    return "write"


def _reconciled(part: Part, result: PartResult | None, run_id: str) -> PartResult:
    place = f"part {part.index} ({part.name})"
    if result is None or (not result.is_done and result.run_id != run_id):
        raise CountError(f"{place}: there is no result of it; run again, and it is scored again")
    if result.read != result.scored + result.rejected:
        raise CountError(
            f"{place}: {result.read} rows were read, but {result.scored} scored and {result.rejected} rejected"
        )
    return result


def _check_limits(lease: Lease, plan: Plan, results: list[PartResult], limits: Limits) -> None:
    read, rejected = sum(result.read for result in results), sum(result.rejected for result in results)
    shards = of_shards(results)
    broken = [shard for shard in shards if shard.state != "done"]
    problems = []
    if _exceeds(rejected, limits.max_bad_rows, read):
        problems.append(
            f"{rejected} of {read} rows were rejected, more than errors.max_bad_rows: {limits.max_bad_rows} allows"
        )
    if _exceeds(len(broken), limits.max_broken_shards, len(shards)):
        few = "; ".join(f"{found.shard.path} ({found.state}: {found.reason})" for found in broken[:_NAMED_AT_MOST])
        more = f"; and {len(broken) - _NAMED_AT_MOST} more" if len(broken) > _NAMED_AT_MOST else ""
        problems.append(
            f"{len(broken)} of {len(shards)} shards are broken, more than errors.max_broken_shards: "
            f"{limits.max_broken_shards} allows: {few}{more}"
        )
    if problems:
        problems.append("nothing was published; parts that are whole are kept, and are not scored again")
        error = BudgetError("\n".join(problems + _keep_rejected(lease, plan, results, limits)))
        culprits = [*broken, *(shard for shard in shards if shard.rejected)]
        error.shard = culprits[0].shard.path
        raise error
    absent = absent_features(plan, results)
    if absent:
        problems = [
            f"no row of {read} has a value for: {', '.join(absent)}; correct input.rename, or list under input.optional "
            f"what shards may lack (this holds from {ABSENT_ROWS} rows on); nothing was published"
        ]
        raise InputError("\n".join(problems + _keep_rejected(lease, plan, results, limits)))


def _exceeds(number: int, limit: int | float, whole: int) -> bool:
    # 0.29 * 100 is less than 29 in floating point; what the job file says is not
    return number > (Fraction(repr(limit)) * whole if isinstance(limit, float) else limit)


def _keep_rejected(lease: Lease, plan: Plan, results: list[PartResult], limits: Limits) -> list[str]:
    """Copy the rejected rows of a refused run to where they can be read; gives the line that says where.

    Copies: the parts keep theirs, so that a run with a larger budget need not score again. Beside an earlier output
    they go to a folder of the run's own, for `_rejected` itself belongs to that output.
    """
    output = lease.output
    rejected = [(index, result) for index, result in enumerate(results) if result.rejected_file]
    if not rejected:
        return []
    root = limits.rejected_path or files.join(output, REJECTED)
    folder = root if published_run(output) is None else files.join(root, plan.run_id)
    copies = [
        Move(
            temporary(output, result.key, result.rejected_file.name),
            files.join(folder, part_name(index, len(results))),
            result.rejected_file.bytes,
        )
        for index, result in rejected
        if result.rejected_file
    ]
    names = json.dumps([copy.target for copy in copies]).encode()
    files.write_bytes(temporary(output, REFUSED), names)
    list_of_them = Move(temporary(output, REFUSED), files.join(root, REFUSED), len(names))
    replace_files(lease, _listed(set(_refused_files(root))), [list_of_them, *copies])
    return [f"rejected rows: {folder}"]


def _refused_files(rejected_root: str) -> list[str]:
    """What a refused run has left under the folder of rejected rows, the list of it included."""
    path = files.join(rejected_root, REFUSED)
    if not files.exists(path):
        return []
    return [*(name for name in json.loads(files.read_bytes(path)) if _is_part_under(name, rejected_root)), path]


def _is_part_under(path: str, root: str) -> bool:
    """Whether a path that was read from a list is a part file of ours: the list lies where others may write."""
    folder, _, name = path.rpartition("/")
    inside = folder == root.rstrip("/") or folder.startswith(root.rstrip("/") + "/")
    return inside and ".." not in folder.split("/") and PART_NAME.fullmatch(name) is not None


def _own_files(output: str, rejected_path: str | None) -> list[str]:
    """What earlier runs have left at the output and may be deleted: published, half published, or refused."""
    manifest = read_manifest(output)
    rejected_root = rejected_path or files.join(output, REJECTED)
    half = [move.target for intent in pending(output) for move in intent.moves]
    return [
        *(named_files(output, manifest, rejected_path) if manifest else []),
        *(path for path in half if _is_part_under(path, output) or _is_part_under(path, rejected_root)),
        *_refused_files(rejected_root),
    ]


def _intend(output: str, plan: Plan, results: list[PartResult], limits: Limits) -> Intent:
    moves = []
    for index, result in enumerate(results):
        rejected = files.join(limits.rejected_path or files.join(output, REJECTED), part_name(index, len(results)))
        targets = [files.join(output, part_path(plan.parts[index], len(results))), rejected]
        for target, file in zip(targets, result.written, strict=False):  # most parts have no rejected rows
            moves.append(Move(temporary(output, result.key, file.name), target, file.bytes))
    own = {files.join(output, SUCCESS), *_own_files(output, limits.rejected_path)} - {move.target for move in moves}
    manifest = build_manifest(plan, results, utc_now(), limits.rejected_path)
    return Intent(plan.run_id, published_run(output), tuple(_listed(own)), tuple(moves), manifest)


def _listed(paths: set[str]) -> list[FileInfo]:
    """Those of the files that are there, `_SUCCESS` first: without it a reader takes the output for absent."""
    folders = {path.rpartition("/")[0] for path in paths}
    found = [info for folder in sorted(folders) for info in files.list_folder(folder) if info.path in paths]
    return sorted(found, key=lambda info: files.base_name(info.path) != SUCCESS)
