"""Bytes of a checkpoint that are not those its index was written for: the variable is named, of whatever kind it is."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import numpy as np
import pytest
import tensorflow as tf

from pipeline.checkpoint import data_file, read_bundle, resolve
from pipeline.errors import ModelError
from pipeline.tensor_bundle import Bundle, damaged_tensor

tf1 = tf.compat.v1
VARIABLES = {
    "floats": lambda: tf1.get_variable("floats", [300, 7]),
    "parts": lambda: tf1.get_variable("parts", [10, 4], partitioner=tf1.fixed_size_partitioner(3)),
    "texts": lambda: tf1.get_variable(
        "texts", initializer=np.array([[b"ab", b""], [b"x" * 300, b"\0\0"]], object), dtype=tf.string
    ),
    "none": lambda: tf1.get_variable("none", [0, 3]),
    "flags": lambda: tf1.get_variable("flags", initializer=np.array([True, False])),
    "halves": lambda: tf1.get_variable("halves", initializer=tf.ones([3], tf.bfloat16)),
    "global_step": lambda: tf1.get_variable("global_step", initializer=tf.constant(-70000, tf.int64)),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    with tf.Graph().as_default(), tf1.Session() as session:
        for make in VARIABLES.values():
            make()
        session.run(tf1.global_variables_initializer())
        return tf1.train.Saver().save(session, str(tmp_path_factory.mktemp("saved") / "model"))


def opened(path: str, bundle: Bundle, shard: int) -> BinaryIO:
    return Path(data_file(path, shard, bundle)).open("rb")


def test_all_variables_have_bytes_of_their_own(saved: str) -> None:
    bundle = read_bundle(saved)
    assert sorted({extent.name for extent in bundle.extents}) == sorted(VARIABLES)
    assert len(bundle.extents) == len(VARIABLES) + 2
    assert damaged_tensor(bundle, lambda shard: opened(saved, bundle, shard)) is None


@pytest.mark.parametrize("name", [name for name in VARIABLES if name != "none"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_bit_that_turned(name: str, place: str, saved: str, tmp_path: Path) -> None:
    bundle, bad = read_bundle(saved), tmp_path / "data"
    for extent in bundle.extents:
        if extent.name == name:
            data = bytearray(Path(data_file(saved, 0, bundle)).read_bytes())
            data[extent.offset if place == "first" else extent.offset + extent.size - 1] ^= 1
            bad.write_bytes(data)
            assert damaged_tensor(bundle, lambda shard: bad.open("rb")) == name


def test_a_file_that_is_cut_short(saved: str, tmp_path: Path) -> None:
    bundle = read_bundle(saved)
    last = max(bundle.extents, key=lambda extent: extent.offset + extent.size)
    bad = tmp_path / "data"
    bad.write_bytes(Path(data_file(saved, 0, bundle)).read_bytes()[:-1])
    assert damaged_tensor(bundle, lambda shard: bad.open("rb")) == last.name


def test_the_step_of_a_checkpoint_whose_name_does_not_tell(saved: str, tmp_path: Path) -> None:
    assert resolve(None, saved).step == -70000
    bundle = read_bundle(saved)
    (step,) = (extent for extent in bundle.extents if extent.name == "global_step")
    for path in Path(saved).parent.glob("model.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = tmp_path / "model.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: step.offset] + bytes(8) + data.read_bytes()[step.offset + 8 :])
    with pytest.raises(ModelError, match="is damaged: the bytes of 'global_step' are not those"):
        resolve(None, str(tmp_path / "model"))
