"""Independent readers of a serialized tf.Example: Google's parser, and the op of training on the record alone.

tf.io.parse_example has a parser of its own, and by design a record is read as in training, by that one. On what libraries
write it agrees with Google's, and there Google's is the judge. On other bytes it is laxer: of two lists in one Feature it
takes the first, names need not be UTF-8, and it does not look behind the list that it was looking for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fuzz.job import DEFAULT, Row, bits

_KINDS = {"x": 2, "n": 3, "pixels": 2, "words": 1, "id": 3, "note": 1}
_LIST_NAMES = {1: "bytes_list", 2: "float_list", 3: "int64_list"}
_SIZES = {"x": 1, "n": 1, "pixels": 4}


class Either(NamedTuple):
    """A record that no library would write: it may be rejected, or scored as either parser has it."""

    rows: tuple[Row | None, ...]


class _OddError(Exception):
    """Not as libraries write it, or no message at all."""


def read_example(record: bytes) -> Row | Either | None:
    """The row of a record, None for a bad one."""
    googles = _googles(record)
    try:
        _check_usual(record)
    except _OddError:
        return Either((googles, _of_training(record)))
    return googles


def _googles(record: bytes) -> Row | None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.example.example_pb2 import Example

    try:
        features = Example.FromString(record).features.feature
    except DecodeError:
        return None
    values: dict[str, list[Any] | None] = {}
    for name, kind in _KINDS.items():
        found = features[name].WhichOneof("kind") if name in features else None
        if found not in (None, _LIST_NAMES[kind]):
            return None
        values[name] = None if found is None else list(getattr(features[name], found).value)
    return _row(values)


def _of_training(record: bytes) -> Row | None:
    import tensorflow as tf

    spec = {
        "x": tf.io.FixedLenFeature([], tf.float32),
        "n": tf.io.FixedLenFeature([], tf.int64, DEFAULT),
        "pixels": tf.io.FixedLenFeature([2, 2], tf.float32),
        "words": tf.io.VarLenFeature(tf.string),
        "id": tf.io.VarLenFeature(tf.int64),
        "note": tf.io.VarLenFeature(tf.string),
    }
    try:
        parsed = tf.io.parse_example([record], spec)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):  # the second where a message holds what was refused
        return None
    values = {name: getattr(value, "values", value).numpy().reshape(-1).tolist() for name, value in parsed.items()}
    return _row(values)


def _row(values: Mapping[str, list[Any] | None]) -> Row | None:
    found = {name: some or [] for name, some in values.items()}
    if values["n"] is None:
        found["n"] = [DEFAULT]
    if any(len(found[name]) != size for name, size in _SIZES.items()) or len(found["id"]) > 1 or len(found["note"]) > 1:
        return None
    try:
        note = found["note"][0].decode() if found["note"] else None
    except UnicodeDecodeError:
        return None
    key = found["id"][0] if found["id"] else None
    return Row(bits(*found["x"]), found["n"][0], bits(*found["pixels"]), tuple(found["words"]), key, note)


def _check_usual(record: bytes) -> None:
    """Refuse what no library writes: one message of features, a name and a Feature for each, one list in it."""
    names = set()
    messages = _fields(record)
    if [tag for tag, _ in messages] not in ([], [10]):
        raise _OddError
    for tag, entry in _fields(messages[0][1]) if messages else []:
        parts = _fields(entry) if tag == 10 else []
        if [part for part, _ in parts] != [10, 18]:
            raise _OddError
        name, feature = parts[0][1], parts[1][1]
        if name in names:
            raise _OddError
        names.add(name)
        try:
            name.decode()
        except UnicodeDecodeError:
            raise _OddError from None
        _check_usual_feature(feature)


def _check_usual_feature(feature: bytes) -> None:
    lists = _fields(feature)
    if [tag for tag, _ in lists] not in ([], [10], [18], [26]):
        raise _OddError
    for tag, values in lists:
        tags = [part for part, _ in _fields(values)]
        unpacked = {10: 10, 18: 13, 26: 8}[tag]
        if tags != [10] and set(tags) - {unpacked}:
            raise _OddError


def _fields(message: bytes) -> list[tuple[int, Any]]:
    """Tag and value of every field: bytes, or an integer for a varint."""
    fields: list[tuple[int, Any]] = []
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag & 7 == 0:
            value, place = _varint(message, place)
            fields.append((tag, value))
            continue
        size = {1: 8, 5: 4}.get(tag & 7, -1)
        if tag & 7 == 2:
            size, place = _varint(message, place)
        if size < 0 or place + size > len(message):
            raise _OddError
        fields.append((tag, message[place : place + size]))
        place += size
    return fields


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        number |= (message[place] & 0x7F) << shift
        place += 1
        if message[place - 1] < 0x80:
            return number, place
    raise _OddError
