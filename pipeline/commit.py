"""The last step of a run: an output that was found good takes the place of what was there.

    OUTPUT/_temporary/publish/<run id>/intent.json     all that will be deleted and moved, written before the first of it

Each step can be done again, so a commit that was killed goes on where it stopped; `pipeline.medium` sees to it that a
run which lost the output meanwhile changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline import files
from pipeline.errors import LeaseLost
from pipeline.files import FileInfo
from pipeline.lease import Lease
from pipeline.manifest import MANIFEST
from pipeline.medium import INTENT, Medium, Move, begun_intents, medium_of
from pipeline.plan import Plan, read_plan

SUCCESS = "_SUCCESS"
_THREADS = 8


@dataclass(frozen=True)
class Intent:
    """All that a commit will do, known before it does the first of it.

    over: the run whose output is replaced, or None. delete: what was there; `_SUCCESS` goes first.
    """

    run_id: str
    over: str | None
    delete: tuple[FileInfo, ...]
    moves: tuple[Move, ...]
    manifest: dict[str, Any]


def open_folder(lease: Lease) -> None:
    """Make the folder that a commit of this run goes through; only the holder of the lease has one.

    A run does this right after it got its lease: a successor, which takes folders away, then meets all there are.
    """
    medium_of(lease).open()


def carry_out(lease: Lease, intent: Intent) -> Intent:
    """Delete the old output, move the parts, write the manifest, then `_SUCCESS`; may be begun again at any point.

    Returns:
      The intent that was carried out: that of an earlier attempt of this run, if there was one.

    Raises:
      LeaseLost: another run has the output by now; this one changed nothing since.
    """
    medium = medium_of(lease)
    with _or_lost(lease):
        medium.write_once(INTENT, json.dumps(vars(intent)).encode())
    intent = _parse(files.read_bytes(medium.path(INTENT)))
    _carry_out(medium, intent)
    return intent


def replace_files(lease: Lease, delete: Iterable[FileInfo], copies: Iterable[Move]) -> None:
    """Delete files beside the output and copy others there, as `carry_out` does it but without an intent."""
    medium = medium_of(lease)
    with _or_lost(lease):
        for info in delete:
            medium.retire(info)
        for copy in copies:
            medium.copy(copy)


def read_intent(lease: Lease) -> Intent | None:
    """What a commit under this lease has set out to do, or None if none was begun."""
    path = medium_of(lease).path(INTENT)
    return _parse(files.read_bytes(path)) if files.exists(path) else None


def is_begun(output: str) -> bool:
    """Whether a commit of this output has begun and not come to its end."""
    return bool(begun_intents(output))


def pending(output: str) -> list[Intent]:
    """What commits of this output have begun and not finished."""
    return [_parse(files.read_bytes(path)) for path in begun_intents(output)]


def roll_forward(lease: Lease) -> Intent | None:
    """Take the place of every run before this one, and finish the commit that one of them had begun, if there is one."""
    begun = [(_parse(files.read_bytes(medium.path(INTENT))), medium) for medium in medium_of(lease).take_over()]
    begun.sort(key=lambda each: each[0].manifest["finished"])
    finished = None
    if begun and published_run(lease.output) in (None, begun[-1][0].over, begun[-1][0].run_id):
        finished, medium = begun[-1]
        _carry_out(medium, finished)
        medium.clear()
    for _, medium in begun:  # on a store, a run that lost the output may have written its intent all the same
        medium.remove()
    return finished


def published_run(output: str) -> str | None:
    """The run whose output this is, or None where there is none, or not all of it."""
    path = files.join(output, SUCCESS)
    return files.read_bytes(path).decode(errors="replace").strip() if files.exists(path) else None


def plan_under_way(lease: Lease) -> Plan | None:
    """The plan of a run, or None where the run has published its output: the plan goes with `_temporary`.

    Raises LeaseLost if another run has the output by now.
    """
    try:
        if published_run(lease.output) == lease.run_id:
            return None
        lease.check()
        return read_plan(lease.output)
    except (LeaseLost, FileNotFoundError):
        if published_run(lease.output) != lease.run_id:
            raise
        return None  # another worker has published it since the first look


def clean(lease: Lease) -> None:
    """Delete all that is temporary, the lock last. Raises LeaseLost if another run has the output by now."""
    medium = medium_of(lease)
    try:
        lease.check()
    except LeaseLost:
        if published_run(lease.output) == lease.run_id:  # another attempt of this run has cleaned: all but what is new
            medium.remove()
        raise
    with _or_lost(lease):
        medium.clear()
        medium.unlock()
        medium.remove()
    lease.release()


def abandon(lease: Lease) -> None:
    """End a run: parts that are finished, and a commit that was begun, stay for the next one."""
    medium = medium_of(lease)
    medium.unlock()
    if not files.exists(medium.path(INTENT)):
        medium.remove()
    lease.release()


def _carry_out(medium: Medium, intent: Intent) -> None:
    output = medium.lease.output
    if published_run(output) == intent.run_id:
        return
    with _or_lost(medium.lease):
        for info in intent.delete:
            medium.retire(info)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(medium.move, intent.moves))
        for folder in _emptied(output, intent.delete):
            files.delete_empty_folder(folder)
        manifest = json.dumps(intent.manifest, indent=1, ensure_ascii=False).encode()
        medium.write(manifest, files.join(output, MANIFEST))
        medium.write(intent.run_id.encode(), files.join(output, SUCCESS))


def _emptied(output: str, deleted: Iterable[FileInfo]) -> list[str]:
    """Folders that may be empty now, the deepest first: those of the files, and those between them and the output."""
    folders = set()
    for folder in {info.path.rpartition("/")[0] for info in deleted}:
        folders.add(folder)
        while folder.startswith(f"{output.rstrip('/')}/"):
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return sorted(folders, key=len, reverse=True)


@contextmanager
def _or_lost(lease: Lease) -> Iterator[None]:
    """On a disk, a folder that is gone tells a run that it lost the output."""
    try:
        yield
    except FileNotFoundError:
        lease.check()
        raise


def _parse(data: bytes) -> Intent:
    plain = json.loads(data)
    return Intent(
        plain["run_id"],
        plain["over"],
        tuple(FileInfo(*info) for info in plain["delete"]),
        tuple(Move(*move) for move in plain["moves"]),
        plain["manifest"],
    )
