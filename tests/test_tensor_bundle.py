"""The index of a checkpoint, read by this project and by TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import ModelError
from pipeline.tensor_bundle import parse_index

tf1 = tf.compat.v1


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Long names that share little, so that the index has several blocks; and every kind of tensor."""
    generator = np.random.default_rng(0)
    names = sorted("/".join(generator.permutation(list("abcdefghijkl"))) * 8 for _ in range(2000))
    tensors = {name: np.full((number % 3 + 1, 2), number, "float32") for number, name in enumerate(names)}
    tensors |= {"steps": np.int64(7), "names": np.array(["a", "bb"]), "größe": np.zeros((0, 3), "uint8")}
    specs = {"embedding": "7 3 0,4:0,3"}
    tensors["embedding"] = np.ones((4, 3), "float32")
    path = str(tmp_path_factory.mktemp("bundle") / "model.ckpt-5")
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=list(tensors),
        shape_and_slices=[specs.get(name, "") for name in tensors],
        tensors=list(tensors.values()),
    )
    return path


@pytest.fixture(scope="module")
def index(prefix):
    return Path(f"{prefix}.index").read_bytes()


def test_names_shapes_and_dtypes_are_those_of_tensorflow(prefix, index):
    reader = tf.train.load_checkpoint(prefix)
    entries = parse_index(index, "model.index").entries
    assert {name: list(entry.shape) for name, entry in entries.items()} == reader.get_variable_to_shape_map()
    dtypes = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
    assert {name: entry.dtype for name, entry in entries.items()} == dtypes
    assert len(entries) == 2004
    assert len(index) > 2**18, "one block is enough for less"


def test_places_are_those_of_the_bytes(prefix, index):
    bundle = parse_index(index, "model.index")
    data = Path(f"{prefix}.data-00000-of-00001").read_bytes()
    for name in sorted(bundle.entries)[500:510]:
        entry = bundle.entries[name]
        assert data[entry.offset : entry.offset + entry.size] == tf.train.load_variable(prefix, name).tobytes()
    assert bundle.num_shards == 1
    assert bundle.shard_bytes == (len(data),)


def test_a_partitioned_variable_has_its_full_shape(index):
    entry = parse_index(index, "model.index").entries["embedding"]
    assert entry.shape == (7, 3)
    assert entry.slices == ("0,4:0,3",)


def test_several_data_files(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("a", (4,))
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "one"))
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("b", (6,))
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(tmp_path / "two"))
        merge = tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=[str(tmp_path / "one"), str(tmp_path / "two")],
            destination_prefix=str(tmp_path / "both"),
        )
        session.run(merge)
    bundle = parse_index((tmp_path / "both.index").read_bytes(), "both.index")
    assert bundle.num_shards == 2
    assert bundle.shard_bytes == (16, 24)
    assert (bundle.entries["a"].shard, bundle.entries["b"].shard) == (0, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "it has 0 bytes, less than its footer of 48"),
        (lambda data: data[:-1], "does not end like an index"),
        (lambda data: data[: len(data) // 2], "does not end like an index"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "the checksum of the block at byte 0 is wrong"),
        (lambda data: data[4096:], "a block ends at byte"),
        (lambda data: data[-48:], "a block ends at byte"),
    ],
    ids=["empty", "one byte short", "half", "one bit", "its start is gone", "footer alone"],
)
def test_a_damaged_index_is_refused(index, damage, message):
    with pytest.raises(ModelError, match="model.index is damaged: .*" + message):
        parse_index(damage(index), "model.index")


def test_every_flipped_byte_is_noticed(index):
    """A checksum or the footer covers every byte, up to the unused ones of the footer."""
    intact = parse_index(index, "model.index")
    for position in [*range(0, len(index) - 48, len(index) // 15), *range(len(index) - 48, len(index))]:
        damaged = index[:position] + bytes([index[position] ^ 0x55]) + index[position + 1 :]
        try:
            assert parse_index(damaged, "model.index") == intact
            assert position >= len(index) - 48
        except ModelError:
            pass


def test_a_compressed_block_is_refused(index):
    """The last block is the index block: its kind stands 5 bytes before the footer, under a checksum that is made anew."""
    import google_crc32c

    offset = _index_block_offset(index)
    block = index[offset : -48 - 5] + b"\1"
    checksum = google_crc32c.value(block)
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    with pytest.raises(ModelError, match="compressed \\(snappy\\)"):
        parse_index(index[:offset] + block + masked.to_bytes(4, "little") + index[-48:], "model.index")


def _index_block_offset(index: bytes) -> int:
    """Found by trying: where the bytes up to the trailer have the checksum that the trailer holds."""
    import google_crc32c

    stored = int.from_bytes(index[-52:-48], "little")
    for offset in range(len(index) - 54, 0, -1):
        checksum = google_crc32c.value(index[offset:-52])
        if ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF == stored:
            return offset
    raise AssertionError("no index block")
