"""Whether the input is all there (`input.ready`, `min_shards`, `require_complete`), and waiting for it (`input.wait`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pipeline import files
from pipeline.errors import InputError
from pipeline.job import Input
from pipeline.job.values import seconds_of
from pipeline.plan import match_shards, missing_numbers, without_number
from pipeline.rows import Shard

POLL_SECONDS = 10.0
_NAMED_AT_MOST = 3


def match_complete(source: Input, waited: bool = False) -> list[Shard]:
    """The shards of an input that is all there; see `match_shards`.

    Args:
      waited: whether the run has waited for it.

    Raises:
      InputError: it is not; with all that is missing.
    """
    shards, missing = _look(source)
    if missing:
        how_long = f"; waited {source.wait} for it (input.wait)" if waited and source.wait else ""
        raise InputError(f"{_told(missing)}{how_long}")
    return shards


def wait_for_input(
    source: Input,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the input is all there, or `input.wait` is over; nothing is held or written meanwhile.

    Args:
      say: is told once what is waited for.
    """
    if source.wait is None:
        return
    end, told = clock() + seconds_of(source.wait), False
    while missing := _look(source)[1]:
        left = end - clock()
        if left <= 0:
            break  # the run looks again and tells of it
        if not told:
            say(f"waiting up to {source.wait}: {_told(missing)}")
            told = True
        sleep(min(POLL_SECONDS, left))


def missing_input(source: Input, shards: Sequence[Shard]) -> list[str]:
    """What an input still lacks by the keys of the job, in words."""
    missing = []
    if source.min_shards is not None and len(shards) < source.min_shards:
        missing.append(f"{len(shards)} of {source.min_shards} shards are there (input.min_shards)")
    if source.require_complete:
        gaps = missing_numbers(shards)
        unnumbered = without_number(shards)
        if unnumbered:
            gaps.append(f"names without -NNNNN-of-MMMMM tell of no gap: {_few(unnumbered)}")
        missing += [f"{gap} (input.require_complete)" for gap in gaps]
    if source.ready is not None:
        lacking = [folder for folder in _folders(shards) if not files.exists(files.join(folder, source.ready))]
        if lacking:
            missing.append(f"no {source.ready} in {_few(lacking)} (input.ready)")
    return missing


def _look(source: Input) -> tuple[list[Shard], list[str]]:
    """The shards that are there, and what is missing."""
    try:
        shards = match_shards(source)
        marked: set[str] = set()
        while (
            not (missing := missing_input(source, shards)) and source.ready and not marked.issuperset(_folders(shards))
        ):
            # The marker is written last: shards of before it may have come between the listing and the look at it
            marked.update(_folders(shards))
            shards = match_shards(source)
    except InputError as error:
        return [], [str(error)]
    return shards, missing


def _folders(shards: Sequence[Shard]) -> list[str]:
    return list(dict.fromkeys(shard.path.rpartition("/")[0] for shard in shards))


def _told(missing: Sequence[str]) -> str:
    text = "; ".join(missing)
    return text if text.startswith("input.pattern: ") else f"the input is not complete: {text}"


def _few(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED_AT_MOST} more" if len(paths) > _NAMED_AT_MOST else ""
    return ", ".join(paths[:_NAMED_AT_MOST]) + more
