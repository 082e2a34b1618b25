"""Tables of features to TFRecord shards of tf.Example, a column at a time: a million rows take seconds."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
"""Tags of the first three fields of a message, each length-delimited."""
_MASK = 0xA282EAD8
"""Added to the rotated checksums of TFRecord."""


def encode_examples(table: pa.Table) -> pa.Array:
    """Serialize each row as a tf.Example.

    Args:
      table: columns of float32, int64 and string, scalars, lists or lists of fixed size; without nulls.

    Returns:
      binary (rows,).
    """
    entries = [_entry(name, table[name].combine_chunks()) for name in table.column_names]
    return _delimited(_FIELD_1, _join(*entries))


def write_tfrecord(path: Path, examples: pa.Array) -> None:
    """Write a TFRecord shard, through gzip (at TensorFlow's own level) where the name ends in .gz."""
    records = b"".join(_framed(examples))
    path.write_bytes(gzip.compress(records, 6, mtime=0) if path.suffix == ".gz" else records)


def _framed(examples: pa.Array) -> Iterator[bytes]:
    for example in examples.to_pylist():
        length = struct.pack("<Q", len(example))
        yield length + _checksum(length)
        yield example
        yield _checksum(example)


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def _entry(name: str, column: pa.Array) -> pa.Array:
    """One feature of each row, as an entry of the map of tf.Features."""
    key = _FIELD_1 + _varint(len(name)) + name.encode()
    values = column.flatten() if pa.types.is_nested(column.type) else column
    if pa.types.is_floating(values.type):
        feature = _delimited(_FIELD_2, _delimited(_FIELD_1, _floats(values, len(column))))
    elif pa.types.is_integer(values.type):
        feature = _delimited(_FIELD_3, _delimited(_FIELD_1, _of_rows(column, _varints(values))))
    else:
        feature = _delimited(_FIELD_1, _of_rows(column, _delimited(_FIELD_1, values.cast(pa.binary()))))
    return _delimited(_FIELD_1, _join(pa.scalar(key, pa.binary()), _delimited(_FIELD_2, feature)))


def _floats(values: pa.Array, rows: int) -> pa.Array:
    """Packed floats, as many in each row: they are what Arrow holds in memory."""
    data = np.ascontiguousarray(values.to_numpy(), "<f4")
    width = data.nbytes // max(rows, 1)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(data)]).cast(pa.binary())


def _varints(values: pa.Array) -> pa.Array:
    distinct, places = np.unique(values.to_numpy(), return_inverse=True)
    return pa.array([_varint(value) for value in distinct.tolist()], pa.binary()).take(pa.array(places))


def _of_rows(column: pa.Array, values: pa.Array) -> pa.Array:
    """Encoded values joined to one binary a row."""
    if not pa.types.is_nested(column.type):
        return values
    return pc.binary_join(pa.ListArray.from_arrays(column.offsets, values), b"")


def _delimited(tag: bytes, payload: pa.Array) -> pa.Array:
    """Tag and length before each payload."""
    lengths = pc.binary_length(payload)
    longest = pc.max(lengths).as_py() or 0
    heads = pa.array([tag + _varint(length) for length in range(longest + 1)], pa.binary())
    return _join(heads.take(lengths), payload)


def _join(*pieces: pa.Array | pa.Scalar) -> pa.Array:
    return pc.binary_join_element_wise(*pieces, b"")


def _varint(value: int) -> bytes:
    """Of a number that is not negative."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
