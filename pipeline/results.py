"""What became of parts, and of the shards that they are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline import files
from pipeline.plan import temporary
from pipeline.rows import Part, Shard, in_words

RESULT = "result.json"


@dataclass(frozen=True)
class WrittenFile:
    """A closed Parquet file beside its part's result. `rows`: as its footer says; `sha256`: of its bytes."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard, or of the piece of it that is in one part.

    read: rows framed. state, reason: how reading ended, see `ShardEnd`.
    """

    shard: Shard
    read: int
    rejected: int
    state: str = "done"
    reason: str = ""

    @property
    def scored(self) -> int:
        return self.read - self.rejected

    @property
    def rows_lost(self) -> int | None:
        """Rows behind the break of a broken shard: None, nobody knows how many."""
        return 0 if self.state == "done" else None


@dataclass(frozen=True)
class PartResult:
    """What became of one part.

    index: the part's number in the plan of the run that wrote it; a later run may number it differently.
    pieces: as in the part.
    present: feature -> number of rows that had a value for it.
    halved: batches that were too large for the memory and were scored in two halves.
    process: which of all machines' processes has written it. peak_bytes: the most memory that it had until then.
    """

    index: int
    key: str
    run_id: str
    pieces: tuple[ShardResult, ...]
    file: WrittenFile
    rejected_file: WrittenFile | None
    present: dict[str, int] = field(default_factory=dict)
    halved: int = 0
    process: str = ""
    peak_bytes: int = 0

    @property
    def read(self) -> int:
        return sum(piece.read for piece in self.pieces)

    @property
    def scored(self) -> int:
        """Rows of the file, which have to be those that were read and not rejected."""
        return self.file.rows

    @property
    def rejected(self) -> int:
        return self.rejected_file.rows if self.rejected_file else 0

    @property
    def is_done(self) -> bool:
        """Whether every shard was read to its end."""
        return all(piece.state == "done" for piece in self.pieces)

    @property
    def name(self) -> str:
        """Its shards, in words."""
        return in_words([piece.shard for piece in self.pieces])

    @property
    def written(self) -> list[WrittenFile]:
        """The files of the part, one or two."""
        return [self.file, self.rejected_file] if self.rejected_file else [self.file]

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps(vars(self), default=vars)

    @classmethod
    def from_json(cls, text: str) -> PartResult:
        """The result that `to_json` wrote."""
        plain = json.loads(text)
        rejected = plain["rejected_file"]
        return cls(
            **plain
            | {
                "pieces": tuple(ShardResult(**piece | {"shard": Shard(**piece["shard"])}) for piece in plain["pieces"]),
                "file": WrittenFile(**plain["file"]),
                "rejected_file": WrittenFile(**rejected) if rejected else None,
            }
        )


def read_result(output: str, part: Part) -> PartResult | None:
    """The result of a part whose files are all there, in whatever state its shards were; None if there is none."""
    path = temporary(output, part.key, RESULT)
    try:
        result = PartResult.from_json(files.read_bytes(path).decode())
    except FileNotFoundError:  # no second look: another worker may write it right now
        return None
    except OSError:
        if files.exists(path):
            raise
        return None
    try:
        sizes = [files.size(temporary(output, part.key, file.name)) for file in result.written]
    except FileNotFoundError:
        return None
    return result if sizes == [file.bytes for file in result.written] else None


def find_result(output: str, part: Part) -> PartResult | None:
    """The result of a part that need not be scored again: its shards were read to the end."""
    result = read_result(output, part)
    return result if result and result.is_done else None


def of_shards(results: Iterable[PartResult]) -> list[ShardResult]:
    """What became of every shard, in the order of the plan; the pieces of one that was split are summed."""
    pieces: dict[str, list[ShardResult]] = {}
    for result in results:
        for piece in result.pieces:
            pieces.setdefault(piece.shard.path, []).append(piece)
    return [some[0] if len(some) == 1 else _whole(some) for some in pieces.values()]


def _whole(pieces: list[ShardResult]) -> ShardResult:
    read, rejected = sum(piece.read for piece in pieces), sum(piece.rejected for piece in pieces)
    broken = [piece.reason for piece in pieces if piece.state != "done"]
    state = "done" if not broken else "tail_lost" if read else "unreadable"
    return ShardResult(pieces[0].shard, read, rejected, state, "; ".join(dict.fromkeys(broken)))
