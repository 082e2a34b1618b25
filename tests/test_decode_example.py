"""What is wrong with a tf.Example, in words: told if and only if TensorFlow refuses it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from test_decode import MISSING, scalar

from pipeline.decode import explain_example
from pipeline.features import Feature, to_tensorflow
from pipeline.rows import Columns, PassThrough


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def example(tf, **lists):
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


def test_explain_agrees_with_parse_example(tf):
    """Every combination of a feature with a value: explained if and only if TensorFlow refuses it."""
    values = {
        "absent": None,
        "no kind": tf.train.Feature(),
        **{
            f"{count} int64": tf.train.Feature(int64_list=tf.train.Int64List(value=range(count)))
            for count in (0, 1, 3, 4)
        },
        **{
            f"{count} float": tf.train.Feature(float_list=tf.train.FloatList(value=range(count))) for count in (0, 1, 4)
        },
        **{
            f"{count} bytes": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"] * count))
            for count in (0, 1, 4)
        },
    }
    reasons = []
    for dtype in ("int64", "float32", "string"):
        default = "d" if dtype == "string" else 1
        for feature in (
            Feature("x", dtype), Feature("x", dtype, default=default), Feature("x", dtype, "fixed", (2, 2)),
            Feature("x", dtype, "fixed", (4,), (default,) * 4), Feature("x", dtype, "varlen"), Feature("x", dtype, "ragged"),
        ):  # fmt: skip
            for name, value in values.items():
                record = example(tf, **({} if value is None else {"x": value}))
                reason = explain_example(record, Columns({"x": feature}))
                try:
                    tf.io.parse_example([record], to_tensorflow({"x": feature}))
                    refused = False
                except tf.errors.InvalidArgumentError:
                    refused = True
                assert (reason is not None) == refused, (feature, name, reason)
                reasons.append(reason)
    assert len(set(reasons)) > 10


def test_explain_example_in_words(tf):
    columns = Columns(
        {"fare": scalar("float32"), "image": Feature("image", "int64", "fixed", (28, 28))},
        frozenset(["tips"]),
        {"fare": "price"},
        {"trip": PassThrough("trip", pa.int64())},
    )

    def explain(fare=1.0, image=784, trip=None):
        lists = {"image": tf.train.Feature(int64_list=tf.train.Int64List(value=[0] * image))}
        if fare is not None:
            lists["price"] = tf.train.Feature(float_list=tf.train.FloatList(value=[fare]))
        if trip is not None:
            lists["trip"] = trip
        return explain_example(example(tf, **lists), columns)

    assert explain() is None
    assert explain(fare=None) == f"feature 'fare': {MISSING}"
    assert explain(image=783) == "feature 'image': expected shape (28, 28) = 784 values, found 783 values"
    bytes_list = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"7"]))
    assert explain(trip=bytes_list) == "pass-through column 'trip': expected int64 (int64_list), found bytes_list"
    assert explain_example(b"\xff\xff", columns) == "the record is not a tf.Example"
