"""What is refused when a transform is loaded, each with its own message."""

from __future__ import annotations

import shutil
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  first of all

import pytest
from saved_transforms import DATA, lists

import tensorflow as tf  # isort: skip

import transforms
from pipeline.errors import ModelError

v1 = tf.compat.v1


def estimator_export(path: Path, parse: bool) -> str:
    def model_fn(features, labels, mode):
        predictions = v1.layers.dense(features["x"], 1)
        outputs = {"serving_default": tf.estimator.export.PredictOutput(predictions)}
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=predictions, export_outputs=outputs)
        loss = tf.reduce_mean(predictions)
        train_op = v1.train.GradientDescentOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = tf.estimator.Estimator(model_fn, str(path / "model"))
    estimator.train(lambda: tf.data.Dataset.from_tensors({"x": tf.ones((2, 1))}), steps=1)
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
    parsing = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)

    def raw():
        features = {"x": v1.placeholder(tf.float32, [None, 1])}
        return tf.estimator.export.ServingInputReceiver(features, features)

    return estimator.export_saved_model(str(path / "export"), parsing if parse else raw).decode()


def edited(path: Path, edit) -> str:
    """A copy of the taxi folder with another graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    shutil.copytree(DATA / "taxi_tft_v1", path / "edited")
    file = path / "edited" / "transform_fn" / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    edit(saved_model)
    file.write_bytes(saved_model.SerializeToString())
    return str(path / "edited")


def replace_operation(name: str):
    def edit(saved_model) -> None:
        nodes = saved_model.meta_graphs[0].graph_def.node
        next(node for node in nodes if node.op == "Sqrt").op = name
        saved_model.meta_graphs[0].meta_info_def.tensorflow_version = "1.12.0"

    return edit


def without(name: str):
    def make(path: Path) -> str:
        shutil.copytree(DATA / "taxi_tft", path / "copy")
        (path / "copy" / name).unlink()
        return str(path / "copy")

    return make


def with_content(name: str, content: bytes):
    def make(path: Path) -> str:
        shutil.copytree(DATA / "taxi_tft", path / "copy")
        (path / "copy" / name).write_bytes(content)
        return str(path / "copy")

    return make


def module(*specs: tf.TypeSpec, returns=lambda features: features):
    """A saved tf.Module with one function for each spec of its feature x."""

    def make(path: Path) -> str:
        saved = tf.Module()
        for index, spec in enumerate(specs):
            setattr(saved, f"function_{index}", tf.function(returns, input_signature=[{"x": spec}]))
        tf.saved_model.save(saved, str(path / "module"))
        return str(path / "module")

    return make


def unable_kernel(path: Path) -> str:
    bucketize = getattr(tf.raw_ops, "BoostedTreesBucketize", None)
    if bucketize is None:
        pytest.skip("this TensorFlow does not have the operation at all")
    return module(
        tf.TensorSpec((None,)),
        returns=lambda features: {"x": bucketize(float_values=[features["x"]], bucket_boundaries=[[1.0]])[0]},
    )(path)


ROWS = tf.TensorSpec((None,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: str(path / "nowhere"), r"nowhere does not exist$"),
        (str, r"holds neither transform_fn/saved_model.pb \(a TensorFlow Transform output folder\) nor saved_model.pb"),
        (with_content("transform_fn/saved_model.pb", b"\x07not"), r"saved_model.pb is damaged or no SavedModel"),
        (without("transform_fn/assets/words"), r"lacks words in .*/transform_fn/assets; copy the whole folder$"),
        (
            without("transform_fn/variables/variables.index"),
            r"made with TensorFlow 2.21.0; TensorFlow \S+ cannot load it: ",
        ),
        (
            lambda path: estimator_export(path, True),
            r"is the export of a trained model, not a transform: it takes serialized",
        ),
        (
            lambda path: estimator_export(path, False),
            r"is the export of a trained model, not a transform\. Name the folder",
        ),
        (lambda path: edited(path, lambda saved: saved.meta_graphs.add()), "has 2 graphs where a transform has one"),
        (
            lambda path: edited(path, replace_operation("TensorForestGone")),
            r"was made with TensorFlow 1.12.0 and has operations that TensorFlow \S+ does not know: TensorForestGone\. Make it",
        ),
        (unable_kernel, r"needs the operation BoostedTreesBucketize, which TensorFlow \S+ cannot run; make it again$"),
        (
            module(),
            r"has no function over a dict of features and no signature 'serving_default' \(its signatures: none\)",
        ),
        (
            module(ROWS, ROWS),
            r"has several functions over a dict of features: function_0, function_1; save a tf.Module",
        ),
        (
            module(tf.TensorSpec((), tf.float32)),
            r"input 'x' has the shape \(\); its first dimension has to be the batch",
        ),
        (module(tf.TensorSpec(None)), r"input 'x' has the shape unknown; its first dimension has to be the batch"),
        (module(tf.TensorSpec((None, None))), r"input 'x' has the shape \(None, None\); every dimension but the batch"),
        (module(tf.TensorSpec((None,), tf.complex64)), r"input 'x' is a complex64, which no feature can be$"),
        (
            module(ROWS, returns=lambda features: features["x"]),
            r"has to return a dict .* returned a float32 dense tensor",
        ),
        (
            module(ROWS, returns=lambda features: {"mean": tf.reduce_mean(features["x"])}),
            r"output 'mean' has the shape \(\); its first dimension has to be the batch$",
        ),
        (
            module(ROWS, returns=lambda features: {"three": tf.zeros((3,))}),
            r"output 'three' has the shape \(3,\); its first dimension has to be the batch$",
        ),
        (
            module(ROWS, returns=lambda features: {"more": tf.concat([features["x"], [1.0]], 0)}),
            r"output 'more' has rows where there are none in the batch$",
        ),
    ],
    ids=[
        *("missing", "no-saved-model", "damaged", "asset-missing", "variables-missing", "export", "raw-export"),
        *("two-graphs", "unknown-operation", "no-kernel", "no-function", "two-functions", "no-batch"),
        *("unknown-rank", "unknown-length", "complex", "no-dict", "scalar-output", "constant-output", "longer-output"),
    ],
)
def test_refused_when_loaded(make, message, tmp_path):
    path = make(tmp_path)
    with pytest.raises(ModelError, match=message) as refused:
        transforms.load(path)
    assert str(refused.value).startswith(f"transform {tmp_path}")


def test_a_function_that_needs_a_row_is_loaded(tmp_path):
    def first_largest(features: dict) -> dict:
        return {"x": features["x"], "largest": tf.fill(tf.shape(features["x"]), tf.argmax(features["x"]))}

    transform = transforms.load(module(ROWS, returns=first_largest)(tmp_path))
    assert lists(transform({"x": tf.constant([1.0, 3.0])})) == {"largest": [1, 1], "x": [1.0, 3.0]}
