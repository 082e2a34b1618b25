"""Partition columns: what the folders of a shard's path say of all its rows, `date=2024-03-01/hour=07`, as Hive writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.decode import decode_column
from pipeline.decode_rows import decode_rows, output_type
from pipeline.errors import BrokenShard, InputError
from pipeline.features import Feature
from pipeline.readers import rejected_origins
from pipeline.rows import OF_PATH, ORIGIN, Chunk, Columns, Shard, feature_column, passthrough_column

_MISSING = "__HIVE_DEFAULT_PARTITION__"


class Folder(NamedTuple):
    """A folder `column=value`. text: the value, URL-decoded; None where it is missing. name: as it stands in the path."""

    text: str | None
    name: str


class PathError(ValueError):
    """A path does not give the columns that are asked for; the text says which of its folders, and why."""


def partitions_of(path: str) -> dict[str, Folder]:
    """Column -> what the path of a file says of it, in the order of the folders.

    Raises:
      PathError: a column stands there twice, or is no UTF-8 text once decoded.
    """
    found: dict[str, Folder] = {}
    for folder in path.split("/")[:-1]:
        name, is_pair, value = folder.partition("=")
        if not name or not is_pair:
            continue
        try:
            name, text = (unquote(written, errors="strict") for written in (name, value))
        except UnicodeDecodeError:
            raise PathError(f"{folder!r} is no UTF-8 text once its %XX are decoded") from None
        if name in found:
            raise PathError(f"{found[name].name!r} and {folder!r} both give the column {name!r}")
        found[name] = Folder(None if text == _MISSING else text, folder)
    return found


def partition_columns(asked: Mapping[str, str] | str | None, shards: Sequence[Shard]) -> dict[str, str]:
    """The columns that all paths have -> their dtype.

    Args:
      asked: `input.partitions`: "hive" for every column of the paths as a string, or column -> dtype, or None for none.

    Raises:
      InputError: paths have none, or one lacks a column that another has or that is asked for.
    """
    if asked is None:
        return {}
    first: tuple[str, list[str]] | None = None
    for path in _paths(shards):
        names = list(_partitions_of(path))
        if not names:
            raise InputError(
                f"input.partitions: {path} has no folder column=value; leave the key out, or have input.pattern match the "
                "partitioned folders alone"
            )
        first = first or (path, names)
        missing = [name for name in first[1] if name not in names] + [name for name in names if name not in first[1]]
        if missing:
            with_it, without = (first[0], path) if missing[0] in first[1] else (path, first[0])
            raise InputError(
                f"input.partitions: the path of {without} lacks the column {missing[0]!r}, which that of {with_it} has; "
                "score them in two runs, or narrow input.pattern"
            )
    path, names = first or ("", [])
    if isinstance(asked, str):
        return dict.fromkeys(names, "string")
    for name in asked if first else ():
        if name not in names:
            raise InputError(
                f"input.partitions: {name}: the path of {path} lacks it; it has: {', '.join(names)}. Correct the name"
            )
    return dict(asked)


def partition_type(dtype: str) -> pa.DataType:
    """Arrow type of a partition column that is passed through."""
    return output_type(Feature("", dtype))


def check_partitions(columns: Columns, shards: Sequence[Shard]) -> None:
    """Decode what every path says.

    Raises:
      InputError: it is missing or does not fit its dtype; names the shard and the folder.
    """
    if not columns.partitions:
        return
    known: set[tuple[Folder, ...]] = set()
    for path in _paths(shards):
        parts = tuple(_partitions_of(path).values())
        if parts not in known:
            known.add(parts)
            try:
                _row(path, columns)
            except PathError as error:
                raise InputError(
                    f"input.partitions: {path}: {error}. Correct the dtype (input.partitions, features, "
                    "output.passthrough), or leave the shard out by input.pattern"
                ) from None


def with_partitions(chunks: Iterable[Chunk], path: str, columns: Columns) -> Iterator[Chunk]:
    """The chunks of a shard with the columns that its path gives; rows with an origin have those of their first shard.

    They repeat one value: text is a dictionary of it, so that no object is made for a row.

    Raises:
      BrokenShard: rows come from a shard whose path does not give them.
    """
    rows: dict[str, tuple[pa.RecordBatch, Mapping[str, int]]] = {}

    def row(of: str) -> tuple[pa.RecordBatch, Mapping[str, int]]:
        if of not in rows:
            try:
                rows[of] = _row(of, columns)
            except PathError as error:
                raise BrokenShard(f"its rows come from {of}: {error}") from None
        return rows[of]

    for chunk in chunks:
        count = chunk.rows.num_rows
        if ORIGIN in chunk.rows.schema.names:
            origins = chunk.rows.column(ORIGIN).field("shard").dictionary_encode()
            paths, places = origins.dictionary.to_pylist(), origins.indices.to_numpy()
            of_rows = np.bincount(places, minlength=len(paths)).tolist()
        else:
            paths, places, of_rows = [path], np.zeros(count, np.int32), [chunk.read]
        found = [row(of) for of in paths]
        present = dict(chunk.present)
        for (_, known), number in zip(found, of_rows, strict=True):
            for name, is_there in known.items():
                present[name] = present.get(name, 0) + is_there * number
        values = pa.concat_batches([one for one, _ in found]) if found else row(path)[0].slice(0, 0)
        yield chunk._replace(rows=_beside(chunk.rows, values, places), present=present)


def _beside(rows: pa.RecordBatch, values: pa.RecordBatch, places: np.ndarray) -> pa.RecordBatch:
    """Columns beside rows. values: a row for each path. places: int (rows,), which of them a row of `rows` has."""
    for name, one in zip(values.schema.names, values.columns, strict=True):
        if pa.types.is_binary(one.type):
            column = pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), one)
        else:
            column = one.take(pa.array(places))
        rows = rows.append_column(pa.field(name, column.type, metadata=OF_PATH), column)
    return rows


def _row(path: str, columns: Columns) -> tuple[pa.RecordBatch, Mapping[str, int]]:
    """What a path gives, as decoded columns of one row, and feature -> whether it is there.

    Raises:
      PathError: it is missing or does not fit.
    """
    parts, of_path = partitions_of(path), columns.of_path
    arrays: dict[str, pa.Array] = {}
    present: dict[str, int] = {}
    for source in of_path.needed:
        if source not in parts:
            raise PathError(f"the path lacks the column {source!r}")
        text, folder = parts[source]
        cell = pa.array([None if text is None else text.encode()], pa.binary())
        dtype = columns.partitions[source]
        if dtype != "string":
            decoded = decode_column(cell, Feature(source, dtype), optional=True)
            if decoded.bad:
                raise PathError(f"{folder!r}: {decoded.bad[0]}")
            cell = decoded.values if text is not None else pa.nulls(1, decoded.values.type)
        of_source = replace(of_path, partitions={source: dtype}).of_path
        chunk = decode_rows({source: cell}, of_source, np.zeros(1, np.int64))
        if chunk.rejected:
            raise PathError(f"{folder!r}: {chunk.rejected[0].reason}")
        names = [*map(feature_column, of_source.features), *map(passthrough_column, of_source.passthrough)]
        arrays |= {name: chunk.rows.column(name) for name in names}
        present |= chunk.present
    return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays)), present


def _partitions_of(path: str) -> dict[str, Folder]:
    try:
        return partitions_of(path)
    except PathError as error:
        raise InputError(f"input.partitions: {path}: {error}") from None


def _paths(shards: Iterable[Shard]) -> Iterator[str]:
    """Where the rows come from: the shards, and for files of rejected rows the shards that these name.

    A file is opened where its path is not like those before it, which is how files of rejected rows lie.
    """
    before: list[str] | None = None
    for shard in shards:
        try:
            names = sorted(partitions_of(shard.path))
        except PathError:
            names = None
        if names is None or names != before:
            origins = None
            with suppress(BrokenShard):  # the run tells of it
                origins = rejected_origins(partial(files.open_read, shard.path))
            if origins is not None:
                yield from origins
                continue
        before = names
        yield shard.path
