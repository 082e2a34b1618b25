"""TFRecord shards: records as they are framed and checksummed; what is in them, the graph parses."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

import google_crc32c
import pyarrow as pa

from pipeline.errors import BrokenShard
from pipeline.readers.compression import GZIP_MAGIC, inflate, is_zlib, plain_blocks, read_head
from pipeline.rows import DAMAGED, RECORD, ROW, Chunk, Rejected

_HEADER_BYTES = 12
"""Length (8 bytes) and its checksum (4); the payload and its checksum follow."""
_CHECKSUM = struct.Struct("<I")
_MASK = 0xA282EAD8
"""Added to a rotated CRC32C: TFRecord stores masked checksums, so that a checksum of checksums stays a good one."""
_MAX_RECORD_BYTES = 2**31 - 1
"""Neither an Arrow binary value nor a protocol buffer holds more."""


def read_tfrecord(
    file: BinaryIO, *, rows: int, max_bytes: int, block_bytes: int = 1 << 20, keep_record: bool = True
) -> Iterator[Chunk]:
    """Records of a plain, gzip or zlib shard, in chunks of up to `rows` rows and about `max_bytes` of payload.

    Chunks have the columns `_row` (int64) and `record` (binary). A record whose data checksum does not match is rejected.

    Raises:
      BrokenShard: a length checksum does not match, the file ends inside a record, or the compressed stream is broken;
        all records before were yielded.
    """
    records: list[bytes] = []
    numbers: list[int] = []
    rejected: list[Rejected] = []
    size = 0
    broken = None

    def chunk() -> Chunk:
        columns = [pa.array(numbers, pa.int64()), pa.array(records, pa.binary())]
        batch = pa.RecordBatch.from_arrays(columns, [ROW, RECORD])
        return Chunk(batch, tuple(rejected), len(records) + len(rejected))

    try:
        for number, (record, intact) in enumerate(_frames(_blocks(file, block_bytes))):
            if intact:
                records.append(record)
                numbers.append(number)
            else:
                reason = f"record {number}: {DAMAGED}"
                rejected.append(Rejected(number, "read", reason, record if keep_record else None))
            size += len(record)
            if len(records) + len(rejected) == rows or size >= max_bytes:
                yield chunk()
                records, numbers, rejected, size = [], [], [], 0
    except BrokenShard as error:
        broken = error
    if records or rejected:
        yield chunk()
    if broken:
        raise broken


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


def _frames(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Payload of every record, and whether its checksum matches."""
    crc32c, checksum = google_crc32c.value, _CHECKSUM.unpack_from
    buffer, start, number = b"", 0, 0
    while True:
        if len(buffer) < start + _HEADER_BYTES:
            buffer, start = _fill(buffer[start:], blocks, _HEADER_BYTES), 0
            if not buffer:
                return
            if len(buffer) < _HEADER_BYTES:
                raise BrokenShard(f"record {number}: the file ends inside its length")
        length = _length(buffer[start : start + _HEADER_BYTES])
        if length is None:
            raise BrokenShard(f"record {number}: length checksum does not match")
        if length > _MAX_RECORD_BYTES:
            raise BrokenShard(f"record {number}: its length is {length:,} bytes, more than 2 GiB")
        end = start + _HEADER_BYTES + length
        if len(buffer) < end + _CHECKSUM.size:
            buffer, start = _fill(buffer[start:], blocks, _HEADER_BYTES + length + _CHECKSUM.size), 0
            end = _HEADER_BYTES + length
            if len(buffer) < end + _CHECKSUM.size:
                raise BrokenShard(f"record {number}: the file ends inside it")
        record = buffer[start + _HEADER_BYTES : end]
        crc = crc32c(record)
        yield record, ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF == checksum(buffer, end)[0]
        start = end + _CHECKSUM.size
        number += 1


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
