"""How a run failed: for retries and the launcher while it lasts, and for people and schedulers after it.

OUTPUT/_temporary/verdict.json    a run that no retry of the runner can mend: what a worker found, for all others
OUTPUT/_FAILED.json               the last run failed; gone with the next one
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from pipeline import files
from pipeline.errors import LeaseLost, ScoringError, VerdictError
from pipeline.lease import Lease
from pipeline.plan import VERDICT, temporary, utc_now

FAILED = "_FAILED.json"


@dataclass(frozen=True)
class Failure:
    """The end of a run that published nothing. stage, shard, row: where, as far as that is known."""

    run_id: str
    exit_code: int
    error: str
    stage: str | None = None
    shard: str | None = None
    row: int | None = None

    @classmethod
    def of(cls, run_id: str, error: ScoringError) -> Failure:
        """What a run that ended with this error has come to."""
        return cls(run_id, error.exit_code, str(error), error.stage, error.shard, error.row)

    def to_error(self) -> VerdictError:
        """The failure as the error to raise for it."""
        return VerdictError(self.error, self.exit_code, self.stage, self.shard, self.row)


@contextmanager
def told(output: str, run_id: str, stage: str, shard: str | None = None) -> Iterator[None]:
    """Write down an error that no retry can mend, so that launcher and retries find it; add where it happened."""
    try:
        yield
    except LeaseLost:
        raise  # the verdict file is that of the run which has the output now
    except ScoringError as error:
        error.stage, error.shard = error.stage or stage, error.shard or shard
        write_verdict(output, Failure.of(run_id, error))
        raise


@contextmanager
def verdict(lease: Lease, stage: str, shard: str | None = None) -> Iterator[None]:
    """As `told`, of the run that has this lease, and as long as it has it.

    Where the launcher has left the run, the word that it would leave of a failed one is left here.
    """
    try:
        with told(lease.output, lease.run_id, stage, shard):
            try:
                yield
            except ScoringError:
                lease.check()
                raise
    except LeaseLost:
        raise
    except ScoringError as error:
        if lease.is_left:
            write_failed(lease.output, Failure.of(lease.run_id, error))
        raise


def raise_verdict(lease: Lease) -> None:
    """Raise what an earlier attempt of this run found: a runner's retry cannot mend it."""
    found = read_verdict(lease.output, lease.run_id)
    if found is not None:
        raise found.to_error()


def write_verdict(output: str, failure: Failure) -> None:
    """Write what a run has come to, for retries and the launcher to find."""
    files.write_bytes(temporary(output, VERDICT), json.dumps(asdict(failure)).encode())


def read_verdict(output: str, run_id: str) -> Failure | None:
    """What an attempt at this run has come to, or None."""
    path = temporary(output, VERDICT)
    if not files.exists(path):
        return None
    found = Failure(**json.loads(files.read_bytes(path)))
    return found if found.run_id == run_id else None


def read_failed(output: str) -> Failure | None:
    """How the last run of this output failed; None where it did not, or is at work."""
    path = files.join(output, FAILED)
    if not files.exists(path):
        return None
    found = json.loads(files.read_bytes(path))
    return Failure(**{key: value for key, value in found.items() if key != "finished"})


def write_failed(output: str, failure: Failure) -> None:
    """Leave word of a failed run beside the output, `_FAILED.json`."""
    text = json.dumps({**asdict(failure), "finished": utc_now()}, indent=1, ensure_ascii=False)
    files.write_bytes(files.join(output, FAILED), text.encode())


def remove_failed(output: str) -> None:
    """Take away what an earlier run has left word of."""
    files.delete([files.join(output, FAILED)])
