"""The job that every mutant is read for, and a row in a form in which it can be compared: by every bit of its values."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.features import Feature
from pipeline.rows import Columns, PassThrough

DEFAULT = -7
COLUMNS = Columns(
    {
        "x": Feature("x", "float32"),
        "n": Feature("n", "int64", default=DEFAULT),
        "pixels": Feature("pixels", "float32", shape=(2, 2)),
        "words": Feature("words", "string", "varlen"),
    },
    passthrough={"id": PassThrough("id", pa.int64()), "note": PassThrough("note", pa.string())},
)
NAMES = (*COLUMNS.features, *COLUMNS.passthrough)


class Row(NamedTuple):
    """Values as they are scored or passed through. x, pixels: float32, their bits."""

    x: bytes
    n: int
    pixels: bytes
    words: tuple[bytes, ...]
    id: int | None
    note: str | None


def bits(*floats: float) -> bytes:
    """The bits of float32 values; all NaN are one, since not every reader keeps what is in them."""
    return b"".join(b"NaN " if value != value else struct.pack("<f", value) for value in floats)


def good_row(rng: random.Random) -> dict[str, Any]:
    """A row that can be scored whatever the format; some of its values are missing where they may be."""
    row: dict[str, Any] = {
        "x": rng.choice([0.5, -2.25, 1e-3, 123456.0, 0.1]),
        "n": rng.choice([0, 1, -1, 2**40 + 1, 2**62 + 1, -(2**63)]),
        "pixels": [[rng.choice([0.0, 1.5]), -1.0], [2.5, float(rng.randrange(100))]],
        "words": [rng.choice(["a", "", "bb, b", 'say "x"', "é\n"]) for _ in range(rng.randrange(4))],
        "id": rng.randrange(10**6),
        "note": rng.choice(["", "plain", "two\nlines", 'quo"ted', "ünï"]),
    }
    for name in ("n", "id", "note"):
        if rng.random() < 0.1:
            row[name] = None
    return row


def good_rows(rng: random.Random) -> list[dict[str, Any]]:
    return [good_row(rng) for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13]))]


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[int, Row]]:
    """Number and values of the rows of a chunk, as they would be fed and passed through."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    for index, number in enumerate(columns["_row"].to_pylist()):
        value = {name: column[index].as_py() for name, column in columns.items() if ":" in name}
        yield (
            number,
            Row(
                bits(value["feature:x"]),
                value["feature:n"],
                bits(*value["feature:pixels"]),
                tuple(value["feature:words"]),
                value["passthrough:id"],
                value["passthrough:note"],
            ),
        )
