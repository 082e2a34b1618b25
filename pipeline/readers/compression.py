"""Plain, gzip or zlib bytes of a shard, in blocks: which of them is told by the content, never by the name."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from zlib_ng import zlib_ng

from pipeline.errors import BrokenShard

GZIP_MAGIC = b"\x1f\x8b"
_WBITS = {"gzip": 31, "zlib": 15}


def is_zlib(head: bytes) -> bool:
    """Whether `head` starts as a zlib stream does (RFC 1950: deflate, a window of up to 32 KiB, a header checksum)."""
    return len(head) >= 2 and head[0] & 0x0F == 8 and head[0] >> 4 <= 7 and int.from_bytes(head[:2], "big") % 31 == 0


def read_head(file: BinaryIO, size: int) -> bytes:
    """The first `size` bytes of a file, fewer only at its end: one `read` of a remote file may give less."""
    head = b""
    while len(head) < size and (more := file.read(size - len(head))):
        head += more
    return head


def plain_blocks(file: BinaryIO, size: int, head: bytes = b"") -> Iterator[bytes]:
    """Blocks of up to `size` bytes as they stand in the file, after `head`, which was read already."""
    if head:
        yield head
    while block := file.read(size):
        yield block


def text_blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Blocks of a text file, plain or gzip (whose magic no UTF-8 text starts with), without a byte order mark.

    Raises:
      BrokenShard: the gzip stream is broken, or the byte order mark is that of UTF-16.
    """
    head = read_head(file, 2)
    blocks = plain_blocks(file, size, head)
    if head == GZIP_MAGIC:
        blocks = inflate(blocks, size, "gzip")
    start = b""
    for block in blocks:
        start += block
        if len(start) >= 3:
            break
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise BrokenShard("the text is UTF-16; write it as UTF-8")
    yield start.removeprefix(codecs.BOM_UTF8)
    yield from blocks


def inflate(compressed: Iterator[bytes], size: int, name: str) -> Iterator[bytes]:
    """Inflate a `gzip` (of any number of members) or `zlib` stream into blocks of up to `size` bytes.

    Raises:
      BrokenShard: the stream is damaged, cut off, or followed by something else; what came before was yielded.
    """
    stream = zlib_ng.decompressobj(_WBITS[name])
    for block in compressed:
        while block:
            if stream.eof:
                block = block.lstrip(b"\0") if name == "gzip" else block  # some writers pad the file with zeros
                if not block:
                    break
                if name != "gzip" or block[:1] != GZIP_MAGIC[:1]:
                    raise BrokenShard(f"the {name} stream is followed by something else")
                stream = zlib_ng.decompressobj(_WBITS[name])
            try:
                inflated = stream.decompress(block, size)
            except zlib_ng.error as error:  # type: ignore[misc]  # its type hints call the class an exception
                raise BrokenShard(f"the {name} stream is damaged") from error
            block = stream.unused_data if stream.eof else stream.unconsumed_tail
            if inflated:
                yield inflated
    if not stream.eof:
        raise BrokenShard(f"the {name} stream is cut off")
