"""One side of a comparison, as a relation that DuckDB reads: an output folder, or files of Parquet, CSV or JSON lines.

Local paths are looked at without Beam, which takes seconds to import; files of any other filesystem are fetched first.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import duckdb
import pyarrow as pa

from pipeline.compare.types import is_number, split_type
from pipeline.errors import InputError, JobError, ScoringError
from pipeline.job.values import Format, format_of
from pipeline.text import counted

SUCCESS, MANIFEST = "_SUCCESS", "_manifest.json"
"""As in pipeline/publish.py and pipeline/manifest.py, which import Beam."""

_REMOTE = re.compile(r"[A-Za-z][-A-Za-z0-9+.]*://")


@dataclass(frozen=True)
class Side:
    """label: NEW or OLD. path: as it was given. relation: the SQL that reads it. types: column -> DuckDB's name of its type.

    untyped: a column is text that may stand for anything, as in CSV. success: what `_SUCCESS` of an output folder held.
    """

    label: str
    path: str
    relation: str
    types: Mapping[str, str]
    rows: int
    untyped: bool = False
    success: bytes | None = None

    def check_unchanged(self) -> None:
        """Raise InputError if the output folder was published anew since it was opened: rows of two runs may be mixed."""
        if self.success is not None and (
            SUCCESS not in _list_folder(self.path) or _read(_join(self.path, SUCCESS)) != self.success
        ):
            raise InputError(f"{self.label}: {self.path} was published anew while it was read; compare again")


def open_side(connection: duckdb.DuckDBPyConnection, label: str, path: str, scratch: Path) -> Side:
    """Find the files of a side, and see what columns they have. CSV and JSON lines are converted once, to Parquet.

    Args:
      label: NEW or OLD, for messages.
      path: an output folder, a file, or a pattern with `*`, `?`, `[...]` and `**`.
      scratch: a folder for files that are fetched or converted.

    Raises:
      InputError: nothing is there, the output folder is not complete, or a file cannot be read.
      JobError: the names do not tell a format that can be read.
    """
    paths, success = _files_of(label, path)
    record_format = _one_format(label, paths)
    local = _fetched(label, paths, scratch)
    rules = " as CSV with a header, commas, and rows of one length" if record_format == "csv" else ""
    with reading(f"{label}: {path}", rules):
        if record_format == "parquet":
            relation = f"read_parquet({_paths(local)}, hive_partitioning=false)"
        else:
            text = _csv(local) if record_format == "csv" else _json_lines(connection, local)
            converted = scratch / f"{label}.parquet"
            connection.execute(f"COPY (SELECT * FROM {text}) TO {literal(str(converted))} (FORMAT parquet)")
            relation = f"read_parquet({_paths([str(converted)])}, hive_partitioning=false)"
        types = dict(row[:2] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall())
        (rows,) = connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0]
    return Side(label, path, relation, types, rows, record_format == "csv", success)


@contextmanager
def reading(what: str, rules: str = "") -> Iterator[None]:
    """Turn what DuckDB raises into an error with an exit code; its first line only: others may hold values of rows."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in reason or "No space left" in reason:
            raise ScoringError(
                f"no room to compare: {reason}. What memory does not hold goes to a temporary folder; set TMPDIR to one "
                "on a disk with room for both sides"
            ) from error
        raise InputError(f"{what} cannot be read{rules}: {reason}") from error


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _files_of(label: str, path: str) -> tuple[list[str], bytes | None]:
    """The files that a path stands for, sorted; of an output folder, also what its `_SUCCESS` holds."""
    if _is_remote(path):
        _check_scheme(label, path)
    with reading(f"{label}: {path}"):
        matched = _match(path)
        if matched:
            return matched, None
        names = _list_folder(path)
        if SUCCESS in names:
            return _parts(label, path, names)
    if names or Path(path).is_dir():
        raise InputError(
            f"{label}: {path} is not complete: there is no {SUCCESS}. If its run has ended, start it again; name files of "
            f"another program by a pattern, such as {_join(path, '*.parquet')}"
        )
    if glob.has_magic(path):
        raise InputError(f"{label}: no file matches {path}")
    raise InputError(f"{label}: there is no file and no folder {path}")


def _parts(label: str, folder: str, names: Mapping[str, int]) -> tuple[list[str], bytes]:
    """The files of a complete output folder: those its manifest names; without one, as other programs leave it, all parts."""
    success = _read(_join(folder, SUCCESS))
    if MANIFEST in names:
        try:
            expected = {file["path"]: file["bytes"] for file in json.loads(_read(_join(folder, MANIFEST)))["files"]}
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"{label}: {_join(folder, MANIFEST)} is damaged ({type(error).__name__})") from error
        below = {name.rpartition("/")[0] for name in expected} - {""}
        found = {
            **names,
            **{
                _join(inner, name): size for inner in below for name, size in _list_folder(_join(folder, inner)).items()
            },
        }
        wrong = [name for name, size in expected.items() if found.get(name) != size]
        if wrong:
            raise InputError(
                f"{label}: {folder} is not complete: {counted(len(wrong), 'file')} of {len(expected)} missing or of "
                f"another size than in {MANIFEST}: {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}"
            )
        parts = sorted(expected)
    else:
        parts = sorted(name for name in names if fnmatchcase(name, "part-*.parquet"))
    if not parts:
        raise InputError(f"{label}: {folder} holds no part-*.parquet")
    return [_join(folder, name) for name in parts], success


def _one_format(label: str, paths: Sequence[str]) -> Format:
    formats: dict[Format | None, str] = {}
    for path in paths:
        formats.setdefault(format_of(path), path)
    if len(formats) > 1:
        raise JobError(f"{label}: files of different formats, such as {' and '.join(formats.values())}; name one kind")
    ((record_format, path),) = formats.items()
    if record_format not in ("parquet", "csv", "jsonl"):
        found = f"is {record_format}" if record_format else "does not tell its format"
        raise JobError(f"{label}: the name {path} {found}; compare reads .parquet, .csv(.gz), and .jsonl(.gz)")
    return record_format


def _csv(paths: Sequence[str]) -> str:
    """Strict RFC 4180, as shards are read: unquoted empty is missing, quoted empty is "". Every column is text.

    All that DuckDB would guess from the first rows is said here: a dialect, rows to skip, a comment character.
    """
    return (
        f"read_csv({_paths(paths)}, header=true, all_varchar=true, delim=',', quote='\"', escape='\"', comment='', skip=0, "
        f"nullstr='', allow_quoted_nulls=false, compression='{_compression(paths)}')"
    )


def _json_lines(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> str:
    """Types are told by all rows, not by the first ones. Text stays text, also where it looks like a date or a UUID."""
    options = f"format='newline_delimited', map_inference_threshold=-1, compression='{_compression(paths)}'"
    described = connection.execute(
        f"DESCRIBE SELECT * FROM read_json({_paths(paths)}, {options}, sample_size=-1, union_by_name=true)"
    ).fetchall()
    columns = []
    for name, type_name, *_ in described:
        base, depth = split_type(type_name)
        kept = is_number(base) or base == "BOOLEAN"
        columns.append(f"{literal(name)}: {literal(type_name if kept else 'VARCHAR' + '[]' * depth)}")
    return f"read_json({_paths(paths)}, {options}, columns={{{', '.join(columns)}}})"


def _compression(paths: Sequence[str]) -> str:
    with Path(paths[0]).open("rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else "uncompressed"


def _paths(paths: Sequence[str]) -> str:
    """Names of files as SQL: DuckDB would take characters of theirs for wildcards."""
    return "[" + ", ".join(literal(glob.escape(path)) for path in paths) + "]"


def _is_remote(path: str) -> bool:
    return _REMOTE.match(path) is not None


def _check_scheme(label: str, path: str) -> None:
    from apache_beam.io.filesystems import FileSystems

    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        raise JobError(
            f"{label}: nothing reads {path}; object stores need an extra: pip install 'estimator-score[gcp]', [aws] or [azure]"
        ) from error


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _match(pattern: str) -> list[str]:
    if _is_remote(pattern):
        from pipeline import files

        return [info.path for info in files.match(pattern)]
    if os.path.lexists(pattern):
        return [] if Path(pattern).is_dir() else [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())


def _list_folder(folder: str) -> dict[str, int]:
    """Base name -> bytes of the files in a folder; none if there is no such folder."""
    if _is_remote(folder):
        from pipeline import files

        return {files.base_name(info.path): info.bytes for info in files.list_folder(folder)}
    if not Path(folder).is_dir():
        return {}
    return {path.name: path.stat().st_size for path in Path(folder).iterdir() if path.is_file()}


def _read(path: str) -> bytes:
    if _is_remote(path):
        from pipeline import files

        return files.read_bytes(path)
    return Path(path).read_bytes()


def _fetched(label: str, paths: Sequence[str], scratch: Path) -> list[str]:
    if not _is_remote(paths[0]):
        return list(paths)
    from pipeline import files

    local = [str(scratch / f"{label}-{number}") for number in range(len(paths))]
    with reading(f"{label}: {paths[0]}"):
        for source, target in zip(paths, local, strict=True):
            files.copy(source, target)
    return local
