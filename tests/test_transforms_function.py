"""A Python function as a transform."""

from __future__ import annotations

import shutil
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  first of all

import pytest
from saved_transforms import call_attached

import tensorflow as tf  # isort: skip

import transforms
from pipeline.errors import ModelError
from pipeline.features import Feature

v1 = tf.compat.v1
X_SPEC = {"x": Feature("x", "float32")}


def test_function_keeps_the_order_of_its_dict():
    transform = transforms.from_function(lambda features: {"z": features["x"], "a": features["x"]}, X_SPEC, "a:b")
    assert list(transform.output_spec) == ["z", "a"]
    assert transform.output_spec["z"] == transforms.Output("dense", "float32", ())
    dataset = tf.data.Dataset.from_tensors({"x": tf.constant([1.0])}).map(transform)
    assert list(dataset.element_spec) == ["z", "a"]


def test_function_is_traced_as_tf_data_traces_it():
    def absolute(features: dict) -> dict:
        total = tf.zeros_like(features["x"])
        for step in tf.range(3):  # only AutoGraph makes a graph of this
            total += features["x"] * tf.cast(step, tf.float32)
        return {"x": total}

    transform = transforms.from_function(absolute, X_SPEC, "a:b")
    assert call_attached(transform, lambda: {"x": tf.constant([1.0, 2.0])}) == {"x": [3.0, 6.0]}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda features: features["x"], "has to return a dict of tensors by name, it returned a float32 dense tensor"),
        (lambda features: None, "has to return a dict of tensors by name, it returned a NoneType$"),
        (lambda features: {"x": [1.0]}, "output 'x' is a list; it has to be a tensor$"),
        (lambda features: {"x": tf.reduce_sum(features["x"])}, r"output 'x' has the shape \(\); its first dimension"),
        (
            lambda features: {"x": tf.ones(4)},
            r"output 'x' has the shape \(4,\); its first dimension has to be the batch$",
        ),
    ],
    ids=["tensor", "none", "list", "scalar", "constant"],
)
def test_function_with_other_outputs_is_refused(function, message):
    transform = transforms.from_function(function, X_SPEC, "trainer:preprocess")
    with tf.Graph().as_default(), pytest.raises(ModelError, match=f"^transform function trainer:preprocess.*{message}"):
        transform.attach({"x": v1.placeholder(tf.float32, [None])})


def test_function_fingerprint_is_of_its_sources(tmp_path):
    source = tmp_path / "features.py"
    source.write_text("a = 1\n")
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copyfile(source, copy / "features.py")

    def fingerprint(*sources: Path) -> str | None:
        return transforms.from_function(dict, X_SPEC, "a:b", [str(path) for path in sources]).fingerprint

    before = fingerprint(source)
    assert fingerprint() is None
    assert fingerprint(copy / "features.py") == before
    source.write_text("a = 2\n")
    assert fingerprint(source) != before
