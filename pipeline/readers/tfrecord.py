"""TFRecord shards: records as they are framed and checksummed; what is in them, the graph parses.

Records are not copied out of the blocks that were read: a chunk is an Array of views on these.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
import pyarrow as pa

from pipeline.errors import BrokenShard
from pipeline.readers.compression import GZIP_MAGIC, inflate, is_zlib, plain_blocks, read_head
from pipeline.rows import DAMAGED, RECORD, ROW, Chunk, Rejected

_HEADER_BYTES = 12
"""Length (8 bytes) and its checksum (4); the payload and its checksum follow."""
_CHECKSUM_BYTES = 4
_MASK = 0xA282EAD8
"""Added to a rotated CRC32C: TFRecord stores masked checksums, so that a checksum of checksums stays a good one."""
_MAX_RECORD_BYTES = 2**31 - 1
"""Neither an Arrow binary value nor a protocol buffer holds more; nor does a view begin behind it."""
_INLINE_BYTES = 12
"""A view holds a value of up to that many bytes itself: https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout"""


class _Frames(NamedTuple):
    """Records that stand in one buffer. starts, lengths: int64, of their payloads. intact: whether checksums match."""

    buffer: bytes
    starts: np.ndarray
    lengths: np.ndarray
    intact: np.ndarray

    def cut(self, start: int, end: int) -> _Frames:
        return _Frames(self.buffer, self.starts[start:end], self.lengths[start:end], self.intact[start:end])

    def payload(self, index: int) -> bytes:
        return self.buffer[self.starts[index] : self.starts[index] + self.lengths[index]]


def read_tfrecord(
    file: BinaryIO, *, rows: int, max_bytes: int, block_bytes: int = 1 << 20, keep_record: bool = True
) -> Iterator[Chunk]:
    """Records of a plain, gzip or zlib shard, in chunks of up to `rows` rows and about `max_bytes` of payload.

    Chunks have the columns `_row` (int64) and `record` (binary views). A record whose data checksum does not match is
    rejected.

    Raises:
      BrokenShard: a length checksum does not match, the file ends inside a record, or the compressed stream is broken;
        all records before were yielded.
    """
    pending: list[_Frames] = []
    held = size = read = 0
    broken = None
    try:
        for frames in _frames(_blocks(file, block_bytes)):
            ends = np.cumsum(frames.lengths)
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
    numbers = np.arange(first, first + len(intact))
    rejected = []
    if not intact.all():
        payloads = [frames.payload(index) for frames in pending for index in np.flatnonzero(~frames.intact).tolist()]
        for number, payload in zip(numbers[~intact].tolist(), payloads, strict=True):
            reason = f"record {number}: {DAMAGED}"
            rejected.append(Rejected(number, "read", reason, payload if keep_record else None))
        numbers = numbers[intact]
    views = np.concatenate([_views(frames, index)[frames.intact] for index, frames in enumerate(pending)])
    buffers = [pa.py_buffer(frames.buffer) for frames in pending]
    records = pa.Array.from_buffers(pa.binary_view(), len(views), [None, pa.py_buffer(views), *buffers])
    rows = pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64()), records], [ROW, RECORD])
    return Chunk(rows, tuple(rejected), len(intact))


def _views(frames: _Frames, buffer_index: int) -> np.ndarray:
    """Arrow's views on the payloads, int32 (records, 4): length, first four bytes, buffer, offset; short ones inline."""
    views = np.empty((len(frames.starts), 4), "<i4")
    views[:, 0] = frames.lengths
    views[:, 1] = _numbers(frames.buffer, frames.starts).view("<i4")
    views[:, 2] = buffer_index
    views[:, 3] = frames.starts
    for index in np.flatnonzero(frames.lengths <= _INLINE_BYTES).tolist():
        views[index, 1:] = np.frombuffer(frames.payload(index).ljust(_INLINE_BYTES, b"\0"), "<i4")
    return views


def _numbers(buffer: bytes, starts: np.ndarray) -> np.ndarray:
    """Four bytes from each start on, uint32 (starts,); a checksum stands behind the shortest payload, so they are there."""
    return np.ndarray(len(buffer) - 3, "<u4", buffer, strides=(1,))[starts]


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Blocks of records, inflated where need be.

    Plain is tried first: the length of a first record may look like a magic number, but its checksum would not match.
    """
    head = read_head(file, _HEADER_BYTES)
    blocks = plain_blocks(file, size, head)
    if len(head) == _HEADER_BYTES and _length(head) is not None:
        return blocks
    if head[:2] == GZIP_MAGIC:
        return inflate(blocks, size, "gzip")
    if is_zlib(head):
        return inflate(blocks, size, "zlib")
    return blocks


def _frames(blocks: Iterator[bytes]) -> Iterator[_Frames]:
    """All records, buffer by buffer."""
    crc32c = google_crc32c.value
    buffer, start, number, wanted = b"", 0, 0, _HEADER_BYTES
    while True:
        buffer, start = _fill(buffer[start:], blocks, wanted), 0
        size = len(buffer)
        if size == 0:
            return
        if size < wanted:
            inside = "its length" if size < _HEADER_BYTES else "it"
            raise BrokenShard(f"record {number}: the file ends inside {inside}")
        starts: list[int] = []
        checksums: list[int] = []
        broken, wanted = None, _HEADER_BYTES
        while (payload := start + _HEADER_BYTES) <= size and start < _MAX_RECORD_BYTES:
            length = _length(buffer[start:payload])
            if length is None or length > _MAX_RECORD_BYTES:
                broken = _broken_length(number + len(starts), length)
                break
            end = payload + length
            if end + _CHECKSUM_BYTES > size:
                wanted = _HEADER_BYTES + length + _CHECKSUM_BYTES
                break
            checksums.append(crc32c(buffer[payload:end]))  # a copy of one record, which stays in the processor's cache
            starts.append(payload)
            start = end + _CHECKSUM_BYTES
        if starts:
            yield _checked(buffer, np.array([*starts, start + _HEADER_BYTES]), np.array(checksums, np.uint32))
        if broken:
            raise broken
        number += len(starts)


def _checked(buffer: bytes, starts: np.ndarray, checksums: np.ndarray) -> _Frames:
    """starts: of the payloads, and where that of the next record would be."""
    ends = starts[1:] - _HEADER_BYTES - _CHECKSUM_BYTES
    stored = _numbers(buffer, ends)
    masked = (checksums >> 15 | checksums << 17) + np.uint32(_MASK)
    return _Frames(buffer, starts[:-1], ends - starts[:-1], masked == stored)


def _broken_length(number: int, length: int | None) -> BrokenShard:
    if length is None:
        return BrokenShard(f"record {number}: length checksum does not match")
    return BrokenShard(f"record {number}: its length is {length:,} bytes, more than 2 GiB")


def _fill(rest: bytes, blocks: Iterator[bytes], wanted: int) -> bytes:
    """`rest` and as many blocks as make up `wanted` bytes, or less at the end; a length allocates nothing by itself."""
    pieces, size = [rest], len(rest)
    while size < wanted and (block := next(blocks, b"")):
        pieces.append(block)
        size += len(block)
    return b"".join(pieces)


@lru_cache(maxsize=1024)  # records of one shard have few lengths, and this is done for each
def _length(header: bytes) -> int | None:
    """Length of the payload behind a header; None where the header's checksum does not match."""
    length, checksum = struct.unpack("<QI", header)
    crc = google_crc32c.value(header[:8])
    return length if ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF == checksum else None
