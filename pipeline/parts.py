"""Which shards become which parts: planned at launch, from the shards and the job alone, whatever runs them.

A part is one shard. `output.rows_per_file` joins consecutive small shards into one part, those of one folder alone where
the output mirrors folders, and `input.split_bytes` cuts a large Parquet shard into several, at row groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain, groupby, pairwise
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from pipeline import files
from pipeline.errors import BrokenShard
from pipeline.job import Input, Job
from pipeline.layout import folders_of
from pipeline.plan import Plan, part_key
from pipeline.readers import read_shard, row_groups_of
from pipeline.rows import Columns, Part, Piece, Shard

if TYPE_CHECKING:
    from pipeline.readers.parquet import RowGroup

_SAMPLED = 8
"""Shards that are looked at for the size of a row."""
_SAMPLED_BYTES = 4 << 20
"""What is read of each, roughly."""
_THREADS = 8


def plan_parts(
    shards: Sequence[Shard],
    job: Job,
    columns: Columns,
    digest: str,
    limit_rows: int | None = None,
    unfinished: Plan | None = None,
) -> tuple[Part, ...]:
    """The parts of a run, in the order of the shards.

    Args:
      shards: the input, sorted.
      job: with the format of what is read.
      columns: what is taken out of a record.
      digest: of the settings.
      limit_rows: how many rows of each shard a trial run takes.
      unfinished: the plan of a run that this one goes on with: shards that it joined stay together, so that one which
        was mended, and has another size now, moves no other.
    """
    split: dict[str, list[Piece]] = {}
    if job.input.split_bytes is not None:
        split = _split(shards, job.input, job.input.split_bytes, limit_rows)
    folders = folders_of(shards, job)
    runs: Iterable[list[Shard]] = ([shard] for shard in shards)
    if job.output.rows_per_file is not None:
        together = _joined_before(shards, job, unfinished)
        if together is None:
            rows = estimate_rows(shards, job.input, columns)
            runs = join(shards, split, job.output.rows_per_file, rows, limit_rows, folders)
        else:
            runs = regroup(shards, {pair for pair in together if folders.get(pair[0]) == folders.get(pair[1])})
    pieces = chain.from_iterable(
        ((piece,) for piece in split[run[0].path]) if run[0].path in split else (tuple(map(Piece, run)),)
        for run in runs
    )
    return tuple(
        Part(index, part_key(some, digest), some, folders[some[0].shard.path]) for index, some in enumerate(pieces)
    )


def split_shard(shard: Shard, groups: Sequence[RowGroup], split_bytes: int) -> list[Piece]:
    """Consecutive row groups of about `split_bytes` of the file each, and as alike as the row groups allow."""
    rows = sum(group.rows for group in groups)
    size = sum(group.bytes for group in groups) / -(-shard.bytes // split_bytes)
    if len(groups) < 2 or rows <= 0 or size <= 0 or any(min(group) < 0 for group in groups):
        return [Piece(shard)]  # nothing to split, or a damaged footer, which the run tells of
    places, before = [], 0.0
    for group in groups:
        places.append(int((before + group.bytes / 2) / size))
        before += group.bytes
    pieces, first, first_row = [], 0, 0
    for _, some in groupby(range(len(groups)), key=places.__getitem__):
        end = first + len(list(some))
        pieces.append(Piece(shard, (first, end), first_row))
        first_row += sum(group.rows for group in groups[first:end])
        first = end
    return pieces if len(pieces) > 1 else [Piece(shard)]


def join(
    shards: Sequence[Shard],
    alone: Collection[str],
    rows_per_file: int,
    rows: Sequence[float] | None,
    limit_rows: int | None = None,
    folders: Mapping[str, str] | None = None,
) -> Iterator[list[Shard]]:
    """Runs of consecutive shards: each takes the next one if that brings it closer to `rows_per_file`.

    Args:
      alone: paths of shards that are joined to none.
      rows: of each shard. None: not known, so nothing is joined.
      folders: path -> the folder of its file; shards of two are never joined. None: there is one.
    """
    folder = folders or {}
    run: list[Shard] = []
    run_rows = 0.0
    for shard, number in zip(shards, rows or [float(rows_per_file)] * len(shards), strict=True):
        taken = number if limit_rows is None else min(number, limit_rows)
        is_near = rows is not None and run_rows + taken / 2 <= rows_per_file
        is_beside = bool(run) and folder.get(shard.path) == folder.get(run[-1].path)
        if run and (not (is_near and is_beside) or shard.path in alone or run[-1].path in alone):
            yield run
            run, run_rows = [], 0.0
        run.append(shard)
        run_rows += taken
    if run:
        yield run


def regroup(shards: Sequence[Shard], together: Collection[tuple[str, str]]) -> Iterator[list[Shard]]:
    """Runs of consecutive shards, of which each two neighbours were `together`."""
    run: list[Shard] = []
    for shard in shards:
        if run and (run[-1].path, shard.path) not in together:
            yield run
            run = []
        run.append(shard)
    if run:
        yield run


def estimate_rows(shards: Sequence[Shard], source: Input, columns: Columns) -> list[float] | None:
    """About how many rows each shard has, by its size and the rows of a few: small ones, large ones, and those between.

    None where none of these shows a row.
    """
    by_size = sorted(shards, key=lambda shard: (shard.bytes, shard.path))
    count = min(_SAMPLED, len(by_size))
    sample = [by_size[(2 * place + 1) * len(by_size) // (2 * count)] for place in range(count)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(partial(_rows, source=source, columns=columns), sample))
    known: dict[int, list[float]] = {}
    for shard, number in zip(sample, found, strict=True):
        if number is not None:
            known.setdefault(shard.bytes, []).append(number)
    sizes, rows = list(known), [sum(some) / len(some) for some in known.values()]
    if not any(rows):
        return None
    wanted = np.array([shard.bytes for shard in shards], float)
    # Between two of the sample a line, since a file may be small for its header alone; beyond them in proportion
    estimated = np.interp(wanted, sizes, rows)
    for end, beyond in ((0, wanted < sizes[0]), (-1, wanted > sizes[-1])):
        estimated[beyond] *= wanted[beyond] / max(1, sizes[end])
    return estimated.tolist()


def _rows(shard: Shard, source: Input, columns: Columns) -> float | None:
    """Rows of a shard, of a large one by those at its beginning; None where it is broken, which the run tells of."""
    opened: list[BinaryIO] = []

    def open_shard() -> BinaryIO:
        opened.append(files.open_read(shard.path))
        return opened[-1]

    with suppress(BrokenShard):
        groups = row_groups_of(partial(files.open_read, shard.path), source.format)
        if groups is not None:
            return float(max(0, sum(group.rows for group in groups)))
        read = first_rows = first_bytes = 0
        for chunk in read_shard(open_shard, source.format, columns.of_record, csv=source.csv, keep_record=False):
            read += chunk.read
            bytes_read = opened[-1].tell()
            first_rows, first_bytes = first_rows or read, first_bytes or bytes_read  # readers are a block or two ahead
            if bytes_read >= _SAMPLED_BYTES and bytes_read > first_bytes:
                return shard.bytes * (read - first_rows) / (bytes_read - first_bytes)
        return float(read)
    return None


def _split(shards: Sequence[Shard], source: Input, split_bytes: int, limit_rows: int | None) -> dict[str, list[Piece]]:
    """Path -> pieces, of each shard that is larger than `split_bytes` and has more than one."""

    def pieces(shard: Shard) -> list[Piece]:
        with suppress(BrokenShard):  # it stays whole, and the run tells of it
            groups = row_groups_of(partial(files.open_read, shard.path), source.format)
            found = split_shard(shard, groups or (), split_bytes)
            return [piece for piece in found if limit_rows is None or piece.first_row < limit_rows]
        return [Piece(shard)]

    large = [shard for shard in shards if shard.bytes > split_bytes]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = zip(large, pool.map(pieces, large), strict=True)
        return {shard.path: some for shard, some in found if some[0].row_groups is not None}


def _joined_before(shards: Sequence[Shard], job: Job, unfinished: Plan | None) -> set[tuple[str, str]] | None:
    """Neighbours that the unfinished run had in one part; None where it had other shards, or grouped them otherwise."""
    if unfinished is None or unfinished.limited is not None:
        return None
    before: Mapping[str, Mapping[str, object]] = unfinished.job
    asked = (before["output"].get("rows_per_file"), before["input"].get("split_bytes"))
    if asked != (job.output.rows_per_file, job.input.split_bytes):
        return None
    if [shard.path for shard in unfinished.shards] != [shard.path for shard in shards]:
        return None
    paths = [[piece.shard.path for piece in part.pieces] for part in unfinished.parts]
    return {pair for some in paths for pair in pairwise(some)}
