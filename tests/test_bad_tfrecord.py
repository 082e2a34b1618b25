"""TFRecord shards with bad records or broken framing: what each costs, and what the command says of it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import bad_inputs
import pytest
import tensorflow as tf
from bad_inputs import (
    BAD,
    FEATURES,
    PASSTHROUGH,
    TEXT_MARK,
    BadRow,
    Bench,
    BrokenShard,
    Row,
    example,
    make_rows,
    tfrecord,
    with_rows,
)

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + TEXT_MARK.encode() * 20


BAD_RECORDS: dict[str, tuple[Callable[[Row], bytes], str]] = {
    "no proto": (lambda row: b"\xff\xff" + TEXT_MARK.encode(), "the record is not a tf.Example"),
    "proto cut off": (lambda row: example(row)[:-5], "the record is not a tf.Example"),
    "text": (lambda row: f'{{"x": 1, "note": "{TEXT_MARK}"}}'.encode(), "the record is not a tf.Example"),
    "empty record": (lambda row: b"", "feature 'x': missing, and it has no default"),
    "missing": (
        lambda row: example({name: value for name, value in row.items() if name != "x"}),
        "feature 'x': missing, and it has no default",
    ),
    "two values for one": (
        lambda row: example({**row, "x": [31337313.0, 2.0]}),
        "feature 'x': expected one value, found 2 values",
    ),
    "empty list": (
        lambda row: _with_empty_list(row, "x"),
        "feature 'x': expected one value, found an empty list",
    ),
    "3 of 4 values": (
        lambda row: example({**row, "pixels": [31337313.0, 2.0, 3.0]}),
        "feature 'pixels': expected shape (2, 2) = 4 values, found 3 values",
    ),
    "text for float": (
        lambda row: example({**row, "x": TEXT_MARK}),
        "feature 'x': expected float32 (float_list), found bytes_list",
    ),
    "integer for float": (
        lambda row: example({**row, "x": 31337313}),
        "feature 'x': expected float32 (float_list), found int64_list",
    ),
    "float for integer": (
        lambda row: example({**row, "n": 31337313.5}),
        "feature 'n': expected int64 (int64_list), found float_list",
    ),
    "integers for a list of text": (
        lambda row: example({**row, "words": [31337313, 2]}),
        "feature 'words': expected string (bytes_list), found int64_list",
    ),
    "pass-through of another kind": (
        lambda row: example({**row, "id": TEXT_MARK}),
        "pass-through column 'id': expected int64 (int64_list), found bytes_list",
    ),
    "two values to pass through": (
        lambda row: example({**row, "note": [TEXT_MARK, TEXT_MARK]}),
        "pass-through column 'note': expected one value, found 2",
    ),
    "bytes to pass through as text": (
        lambda row: example({**row, "note": b"\xff" + TEXT_MARK.encode()}),
        "pass-through column 'note': its text is not UTF-8; write dtype: binary",
    ),
}


@pytest.mark.fault("one-bad-row")
def test_bad_records_cost_themselves(bench: Bench) -> None:
    shards, bad = {}, {}
    for kind, rows, (spoil, reason) in with_rows(BAD_RECORDS):
        records = [example(row) for row in rows]
        bad[kind] = records[BAD] = spoil(rows[BAD])
        shards[kind] = BadRow(tfrecord(records), rows, reason)
    outcome = bench.assert_bad_rows_cost_themselves(shards)
    assert {Path(row["_shard"]).stem: row["_record"] for row in outcome.rejected} == bad


def test_image_that_lacks_a_pixel(bench: Bench) -> None:
    rows = make_rows(5)
    for row in rows:
        row["pixels"] = [float(row["id"] + place % 3) for place in range(784)]
    records = [example(row) for row in rows]
    records[BAD] = example({**rows[BAD], "pixels": rows[BAD]["pixels"][:783]})
    bench.settings = {"features": {**FEATURES, "pixels": {"dtype": "float32", "shape": [28, 28]}}}

    reason = "feature 'pixels': expected shape (28, 28) = 784 values, found 783 values"
    bench.assert_bad_rows_cost_themselves({"images": BadRow(tfrecord(records), rows, reason)})


def test_record_with_a_wrong_checksum(bench: Bench) -> None:
    rows = make_rows(5)
    shard = bytearray(tfrecord([example(row) for row in rows]))
    place = shard.index(f"{TEXT_MARK} note {BAD}".encode())
    shard[place] ^= 1
    reason = f"record {BAD}: data checksum does not match"
    outcome = bench.assert_bad_rows_cost_themselves({"flipped": BadRow(bytes(shard), rows, reason)})
    assert f"{TEXT_MARK[1:]} note {BAD}".encode() in outcome.rejected[0]["_record"]


def test_rejected_row_without_its_record(bench: Bench) -> None:
    rows = make_rows(3)
    bench.shard(tfrecord([example(rows[0]), b"\xff" + TEXT_MARK.encode(), example(rows[2])]))
    outcome = bench.score(errors={"max_bad_rows": 1, "keep_record": False})
    assert outcome.reasons == [("a.tfrecord", 1, "read", "the record is not a tf.Example")]
    assert outcome.rejected[0]["_record"] is None


def test_bytes_pass_through_as_binary(bench: Bench) -> None:
    rows = make_rows(3)
    bench.shard(tfrecord([example({**row, "note": b"\xff" + TEXT_MARK.encode()}) for row in rows]))
    outcome = bench.score(output={"passthrough": {**PASSTHROUGH, "note": {"from": "note", "dtype": "binary"}}})
    assert outcome.code == 0, outcome.error
    assert outcome.scored == bench.expected(rows)


def framed_lengths(rows: list[Row]) -> list[int]:
    """Where each record's frame begins, and where the last one ends."""
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(tfrecord([example(row)])))
    return ends


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def broken_length(plain: bytes, starts: list[int]) -> bytes:
    return flipped(plain, starts[BAD] + 1)


BROKEN_SHARDS: dict[str, tuple[Callable[[bytes, list[int]], bytes], int, str]] = {
    "a wrong length": (broken_length, BAD, f"record {BAD}: length checksum does not match"),
    "a wrong length that is compressed": (
        lambda plain, starts: gzip.compress(broken_length(plain, starts)),
        BAD,
        f"record {BAD}: length checksum does not match",
    ),
    "cut off inside a record": (lambda plain, starts: plain[:-9], 4, "record 4: the file ends inside it"),
    "cut off inside a checksum": (lambda plain, starts: plain[:-1], 4, "record 4: the file ends inside it"),
    "cut off inside a length": (
        lambda plain, starts: plain[: starts[4] + 7],
        4,
        "record 4: the file ends inside its length",
    ),
    "gzip cut off": (lambda plain, starts: gzip.compress(plain)[:-12], 4, "the gzip stream is cut off"),
    "gzip and something else": (
        lambda plain, starts: gzip.compress(plain) + TEXT_MARK.encode(),
        5,
        "the gzip stream is followed by something else",
    ),
    "gzip with a wrong checksum": (
        lambda plain, starts: flipped(gzip.compress(plain), -6),
        0,
        "the gzip stream is damaged",
    ),
    "zlib cut off": (lambda plain, starts: zlib.compress(plain)[:-3], 5, "the zlib stream is cut off"),
    "an image": (lambda plain, starts: PNG, 0, "record 0: length checksum does not match"),
    "text": (
        lambda plain, starts: f"x,note\n1,{TEXT_MARK}\n".encode(),
        0,
        "record 0: length checksum does not match",
    ),
    "a few bytes": (lambda plain, starts: b"\x05\x00", 0, "record 0: the file ends inside its length"),
}


@pytest.mark.fault("one-broken-shard")
def test_broken_shards_cost_themselves(bench: Bench) -> None:
    shards = {
        kind: BrokenShard(spoil(tfrecord([example(row) for row in rows]), framed_lengths(rows)), rows[:kept], reason)
        for kind, rows, (spoil, kept, reason) in with_rows(BROKEN_SHARDS)
    }
    good = make_rows(3, first=1000)
    bench.assert_broken_shards_cost_themselves(shards, tfrecord([example(row) for row in good]), good)


def test_message_of_a_broken_shard(bench: Bench) -> None:
    path = bench.shard(PNG)
    outcome = bench.score()
    assert outcome.code == 4
    assert outcome.error == (
        "error: 1 of 1 shards are broken, more than errors.max_broken_shards: 0 allows: "
        f"{path} (unreadable: record 0: length checksum does not match)\n"
        "nothing was published; parts that are whole are kept, and are not scored again\n"
    )
    assert outcome.report["error"] == outcome.error.removeprefix("error: ").rstrip()


def test_empty_file_is_a_shard_without_rows(bench: Bench) -> None:
    rows = make_rows(3)
    bench.shard(b"", "a")
    bench.shard(tfrecord([example(row) for row in rows]), "b")
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    assert outcome.states == {"a.tfrecord": ("done", 0, 0), "b.tfrecord": ("done", 3, 0)}
    assert outcome.scored == bench.expected(rows)


@pytest.mark.fault("shard-of-no-bytes")
def test_nothing_but_an_empty_file(bench: Bench) -> None:
    bench.shard(b"")
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    assert outcome.rows == (0, 0, 0)
    assert outcome.success


def _with_empty_list(row: Row, name: str) -> bytes:
    message = tf.train.Example.FromString(example(row))
    message.features.feature[name].float_list.ClearField("value")
    return message.SerializeToString(deterministic=True)
