"""tf.Examples encoded by hand, so that they can be encoded in every way that protocol buffers allow, and some they do not."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

from fuzz.mutate import mutate, varint

_BYTES, _FLOATS, _INTS = 1, 2, 3
"""Numbers of bytes_list, float_list and int64_list in tf.train.Feature."""
KINDS = {"x": _FLOATS, "n": _INTS, "pixels": _FLOATS, "words": _BYTES, "id": _INTS, "note": _BYTES}


def example(row: dict[str, Any], rng: random.Random) -> bytes:
    """A row as a serialized tf.Example, its features in any order."""
    entries = [
        entry(name.encode(), feature(KINDS[name], flat(value))) for name, value in row.items() if value is not None
    ]
    rng.shuffle(entries)
    return field(1, b"".join(entries))


def spoilt_example(row: dict[str, Any], rng: random.Random) -> bytes:
    """A tf.Example with one feature that is not what it should be, or is written in an unusual way."""
    name = rng.choice([name for name, value in row.items() if value is not None])
    kind, values = KINDS[name], flat(row[name])
    others = {other: value for other, value in row.items() if other != name}
    good = feature(kind, values)
    odd = rng.choice(
        [
            b"",
            feature(kind, []),
            feature(kind, [*values, *values]),
            feature(kind, values[:-1]),
            feature(rng.choice([_BYTES, _FLOATS, _INTS]), []),
            feature(_BYTES, [b"\xff\xfe text"]),
            feature(_FLOATS, [float("nan"), 1e38][: max(1, len(values))]),
            feature(_INTS, [2**63 - 1]),
            unpacked(kind, values),
            unpacked(kind, values[:1]) + feature(kind, values[1:]),
            good + feature(rng.choice([_BYTES, _FLOATS, _INTS]), [1]),
            feature(rng.choice([_BYTES, _FLOATS, _INTS]), [1]) + good,
            good + good,
            field(9, b"unknown") + good,
            good + varint(7 << 3) + varint(2**64 - 1),
            varint(8 << 3 | 3) + varint(8 << 3 | 4) + good,
            mutate(good, rng, good),
        ]
    )
    key = name.encode()
    written = rng.choice(
        [
            entry(key, odd),
            entry(key, odd),
            entry(key, odd),
            entry(key, good) + entry(key, odd),
            entry(key, odd) + entry(key, good),
            field(1, field(2, odd) + field(1, key)),
            field(1, field(1, key) + field(2, odd) + field(2, good)),
            field(1, field(1, key)),
            field(1, field(2, odd)),
            entry(key + b"\xff", good) + entry(key, odd),
        ]
    )
    rest = example(others, rng)
    whole = rng.choice([rest + field(1, written), field(1, written) + rest, field(1, _inside(rest) + written)])
    return mutate(whole, rng, rest) if rng.random() < 0.2 else whole


def feature(kind: int, values: Sequence[Any]) -> bytes:
    """A tf.train.Feature as every library writes it, numbers packed."""
    if kind == _BYTES:
        return field(kind, b"".join(field(1, _bytes(value)) for value in values))
    packed = b"".join(_number(kind, value) for value in values)
    return field(kind, field(1, packed) if values else b"")


def unpacked(kind: int, values: Sequence[Any]) -> bytes:
    """A tf.train.Feature with a tag before each number, as protocol buffers of version 2 are written."""
    if kind == _BYTES:
        return feature(kind, values)
    tag = varint(1 << 3 | (5 if kind == _FLOATS else 0))
    return field(kind, b"".join(tag + _number(kind, value) for value in values))


def entry(key: bytes, value: bytes) -> bytes:
    """One entry of the map in tf.train.Features."""
    return field(1, field(1, key) + field(2, value))


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [inner for item in value for inner in flat(item)]


def _inside(message: bytes) -> bytes:
    """The payload of a message of one field whose length takes up to two bytes."""
    return message[2:] if message[1] < 0x80 else message[3:]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _number(kind: int, value: Any) -> bytes:
    if isinstance(value, (str, bytes)):
        value = len(value)
    return struct.pack("<f", value) if kind == _FLOATS else varint(int(value) % 2**64)
