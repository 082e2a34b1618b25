"""The index of a TensorFlow checkpoint: which tensors it holds, of which shape, and where their bytes lie.

`PREFIX.index` is a sorted string table: blocks of key-value pairs, then an index block of (last key, place of block),
then a footer that tells where the index block lies. The value under the empty key is a BundleHeaderProto, every other
one a BundleEntryProto. Format: https://github.com/google/leveldb/blob/main/doc/table_format.md and
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

from pipeline.errors import ModelError
from pipeline.protos import DTYPES, message_class

_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_MAGIC = 0xDB4775248B80FB57
_COMPRESSIONS = {1: "snappy"}
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Entry:
    """One tensor.

    dtype: name of a `tf.DType`.
    shape: the full shape, of a partitioned variable too.
    shard, offset, size: number of the data file, and the place in it, in bytes; all 0 for a partitioned variable.
    slices: of a partitioned variable, one spec a part, in TensorFlow's form: "0,3:-" is rows 0 to 2, all columns.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    slices: tuple[str, ...] = ()


class Extent(NamedTuple):
    """The bytes of a tensor, or of one part of a partitioned variable: where they lie, and their masked CRC-32C.

    name: of the variable. texts: how many strings it holds, None for a dtype of fixed size.
    """

    name: str
    shard: int
    offset: int
    size: int
    checksum: int
    texts: int | None


@dataclass(frozen=True)
class Bundle:
    """The tensors of a checkpoint by name, for each data file the bytes that it must have at least, and all extents."""

    num_shards: int
    entries: dict[str, Entry]
    shard_bytes: tuple[int, ...]
    extents: tuple[Extent, ...] = ()


EMPTY_BUNDLE = Bundle(0, {}, ())
"""That of a model without variables, which has no files."""


def parse_index(data: bytes, name: str) -> Bundle:
    """Read the bytes of an `.index` file; `name` is what messages call it.

    Raises:
      ModelError: the file is damaged, or cut short, or in a form that TensorFlow does not write.
    """
    from google.protobuf.message import DecodeError

    header_class, entry_class = message_class("BundleHeaderProto"), message_class("BundleEntryProto")
    try:
        pairs = list(_table_pairs(data))
        if not pairs or pairs[0][0]:
            raise _DamageError("it has no header")
        header = header_class.FromString(pairs[0][1])
        protos = [(key, entry_class.FromString(value)) for key, value in pairs[1:]]
        shard_bytes = [0] * header.num_shards
        for _, proto in protos:
            if not 0 <= proto.shard_id < header.num_shards:
                raise _DamageError(f"an entry lies in data file {proto.shard_id} of {header.num_shards}")
            shard_bytes[proto.shard_id] = max(shard_bytes[proto.shard_id], proto.offset + proto.size)
        # The parts of a partitioned variable stand under encoded keys, which open with a zero byte; their places count,
        # their names are those of the whole variable.
        entries = {key.decode(): _entry(proto) for key, proto in protos if not key.startswith(b"\0")}
    except (_DamageError, DecodeError, UnicodeDecodeError, IndexError, struct.error) as error:
        raise ModelError(
            f"{name} is damaged: {error}. Copy the checkpoint again, or choose another one with model.checkpoint"
        ) from error
    extents = [_extent(key, proto) for key, proto in protos if not proto.slices]
    return Bundle(header.num_shards, entries, tuple(shard_bytes), tuple(extents))


def damaged_tensor(bundle: Bundle, open_shard: Callable[[int], BinaryIO]) -> str | None:
    """The first variable whose bytes are not those that the index was written for, or None.

    Args:
      bundle: the index.
      open_shard: opens a data file by its number.
    """
    for shard in range(bundle.num_shards):
        with open_shard(shard) as file:
            for extent in sorted(bundle.extents, key=lambda extent: extent.offset):
                if extent.shard == shard and _checksum(file, extent) != extent.checksum:
                    return extent.name
    return None


def read_integer(bundle: Bundle, name: str, open_shard: Callable[[int], BinaryIO]) -> int:
    """The value of a scalar variable with an integer dtype. Raises ModelError: its bytes are damaged."""
    (extent,) = (extent for extent in bundle.extents if extent.name == name)
    with open_shard(extent.shard) as file:
        if _checksum(file, extent) != extent.checksum:
            raise ModelError(f"the bytes of {name!r} are not those that the index was written for")
        file.seek(extent.offset)
        return int.from_bytes(file.read(extent.size), "little", signed=True)


class _DamageError(Exception):
    """What is wrong with the file, in a few words."""


def _entry(proto: Any) -> Entry:
    return Entry(
        dtype=DTYPES.get(proto.dtype, f"dtype {proto.dtype}"),
        shape=tuple(dimension.size for dimension in proto.shape.dim),
        shard=proto.shard_id,
        offset=proto.offset,
        size=proto.size,
        slices=tuple(_slice_spec(part) for part in proto.slices),
    )


def _extent(key: bytes, proto: Any) -> Extent:
    is_text = DTYPES.get(proto.dtype) == "string"
    texts = math.prod(dimension.size for dimension in proto.shape.dim) if is_text else None
    # The key of a part: a zero byte, then the name, which ends with the next one.
    name = key.strip(b"\0").split(b"\0")[0].decode(errors="replace")
    return Extent(name, proto.shard_id, proto.offset, proto.size, proto.crc32c, texts)


def _checksum(file: BinaryIO, extent: Extent) -> int:
    """Of a tensor of strings: their lengths, as whole numbers and not as they are stored, then all that follows."""
    import google_crc32c

    file.seek(extent.offset)
    left, checksum = extent.size, 0
    if extent.texts is not None:
        data = file.read(left)
        position = 0
        try:
            for _ in range(extent.texts):
                length, position = _varint(data, position)
                checksum = google_crc32c.extend(checksum, struct.pack("<I" if length < 1 << 32 else "<Q", length))
        except IndexError:
            return -1
        return _masked(google_crc32c.extend(checksum, data[position:]))
    while left and (data := file.read(min(left, _CHUNK))):
        checksum = google_crc32c.extend(checksum, data)
        left -= len(data)
    return _masked(checksum) if not left else -1


def _masked(checksum: int) -> int:
    """As checksums are stored, so that those of data that hold checksums are good ones too."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _slice_spec(proto: Any) -> str:
    """A dimension without a length is taken whole."""
    return ":".join(f"{extent.start},{extent.length}" if extent.HasField("length") else "-" for extent in proto.extent)


def _table_pairs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER_BYTES:
        raise _DamageError(f"it has {len(data)} bytes, less than its footer of {_FOOTER_BYTES}")
    footer = data[-_FOOTER_BYTES:]
    if struct.unpack_from("<Q", footer, _FOOTER_BYTES - 8)[0] != _MAGIC:
        raise _DamageError("it does not end like an index (was it cut short?)")
    _, _, position = _handle(footer, 0)
    offset, size, _ = _handle(footer, position)
    for _, place in _block_pairs(_block(data, offset, size)):
        offset, size, _ = _handle(place, 0)
        yield from _block_pairs(_block(data, offset, size))


def _block(data: bytes, offset: int, size: int) -> bytes:
    """A block is followed by the kind of its compression and by a checksum of both."""
    import google_crc32c

    end = offset + size
    if end + _TRAILER_BYTES > len(data):
        raise _DamageError(f"a block ends at byte {end + _TRAILER_BYTES} of {len(data)}")
    compression, stored = struct.unpack_from("<BI", data, end)
    if _masked(google_crc32c.value(data[offset : end + 1])) != stored:
        raise _DamageError(f"the checksum of the block at byte {offset} is wrong")
    if compression:
        kind = _COMPRESSIONS.get(compression, f"kind {compression}")
        raise _DamageError(f"the block at byte {offset} is compressed ({kind}), which TensorFlow does not do")
    return data[offset:end]


def _block_pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each key is stored as the length that it shares with the key before it, and the rest."""
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 - 4 * restarts
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        value_bytes, position = _varint(block, position)
        value_start = position + unshared
        key = key[:shared] + block[position:value_start]
        position = value_start + value_bytes
        if position > end:
            raise _DamageError("a key or a value reaches beyond its block")
        yield key, block[value_start:position]


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Offset and size of a block, and the position after them."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return offset, size, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
