"""Damage to bytes: what disks, networks, half-done copies and half-working writers do to files."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

Mutation = Callable[[bytearray, random.Random, bytes], bytearray]


def flip_bits(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def change_bytes(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 5])):
        data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return data


def truncate(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data[: rng.randrange(len(data))]


def lose_the_beginning(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data[rng.randrange(len(data)) :]


def insert(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice([1, 2, 4, 16])) + data[place:]


def leave_out(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    start, stop = _block(data, rng)
    return data[:start] + data[stop:]


def duplicate(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    start, stop = _block(data, rng)
    return data[:stop] + data[start:stop] + data[stop:]


def swap(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    first, second, third, fourth = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    return data[:first] + data[third:fourth] + data[second:third] + data[first:second] + data[fourth:]


def zeros(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    start, stop = _block(data, rng)
    return data[:start] + bytes(stop - start) + data[stop:]


def splice(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """The beginning of one shard and the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def append(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data + rng.choice([other, b"\0" * 100, rng.randbytes(9), b"\n", bytes(data)])


def set_a_length(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """A number of some width in place of what stands there, of the kind that lengths and counts are mistaken for."""
    number = rng.choice([0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, len(data), len(data) - 1])
    written = rng.choice(
        [struct.pack("<Q", number), struct.pack("<I", number % 2**32), varint(number), varint(2 * number)]
    )
    place = rng.randrange(len(data))
    return data[:place] + written + data[place + rng.choice([1, len(written)]) :]


MUTATIONS: Sequence[Mutation] = (
    flip_bits, flip_bits, change_bytes, truncate, lose_the_beginning, insert, leave_out, duplicate, swap, zeros, splice,
    append, set_a_length, set_a_length,
)  # fmt: skip


def mutate(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """A mutant by one mutation, or by a few. other: another shard of the format."""
    mutant = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if mutant:
            mutant = rng.choice(MUTATIONS)(mutant, rng, other)
    return bytes(mutant)


def varint(number: int) -> bytes:
    """A number as protocol buffers write it, and Avro after a step: 7 bits a byte, the lowest first."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice([1, 4, 12, 16, 64, 256]))
