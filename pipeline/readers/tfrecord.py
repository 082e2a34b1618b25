"""TFRecord shards: records as they are framed and checksummed; what is in them, the graph parses."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import chain
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
import pyarrow as pa

from pipeline.errors import BrokenShard
from pipeline.readers.compression import GZIP_MAGIC, inflate, is_zlib, plain_blocks, read_head
from pipeline.rows import DAMAGED, ROW, Chunk, Rejected
from pipeline.serialized_rows import SerializedRows

_HEADER_BYTES = 12
"""Length (8 bytes) and its checksum (4); the payload and its checksum follow."""
_CHECKSUM_BYTES = 4
_FRAME_BYTES = _HEADER_BYTES + _CHECKSUM_BYTES
_MASK = np.uint32(0xA282EAD8)
_MAX_RECORD_BYTES = 2**31 - 1
"""Neither an Arrow binary value nor a protocol buffer holds more."""


class _Frames(NamedTuple):
    """Records of one buffer. sizes: int64, bytes of each. intact: whether its checksum matches."""

    records: list[bytes]
    sizes: np.ndarray
    intact: np.ndarray

    def cut(self, start: int, end: int) -> _Frames:
        return _Frames(self.records[start:end], self.sizes[start:end], self.intact[start:end])


def read_tfrecord(
    file: BinaryIO, *, rows: int, max_bytes: int, block_bytes: int = 1 << 20, keep_record: bool = True
) -> Iterator[Chunk]:
    """Records of a plain, gzip or zlib shard, in chunks of up to `rows` rows and about `max_bytes` of payload.

    Rows of a chunk are `SerializedRows` beside the column `_row` (int64). A record whose data checksum does not match is
    rejected.

    Raises:
      BrokenShard: a length checksum does not match, the file ends inside a record, or the compressed stream is broken;
        all records before were yielded.
    """
    pending: list[_Frames] = []
    held = size = read = 0
    broken = None
    try:
        for frames in _frames(_filler(file, block_bytes)):
            ends = np.cumsum(frames.sizes)
            start = 0
            while start < len(ends):
                before = ends[start - 1] if start else 0
                end = int(np.searchsorted(ends, before + max_bytes - size)) + 1  # the one that reaches the bound is in
                end = min(end, start + rows - held, len(ends))
                pending.append(frames.cut(start, end))
                held, size, start = held + end - start, size + int(ends[end - 1] - before), end
                if held == rows or size >= max_bytes:
                    yield _chunk(pending, read, keep_record)
                    pending, held, size, read = [], 0, 0, read + held
    except BrokenShard as error:
        broken = error
    if pending:
        yield _chunk(pending, read, keep_record)
    if broken:
        raise broken


def _chunk(pending: list[_Frames], first: int, keep_record: bool) -> Chunk:
    """pending: the records of the chunk. first: the number of the first one."""
    intact = np.concatenate([frames.intact for frames in pending])
    records = np.fromiter(chain.from_iterable(frames.records for frames in pending), object, len(intact))
    sizes = np.concatenate([frames.sizes for frames in pending])
    numbers = np.arange(first, first + len(intact))
    rejected = []
    if not intact.all():
        for number, record in zip(numbers[~intact].tolist(), records[~intact].tolist(), strict=True):
            reason = f"record {number}: {DAMAGED}"
            rejected.append(Rejected(number, "read", reason, record if keep_record else None))
        numbers, records, sizes = numbers[intact], records[intact], sizes[intact]
    beside = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], [ROW])
    return Chunk(SerializedRows(beside, records, sizes), tuple(rejected), len(intact))


def _numbers(buffer: bytes, starts: np.ndarray, dtype: str = "<u4") -> np.ndarray:
    """The number of some dtype at each start, whose bytes are all there: (starts,)."""
    return np.ndarray(len(buffer) - np.dtype(dtype).itemsize + 1, dtype, buffer, strides=(1,))[starts]


def _filler(file: BinaryIO, size: int) -> Callable[[bytes, int], bytes]:
    """A function that gives the next buffer of records, inflated where need be.

    It takes the rest of the buffer before, which the next one starts with, and how many bytes are wanted; at the end of the
    file there are fewer. Plain is tried first: the length of a first record may look like a magic number, but its checksum
    would not match.
    """
    head = read_head(file, _HEADER_BYTES)
    blocks = plain_blocks(file, size, head)
    if len(head) == _HEADER_BYTES and _is_header(head):
        if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO):
            file.seek(0)
            return partial(_read_again, file, size)
    elif head[:2] == GZIP_MAGIC:
        blocks = inflate(blocks, size, "gzip")
    elif is_zlib(head):
        blocks = inflate(blocks, size, "zlib")
    return partial(_fill, blocks)


def _read_again(file: BinaryIO, size: int, rest: bytes, wanted: int) -> bytes:
    """A buffer of a file on this machine, where reading the rest once more is cheaper than joining it to a block."""
    if wanted > size:
        return _fill(plain_blocks(file, size), rest, wanted)
    if rest:
        file.seek(-len(rest), io.SEEK_CUR)
    return file.read(size)


def _is_header(head: bytes) -> bool:
    """As `_are_lengths` of one, which there is no need to sort."""
    checksum = np.array([_checksum_of_length(int.from_bytes(head[:8], "little"))], np.uint32)
    return bool(_masked(checksum)[0] == int.from_bytes(head[8:], "little"))


def _frames(filled: Callable[[bytes, int], bytes]) -> Iterator[_Frames]:
    """All records, buffer by buffer. filled: as `_filler` gives it."""
    buffer, number, wanted = b"", 0, _HEADER_BYTES
    while buffer := filled(buffer, wanted):
        size = len(buffer)
        if size < wanted:
            inside = "its length" if size < _HEADER_BYTES else "it"
            raise BrokenShard(f"record {number}: the file ends inside {inside}")
        starts = _chain(buffer)
        count, broken = _until_broken(buffer, starts, number)
        starts = starts[:count]
        lengths = _numbers(buffer, starts, "<u8").astype(np.int64)
        ends = starts + lengths + _FRAME_BYTES
        whole = int(np.searchsorted(ends, size, "right"))  # all, or all but the last
        if whole:
            yield _checked(buffer, starts[:whole] + _HEADER_BYTES, lengths[:whole])
        if broken:
            raise broken
        number += whole
        wanted = _HEADER_BYTES if whole == len(ends) else int(ends[whole] - starts[whole])
        buffer = buffer[ends[whole - 1] if whole else 0 :]


def _chain(buffer: bytes) -> np.ndarray:
    """Where records start whose header is there, int64, as the lengths say: nothing has checked them yet.

    This is done for every record, and so does nothing that can be done for many at once.
    """
    starts: list[int] = []
    unpack_length, frame_bytes = struct.Struct("<Q").unpack_from, _FRAME_BYTES
    start, last = 0, len(buffer) - _HEADER_BYTES
    while start <= last:
        starts.append(start)
        (length,) = unpack_length(buffer, start)
        start += length + frame_bytes
    return np.fromiter(starts, np.int64, len(starts))


def _until_broken(buffer: bytes, starts: np.ndarray, number: int) -> tuple[int, BrokenShard | None]:
    """How many lengths are good, and what is wrong with the next, if there is one. number: of the first record."""
    lengths, are_lengths = _numbers(buffer, starts, "<u8"), _are_lengths(buffer, starts)
    good = are_lengths & (lengths <= _MAX_RECORD_BYTES)
    if good.all():
        return len(starts), None
    first = int(np.argmin(good))
    if are_lengths[first]:
        reason = f"its length is {lengths[first]:,} bytes, more than 2 GiB"
    else:
        reason = "length checksum does not match"
    return first, BrokenShard(f"record {number + first}: {reason}")


def _are_lengths(buffer: bytes, starts: np.ndarray) -> np.ndarray:
    """Whether the length at each start matches its checksum, bool (starts,)."""
    different, places = np.unique(_numbers(buffer, starts, "<u8"), return_inverse=True)
    checksums = np.array([_checksum_of_length(length) for length in different.tolist()], np.uint32)
    return _masked(checksums)[places] == _numbers(buffer, starts + 8)


@lru_cache(maxsize=1024)  # records of one shard have few lengths
def _checksum_of_length(length: int) -> int:
    return google_crc32c.value(length.to_bytes(8, "little"))


def _checked(buffer: bytes, starts: np.ndarray, lengths: np.ndarray) -> _Frames:
    """starts, lengths: of payloads that are all there."""
    ends = starts + lengths
    records = [buffer[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    checksums = np.fromiter(map(google_crc32c.value, records), np.uint32, len(records))
    return _Frames(records, lengths, _masked(checksums) == _numbers(buffer, ends))


def _masked(checksums: np.ndarray) -> np.ndarray:
    """CRC32C as TFRecord stores it: rotated, with a constant added, so that a checksum of checksums stays a good one."""
    return (checksums >> 15 | checksums << 17) + _MASK


def _fill(blocks: Iterator[bytes], rest: bytes, wanted: int) -> bytes:
    """`rest` and as many blocks as make up `wanted` bytes, or less at the end; a length allocates nothing by itself."""
    pieces, size = [rest], len(rest)
    while size < wanted and (block := next(blocks, b"")):
        pieces.append(block)
        size += len(block)
    return b"".join(pieces)
