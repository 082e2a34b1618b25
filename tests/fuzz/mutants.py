"""A mutant: bytes that its format and number alone decide."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from fuzz.mutate import mutate
from fuzz.shards import make_shard


@dataclass(frozen=True)
class Mutant:
    """One damaged shard. rows, max_bytes: the bounds of a chunk that it is read with."""

    format: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.format}:{self.number}"

    @classmethod
    def named(cls, name: str) -> Mutant:
        """The mutant of a name such as `csv:17`."""
        record_format, _, number = name.partition(":")
        return cls(record_format, int(number))

    @cached_property
    def damaged(self) -> bool:
        """Whether bytes of the file are damaged; in one of four mutants the container is whole, and records are bad."""
        return random.Random(self.name).random() >= 0.25

    @cached_property
    def content(self) -> bytes:
        rng = random.Random(self.name)
        damaged = rng.random() >= 0.25
        shard = make_shard(self.format, rng, spoil=not damaged or rng.random() < 0.3)
        return mutate(shard, rng, make_shard(self.format, rng, spoil=False)) if damaged else shard

    @property
    def rows(self) -> int:
        return (1, 3, 4096)[self.number % 3]

    @property
    def max_bytes(self) -> int:
        return (64, 1 << 20, 1000, 1 << 26)[self.number % 4]
