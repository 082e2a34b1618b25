"""The errors of a run, each with the exit code that the command ends with."""

from __future__ import annotations

import errno
import os
import re
import traceback


class ScoringError(Exception):
    """A run that cannot go on. The message names the place and the remedy, never a value of a row.

    stage, shard, row: where it happened, as far as that is known.
    """

    exit_code = 1
    stage: str | None = None
    shard: str | None = None
    row: int | None = None


class JobError(ScoringError):
    """The job file or the command line is wrong."""

    exit_code = 2


class InputError(ScoringError):
    """There is no input, or not all of it."""

    exit_code = 3


class BudgetError(ScoringError):
    """More bad rows or broken shards than the job allows."""

    exit_code = 4


class CountError(ScoringError):
    """Rows read, scored and rejected do not add up."""

    exit_code = 5


class ModelError(ScoringError):
    """The model, its checkpoint, the transform or its record is refused."""

    exit_code = 6


class RowCountError(ModelError):
    """A batch of rows gave another number of predictions."""


class OutputError(ScoringError):
    """The output exists, or another run holds it."""

    exit_code = 7


class StorageError(ScoringError):
    """A filesystem is full, or must not be written to."""


class LeaseLost(OutputError):
    """Another run has taken over the output."""


class VerdictError(ScoringError):
    """What a worker of this run found before; a retry cannot mend it. Carries the exit code of the error it was."""

    def __init__(
        self, message: str, exit_code: int, stage: str | None = None, shard: str | None = None, row: int | None = None
    ):
        super().__init__(message)
        self.exit_code, self.stage, self.shard, self.row = exit_code, stage, shard, row


class BrokenShard(Exception):
    """The container of a shard broke, so the number of rows behind the break is unknown.

    Raised while a shard is read; rows before the break were yielded already.
    """


class BadRows(ValueError):
    """`Scorer.score` met rows that cannot be scored; `rows` maps a row's number to its reason."""

    def __init__(self, rows: dict[int, str]):
        self.rows = rows
        first = min(rows)
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        super().__init__(f"row {first}: {rows[first]}{more}")


class Terminated(BaseException):
    """SIGTERM, raised in the main thread as KeyboardInterrupt is for Ctrl-C."""


def without_values(error: BaseException) -> str:
    """An error in words for logs and reports: of one that nobody foresaw, class and place alone.

    The text of such an error may hold values of a row. A runner raises what happened in a stage as a RuntimeError
    whose text is the trace of the stage.
    """
    if isinstance(error, ScoringError):
        return str(error)
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', str(error))
    classes = re.findall(r"^(?:RuntimeError: )?([A-Za-z_][\w.]*(?:Error|Exception|Interrupt))\b", str(error), re.M)
    if not frames:
        frames = [
            (place.filename, str(place.lineno), place.name) for place in traceback.extract_tb(error.__traceback__)
        ]
        classes = [type(error).__name__]
    file, line, function = frames[-1]
    refusal = re.search(r"^(?:RuntimeError: )?(\w+): \[Errno (\d+)\].*\s*\Z", str(error), re.M)
    if refusal:  # of a filesystem; the path may be one that user code made of a row
        return f"{refusal[1]}: {os.strerror(int(refusal[2]))} in {function} ({file}:{line})"
    return f"{classes[-1] if classes else type(error).__name__} in {function} ({file}:{line})"


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)


def unforeseen(error: BaseException, output: str) -> ScoringError:
    """Whatever ended a run, for `_FAILED.json`: without values of rows, with the stage where a runner names it.

    Where there was no room for the output, or no right to write it, it is a StorageError that says so.
    """
    if isinstance(error, ScoringError):
        return error
    found = ScoringError(without_values(error))
    number, path = _refusal(error)
    if number in _NO_ROOM:
        remedy = "make room, or write to another folder"
    elif number in _NO_RIGHT and path.startswith(output.rstrip("/")):
        remedy = "grant the right to write there, or write to another folder"
    else:
        remedy = None
    if number is not None and remedy is not None:
        found = StorageError(
            f"output.path: {output}: {os.strerror(number)}; {remedy}, and run again: finished parts are kept"
        )
    stage = re.search(r"\[while running '(\w+)/", str(error))
    found.stage = stage[1].lower() if stage else None
    return found


def _refusal(error: BaseException) -> tuple[int | None, str]:
    """Number and path of the error of a filesystem behind an error: its own, of this process, or in a worker's trace."""
    for each in (error, error.__context__):
        if isinstance(each, OSError):
            return each.errno, str(each.filename or "")
    named = re.findall(
        r"^(?:RuntimeError: )?(?:OSError|PermissionError): \[Errno (\d+)\] [^':\n]*(?:: '([^'\n]*))?", str(error), re.M
    )
    return (int(named[-1][0]), named[-1][1]) if named else (None, "")
