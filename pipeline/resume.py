"""Going on where an unfinished run of the same output stopped."""

from __future__ import annotations

from collections import Counter

from pipeline import files
from pipeline.commit import abandon, clean, is_begun, open_folder
from pipeline.lease import LOCK, Lease, acquire, is_locked
from pipeline.medium import PUBLISH
from pipeline.plan import PLAN, Plan, read_plan, temporary


def unfinished_plan(output: str) -> Plan | None:
    """The plan of the run that was last at work on this output and did not publish, or None."""
    return read_plan(output) if files.exists(temporary(output, PLAN)) else None


def forget(lease: Lease) -> None:
    """Delete what an unfinished run has left: its plan, its parts, its copy of the model."""
    root = temporary(lease.output)
    found = {info.path for info in files.match(files.join(root, "**"))}
    names = {path[len(root) + 1 :].partition("/")[0] for path in found} - {LOCK, PUBLISH}
    for path in (files.join(root, name) for name in names):
        if path in found:
            files.delete([path])
        else:
            files.delete_folder(path)


def sweep(output: str, run_id: str) -> None:
    """Delete what a run has written after it lost the output to one that has ended since: nobody else would.

    What an unfinished run has left for the next one stays, and so does all that belongs to a run which is at work.

    Raises:
      OutputError: another run has taken the output.
    """

    def is_of_others() -> bool:
        plan = unfinished_plan(output)
        return is_begun(output) or (plan is not None and plan.run_id != run_id)

    if is_locked(output) or is_of_others():
        return
    lease = acquire(output, f"{run_id} cleaning up")
    try:
        if not is_of_others():
            open_folder(lease)
            clean(lease)
    finally:
        abandon(lease)


def not_kept(unfinished: Plan, plan: Plan, kept: int) -> dict[str, int]:
    """Why parts of an unfinished run were scored (again): reason -> number of parts of the plan.

    Args:
      unfinished: the plan of the run before.
      plan: the plan of this run.
      kept: how many of its parts had a result already.
    """
    keys, then = {part.key for part in unfinished.parts}, {shard.path: shard for shard in unfinished.shards}
    names = dict.fromkeys([*plan.settings, *unfinished.settings])
    changed = [name for name in names if plan.settings.get(name) != unfinished.settings.get(name)]
    if plan.limited != unfinished.limited:
        changed.append("limits")
    reasons: Counter[str] = Counter()
    for part in plan.parts:
        if part.key not in keys:
            shards = {piece.shard.path: piece.shard for piece in part.pieces}
            known = [path for path in shards if path in then]
            if not known:
                reason = "new shard"
            elif changed:
                reason = f"other {', '.join(changed)}"
            elif any(shards[path].version != then[path].version for path in known):
                reason = "the shard was changed" if len(shards) == 1 else "a shard was changed"
            else:
                reason = "shards were joined or split otherwise"
            reasons[reason] += 1
    not_finished = len(plan.parts) - sum(reasons.values()) - kept
    if not_finished > 0:
        reasons["not finished"] = not_finished
    return dict(reasons)
