"""The errors of a run, each with the exit code that the command ends with."""


class ScoringError(Exception):
    """A run that cannot go on. The message names the place and the remedy, never a value of a row."""

    exit_code = 1


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


class VerdictError(ScoringError):
    """What a worker of this run found before; a retry cannot mend it. Carries the exit code of the error it was."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


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
