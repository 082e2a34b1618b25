"""TFRecord framing: against TensorFlow's own writer, at any block size, and where files are damaged."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zlib
from functools import partial
from typing import BinaryIO

import google_crc32c
import numpy as np
import pytest

from pipeline.errors import BrokenShard
from pipeline.readers import read_shard
from pipeline.readers.tfrecord import read_tfrecord
from pipeline.rows import Columns, Rejected

PAYLOADS = [b"", b"a", b"\0" * 12, *(bytes([index]) * (index * 7 % 100) for index in range(40)), b"x" * 5000]


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


PLAIN = b"".join(map(frame, PAYLOADS))
COMPRESSED = {
    "plain": PLAIN,
    "gzip": gzip.compress(PLAIN),
    "zlib": zlib.compress(PLAIN),
    "gzip of two members": gzip.compress(PLAIN[:700]) + gzip.compress(PLAIN[700:]),
    "gzip padded with zeros": gzip.compress(PLAIN) + b"\0" * 100,
}


Outcome = tuple[list[tuple[int, bytes]], list[Rejected], str | None]
"""Good rows, rejected rows, and how the shard broke."""


def read(data: bytes, block_bytes: int = 1 << 20, rows: int = 7) -> Outcome:
    """What a shard gives: the same as a stream, such as of a remote file, and as a file on this machine."""
    streamed = outcome(io.BytesIO(data), block_bytes, rows)
    with tempfile.NamedTemporaryFile() as written:
        written.write(data)
        written.flush()
        with open(written.name, "rb") as file:
            assert outcome(file, block_bytes, rows) == streamed
    return streamed


def outcome(file: BinaryIO, block_bytes: int, rows: int) -> Outcome:
    good: list[tuple[int, bytes]] = []
    rejected: list[Rejected] = []
    count = 0
    try:
        for chunk in read_tfrecord(file, rows=rows, max_bytes=1 << 20, block_bytes=block_bytes):
            assert chunk.read == chunk.rows.num_rows + len(chunk.rejected) <= rows
            count += chunk.read
            good += zip(chunk.rows.column("_row").to_pylist(), chunk.rows.column("record").to_pylist(), strict=True)
            rejected += chunk.rejected
    except BrokenShard as error:
        return good, rejected, str(error)
    assert sorted([row for row, _ in good] + [row.row for row in rejected]) == list(range(count))
    return good, rejected, None


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 13, 64, 1 << 20])
def test_any_block_size(compression, block_bytes):
    assert read(COMPRESSED[compression], block_bytes) == (list(enumerate(PAYLOADS)), [], None)


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_files_of_tensorflow(tmp_path, compression):
    tf = pytest.importorskip("tensorflow")
    path = str(tmp_path / "shard")
    with tf.io.TFRecordWriter(path, compression) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    with open(path, "rb") as file:
        assert read(file.read())[0] == list(enumerate(PAYLOADS))


def test_empty_files():
    assert read(b"") == ([], [], None)
    assert read(gzip.compress(b"")) == ([], [], None)


def test_a_damaged_payload_costs_its_record():
    position = len(b"".join(map(frame, PAYLOADS[:10]))) + 12
    damaged = bytearray(PLAIN)
    damaged[position] ^= 1
    good, rejected, broken = read(bytes(damaged))
    assert broken is None
    assert good == [pair for pair in enumerate(PAYLOADS) if pair[0] != 10]
    [row] = rejected
    assert (row.row, row.stage, row.reason) == (10, "read", "record 10: data checksum does not match")
    assert row.record == bytes(damaged[position : position + len(PAYLOADS[10])])


@pytest.mark.parametrize("block_bytes", [1, 64, 1 << 20])
@pytest.mark.parametrize(
    ("data", "rows", "reason"),
    [
        (PLAIN[:-1], len(PAYLOADS) - 1, f"record {len(PAYLOADS) - 1}: the file ends inside it"),
        (frame(b"ab") + frame(b"c")[:11], 1, "record 1: the file ends inside its length"),
        (frame(b"ab") + frame(b"c")[:12], 1, "record 1: the file ends inside it"),
        (frame(b"ab") + b"\0" * 16, 1, "record 1: length checksum does not match"),
        (b"no records at all", 0, "record 0: length checksum does not match"),
        (b"short", 0, "record 0: the file ends inside its length"),
    ],
    ids=["cut", "cut length", "cut payload", "length", "other file", "short file"],
)
def test_broken_containers(data, rows, reason, block_bytes):
    good, rejected, broken = read(data, block_bytes)
    assert (len(good), rejected, broken) == (rows, [], reason)


@pytest.mark.parametrize("length", [2**31, 2**63], ids=["2 GiB", "2**63"])
def test_an_absurd_length_allocates_nothing(length):
    header = struct.pack("<Q", length)
    data = frame(b"ab") + header + masked(header) + b"rest"
    assert read(data)[2] == f"record 1: its length is {length:,} bytes, more than 2 GiB"


def test_a_length_beyond_the_file_breaks_it():
    header = struct.pack("<Q", 2**30)
    assert read(frame(b"ab") + header + masked(header) + b"rest")[2] == "record 1: the file ends inside it"


def incompressible(records: int) -> bytes:
    return b"".join(frame(np.random.default_rng(index).bytes(1000)) for index in range(records))


@pytest.mark.parametrize("name", ["gzip", "zlib"])
def test_broken_streams(name):
    records = incompressible(100)
    stream = gzip.compress(records) if name == "gzip" else zlib.compress(records)
    good, _, broken = read(stream[: len(stream) // 2], 1000)
    assert 40 < len(good) < 60
    assert broken == f"the {name} stream is cut off"
    assert read(stream[:-1])[2] == f"the {name} stream is cut off"
    assert read(stream + b"more")[2] == f"the {name} stream is followed by something else"
    assert len(read(stream + b"more")[0]) == 100
    damaged = stream[:-2] + bytes([stream[-2] ^ 1]) + stream[-1:]
    assert read(damaged)[2] == f"the {name} stream is damaged"


def test_chunks_are_bounded_by_bytes():
    data = b"".join(frame(b"x" * 1000) for _ in range(100))
    chunks = list(read_tfrecord(io.BytesIO(data), rows=1000, max_bytes=10_000))
    assert [chunk.read for chunk in chunks] == [10] * 10


class ShortReads(io.BytesIO):
    """A remote file may give less than was asked for."""

    def read(self, size=-1):
        return super().read(min(size, 5) if size > 0 else size)


def test_short_reads_of_a_remote_file():
    for data in COMPRESSED.values():
        [chunk] = read_shard(partial(ShortReads, data), "tfrecord", Columns({}))
        assert chunk.rows.column("record").to_pylist() == PAYLOADS


def test_a_file_that_cannot_be_opened_is_a_broken_shard(tmp_path):
    with pytest.raises(BrokenShard, match=r"^the file cannot be opened \(FileNotFoundError\)$"):
        list(read_shard(lambda: (tmp_path / "none").open("rb"), "tfrecord", Columns({})))
