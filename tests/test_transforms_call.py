"""Saved transforms called in every mode: what they give, in which order, and the features that they do not take."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref

import pipeline.tf_estimator  # noqa: F401  first of all

import numpy as np
import pytest
from saved_transforms import (
    DATA,
    SCALED,
    TAXI,
    TAXI_SPEC,
    call_attached,
    call_eagerly,
    call_in_graph,
    every_folder,
    lists,
    scaler_features,
    taxi,
    taxi_features,
    ways,
)

import tensorflow as tf  # isort: skip

import transforms
from pipeline.errors import ModelError
from pipeline.features import Feature

v1 = tf.compat.v1


def python_outputs() -> dict:
    """What `preprocessing_fn` of `data/make_transforms.py` means, in Python."""
    fitted = TAXI["fitted"]
    miles, fares = (np.array([row[name] for row in fitted], np.float32) for name in ("miles", "fare"))
    edges = np.sort(fares)[[5, 10, 15]]  # of 20 rows in 4 buckets
    companies = by_frequency([row["company"] for row in fitted])
    words = by_frequency([word for row in fitted for word in row["words"]])
    rows = TAXI["rows"]
    return {
        "bag": [[index_of(word, words, 1) for word in row["words"]] for row in rows],
        "company": [index_of(row["company"], companies, 2) for row in rows],
        "fare": [int((edges <= row["fare"]).sum()) for row in rows],
        "miles": (np.array([row["miles"] for row in rows]) - miles.mean(dtype=float)) / miles.std(dtype=float),
        "tips": [row["tips"] for row in rows],
    }


def by_frequency(words: list[str]) -> list[str]:
    """The most frequent first; of as frequent ones the last of the alphabet."""
    return sorted(set(words), key=lambda word: (words.count(word), word), reverse=True)


def index_of(word: str, vocabulary: list[str], buckets: int) -> int:
    if word in vocabulary:
        return vocabulary.index(word)
    return len(vocabulary) + int(tf.strings.to_hash_bucket_fast(word, buckets))


@every_folder
@ways
def test_tensorflow_transform_folder_gives_what_its_own_loader_gives(folder, call):
    outputs = call(taxi(folder), taxi_features)
    assert outputs == TAXI[folder]


@every_folder
def test_tensorflow_transform_folder_gives_what_its_function_means(folder):
    outputs, expected = call_attached(taxi(folder), taxi_features), python_outputs()
    np.testing.assert_allclose(outputs.pop("miles"), expected.pop("miles"), rtol=1e-5, atol=1e-6)
    assert outputs == expected
    assert set(outputs["company"]) == set(range(6))
    assert set(outputs["fare"]) == set(range(4))


@ways
def test_module_gives_every_kind_of_output(scaler, call):
    assert call(scaler, scaler_features) == SCALED


@every_folder
def test_specs_of_a_tensorflow_transform_folder(folder):
    transform = taxi(folder)
    assert transform.raw_spec == TAXI_SPEC
    assert transform.output_spec == {
        "bag": transforms.Output("sparse", "int64", (None,)),
        "company": transforms.Output("dense", "int64", ()),
        "fare": transforms.Output("dense", "int64", ()),
        "miles": transforms.Output("dense", "float32", ()),
        "tips": transforms.Output("dense", "float32", ()),
    }


def test_specs_of_a_module(scaler):
    assert scaler.raw_spec == {
        "bag": Feature("bag", "string", "varlen"),
        "image": Feature("image", "float32", "fixed", (28, 28)),
        "list": Feature("list", "int64", "ragged", row_splits="int64"),
        "word": Feature("word", "string"),
        "x": Feature("x", "float32", "fixed", (1,)),
    }
    assert scaler.output_spec == {
        "bag": transforms.Output("sparse", "int64", (None,)),
        "list": transforms.Output("ragged", "int64", (None,)),
        "mean": transforms.Output("dense", "float32", ()),
        "word": transforms.Output("dense", "int64", ()),
        "x": transforms.Output("dense", "float32", (1,)),
    }


@every_folder
def test_order_of_outputs_is_one_everywhere(folder):
    transform = taxi(folder)
    order = ["bag", "company", "fare", "miles", "tips"]
    assert list(transform.output_spec) == order
    assert list(transform(taxi_features())) == order
    dataset = tf.data.Dataset.from_tensors(taxi_features()).map(transform)
    assert list(dataset.element_spec) == order
    assert list(next(iter(dataset))) == order
    with tf.Graph().as_default():
        assert list(transform.attach(taxi_features()).outputs) == order


def test_keras_preprocessing_layers_by_their_signature(tmp_path):
    keras = tf.keras
    inputs = {"a": keras.Input((1,), name="a"), "s": keras.Input((), dtype=tf.string, name="s")}
    outputs = {
        "a_scaled": keras.layers.Normalization(mean=1.0, variance=4.0, name="a_scaled")(inputs["a"]),
        "s_index": keras.layers.StringLookup(vocabulary=["p", "q"], name="s_index")(inputs["s"]),
    }
    keras.Model(inputs, outputs).save(str(tmp_path / "keras"), save_format="tf")
    transform = transforms.load(str(tmp_path / "keras"))
    assert transform.raw_spec == {"a": Feature("a", "float32", "fixed", (1,)), "s": Feature("s", "string")}
    features = {"a": tf.constant([[5.0], [1.0]]), "s": tf.constant(["q", "?"])}
    assert lists(transform(features)) == {"a_scaled": [[2.0], [0.0]], "s_index": [2, 0]}
    assert call_attached(transform, lambda: {"a": tf.constant([[5.0]]), "s": tf.constant(["p"])})["s_index"] == [1]


@pytest.mark.parametrize("use_resource", [True, False], ids=["resource", "reference"])
def test_older_format_with_variables(tmp_path, use_resource):
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("a\nb\n")
    path = str(tmp_path / "transform")
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = {"x": v1.placeholder(tf.float32, [None]), "word": v1.placeholder(tf.string, [None])}
        kernel = v1.get_variable("dense/kernel", initializer=1.0, use_resource=use_resource)
        index = tf.lookup.TextFileIndex
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(str(vocabulary), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER),
            -1,
        )
        outputs = {"x": inputs["x"] * kernel, "word": table.lookup(inputs["word"])}
        session.run(kernel.assign(5.0))
        signature = v1.saved_model.predict_signature_def(inputs, outputs)
        builder = v1.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(
            session,
            ["transform"],
            {"transform_signature": signature},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    vocabulary.unlink()
    transform = transforms.load(path)
    for call in (call_eagerly, call_in_graph, call_attached):
        outputs = call(transform, lambda: {"x": tf.constant([2.0]), "word": tf.constant(["b"])})
        assert outputs == {"word": [1], "x": [10.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "missing: x$"),
        ({"y": tf.constant([1.0])}, "takes exactly the features bag, image, list, word, x; not known to it: y$"),
        (
            {"x": tf.constant([[1], [2]])},
            r"'x' has to be a float32 dense tensor of shape \(None, 1\), got a int32 .*\(2, 1\)$",
        ),
        ({"x": np.array([[1.0], [2.0]])}, r"'x' has to be a float32 .*, got a float64 dense tensor of shape \(2, 1\)$"),
        ({"x": tf.constant([1.0, 2.0])}, r"'x' has to be .* of shape \(None, 1\), got .* of shape \(2,\)$"),
        ({"image": tf.zeros((2, 28, 27))}, r"'image' .* of shape \(None, 28, 28\), got .* \(2, 28, 27\)$"),
        ({"bag": tf.constant([["a"], ["b"]])}, "'bag' has to be a string SparseTensor .*, got a string dense tensor"),
        (
            {"word": tf.sparse.from_dense([["a"]])},
            "'word' has to be a string dense tensor .*, got a string SparseTensor",
        ),
        (
            {"list": tf.ragged.constant([[1.5], [2.5]])},
            "'list' has to be a int64 RaggedTensor .*, got a float32 Ragged",
        ),
    ],
    ids=[
        "missing",
        "extra",
        "int32",
        "float64",
        "rank",
        "shape",
        "dense-for-sparse",
        "sparse-for-dense",
        "ragged-dtype",
    ],
)
def test_other_features_are_refused_by_name(scaler, change, message):
    features = {name: value for name, value in {**scaler_features(), **change}.items() if value is not None}
    with pytest.raises(ModelError, match=message):
        scaler(features)


def test_row_splits_of_either_width_are_taken(scaler):
    features = scaler_features()
    features["list"] = features["list"].with_row_splits_dtype(tf.int32)
    assert lists(scaler(features)) == SCALED


def test_eager_execution_switched_off_is_said(scaler_path):
    # A process of its own: TensorFlow has no way back.
    script = f"""
        import sys, transforms
        assert "tensorflow" not in sys.modules
        import tensorflow as tf
        tf.compat.v1.disable_v2_behavior()
        transform = transforms.load({scaler_path!r})
        def features():
            return {{
                "x": tf.constant([[1.0]]), "word": tf.constant(["b"]), "image": tf.zeros((1, 28, 28)),
                "bag": tf.SparseTensor([[0, 0]], ["a"], [1, 1]),
                "list": tf.RaggedTensor.from_row_splits(tf.constant([4], tf.int64), tf.constant([0, 1], tf.int64)),
            }}
        try:
            transform(features())
        except RuntimeError as error:
            print(error)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            outputs = transform(features())
            session.run(tf.compat.v1.tables_initializer())
            print(session.run(outputs["x"]).tolist(), session.run(outputs["bag"]).values.tolist())
        dataset = tf.data.Dataset.from_tensors(0).map(lambda _: transform(features()))
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        with tf.compat.v1.Session() as session:
            session.run([tf.compat.v1.tables_initializer(), iterator.initializer])
            print(session.run(iterator.get_next())["word"].tolist())
        attached = transform.attach(features())
        with tf.compat.v1.Session() as session:
            session.run(attached.initializer)
            print(session.run(attached.outputs["mean"]).tolist())
        print(tf.compat.v1.global_variables())
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    result = subprocess.run(run, cwd=DATA.parent.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    said, *rest = result.stdout.splitlines()
    assert "symbolic tensor without values" in said
    assert "disable_v2_behavior()" in said
    assert rest == ["[[2.0]] [7]", "[8]", "[0.0]", "[]"]


def test_a_graph_that_called_a_transform_can_go(scaler):
    graph = tf.Graph()
    with graph.as_default():
        scaler(scaler_features())
        scaler(scaler_features())
    assert [operation.type for operation in graph.get_operations()].count("VarHandleOp") == 1
    reference = weakref.ref(graph)
    del graph
    gc.collect()
    assert reference() is None
