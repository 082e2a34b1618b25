"""Saved transforms and Python functions: loaded, called in every mode, attached to a model's graph, refused."""

from __future__ import annotations

import functools
import gc
import json
import shutil
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  first of all

import numpy as np
import pytest

import tensorflow as tf  # isort: skip

import transforms
from pipeline.errors import ModelError
from pipeline.features import Feature

v1 = tf.compat.v1
DATA = Path(__file__).parent / "data"
TAXI = json.loads((DATA / "taxi_tft.json").read_text(encoding="utf-8"))
TAXI_SPEC = {
    "company": Feature("company", "string"),
    "fare": Feature("fare", "float32"),
    "miles": Feature("miles", "float32"),
    "tips": Feature("tips", "float32"),
    "words": Feature("words", "string", "varlen"),
}
both_formats = pytest.mark.parametrize("folder", ["taxi_tft", "taxi_tft_v1"], ids=["current-format", "older-format"])


class Scaler(tf.Module):
    """A transform whose variable and table have the names that a model would use."""

    def __init__(self, vocabulary: str | None = None, factor: float = 2.0):
        super().__init__()
        self.kernel = tf.Variable([[factor]], name="dense/kernel")
        words = tf.constant(["a", "b"])
        initializer = (
            tf.lookup.TextFileInitializer(
                vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            if vocabulary
            else tf.lookup.KeyValueTensorInitializer(words, tf.constant([7, 8], tf.int64))
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(
        input_signature=[
            {
                "x": tf.TensorSpec((None, 1), tf.float32),
                "word": tf.TensorSpec((None,), tf.string),
                "image": tf.TensorSpec((None, 28, 28), tf.float32),
                "bag": tf.SparseTensorSpec((None, None), tf.string),
                "list": tf.RaggedTensorSpec((None, None), tf.int64, ragged_rank=1),
            }
        ]
    )
    def __call__(self, features: dict) -> dict:
        bag = features["bag"]
        return {
            "x": features["x"] @ self.kernel,
            "word": self.table.lookup(features["word"]),
            "mean": tf.reduce_mean(features["image"], axis=[1, 2]),
            "bag": tf.SparseTensor(bag.indices, self.table.lookup(bag.values), bag.dense_shape),
            "list": features["list"] * 10,
        }


def scaler_features() -> dict:
    return {
        "x": tf.constant([[1.0], [-3.0]]),
        "word": tf.constant(["b", "?"]),
        "image": tf.stack([tf.fill((28, 28), 0.5), tf.zeros((28, 28))]),
        "bag": tf.RaggedTensor.from_row_lengths(tf.constant(["a", "b"]), [0, 2]).to_sparse(),
        "list": tf.RaggedTensor.from_row_lengths(tf.constant([1, 2, 3], tf.int64), [2, 1]),
    }


SCALED = {"bag": [[], [7, 8]], "list": [[10, 20], [30]], "mean": [0.5, 0.0], "word": [8, -1], "x": [[2.0], [-6.0]]}


@functools.cache
def taxi(folder: str) -> transforms.Transform:
    return transforms.load(str(DATA / folder))


def taxi_features() -> dict:
    features = {name: tf.constant([row[name] for row in TAXI["rows"]]) for name in TAXI_SPEC if name != "words"}
    words = [row["words"] for row in TAXI["rows"]]
    features["words"] = tf.ragged.constant(words).to_sparse()
    return features


def lists(outputs: dict) -> dict:
    """Values of a batch, eager tensors or what a session gave, as lists a row."""

    def rows(value: object) -> list:
        if isinstance(value, (tf.SparseTensor, v1.SparseTensorValue)):
            dense_rows: list = [[] for _ in range(int(value.dense_shape[0]))]
            for (row, _), item in zip(
                np.asarray(value.indices).tolist(), np.asarray(value.values).tolist(), strict=True
            ):
                dense_rows[row].append(item)
            return dense_rows
        return value.to_list() if hasattr(value, "to_list") else np.asarray(value).tolist()

    return {name: rows(value) for name, value in outputs.items()}


@pytest.fixture(scope="module")
def scaler_path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("scaler") / "transform")
    tf.saved_model.save(Scaler(), path)
    return path


@pytest.fixture(scope="module")
def scaler(scaler_path):
    return transforms.load(scaler_path)


# Ways of calling a transform: each takes it and a function that makes eager or graph features, and gives lists.


def call_eagerly(transform, features):
    return lists(transform(features()))


def call_in_dataset(transform, features):
    (batch,) = tf.data.Dataset.from_tensors(features()).map(transform)
    return lists(batch)


def call_in_function(transform, features):
    return lists(tf.function(transform)(features()))


def call_in_graph(transform, features):
    with tf.Graph().as_default(), v1.Session() as session:
        outputs = transform(features())
        session.run(v1.tables_initializer())
        return lists(session.run(outputs))


def call_in_graph_dataset(transform, features):
    with tf.Graph().as_default(), v1.Session() as session:
        dataset = tf.data.Dataset.from_tensors(0).map(lambda _: transform(features()))
        iterator = v1.data.make_initializable_iterator(dataset)
        session.run(v1.tables_initializer())
        session.run(iterator.initializer)
        return lists(session.run(iterator.get_next()))


def call_attached(transform, features):
    def unknown(tensor):  # as in scoring: the graph knows neither the values nor how many rows there are
        return v1.placeholder_with_default(tensor, [None, *tensor.shape[1:]])

    with tf.Graph().as_default() as graph:
        attached = transform.attach(tf.nest.map_structure(unknown, features(), expand_composites=True))
        graph.finalize()
        with v1.Session() as session:
            session.run(attached.initializer)
            return lists(session.run(attached.outputs))


ways = pytest.mark.parametrize(
    "call", [call_eagerly, call_in_dataset, call_in_function, call_in_graph, call_in_graph_dataset, call_attached]
)


@both_formats
@ways
def test_tensorflow_transform_folder_gives_what_its_own_loader_gives(folder, call):
    outputs = call(taxi(folder), taxi_features)
    assert outputs == TAXI[folder]
    assert np.std(outputs["miles"]) > 0.5


@ways
def test_module_gives_every_kind_of_output(scaler, call):
    assert call(scaler, scaler_features) == SCALED


@both_formats
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


@both_formats
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


# The digest


@both_formats
def test_a_copy_elsewhere_has_the_same_fingerprint_and_outputs(folder, tmp_path):
    copy = tmp_path / "other name"
    shutil.copytree(DATA / folder, copy, copy_function=shutil.copyfile)
    (copy / "transform_fn" / "fingerprint.pb").unlink(missing_ok=True)
    (copy / ".DS_Store").write_text("x")
    (copy / "transform_fn" / "assets" / ".DS_Store").write_text("x")
    (copy / "notes.txt").write_text("x")
    moved = transforms.load(f"{copy}/")
    assert moved.fingerprint == taxi(folder).fingerprint
    assert lists(moved(taxi_features())) == TAXI[folder]


def permute(folder: Path) -> None:
    vocabulary = folder / "transform_fn" / "assets" / "company"
    vocabulary.write_text("\n".join(vocabulary.read_text().splitlines()[::-1]) + "\n")


def add_word(folder: Path) -> None:
    vocabulary = folder / "transform_fn" / "assets" / "words"
    vocabulary.write_text(vocabulary.read_text() + "another\n")


def change_schema(folder: Path) -> None:
    schema = folder / "transformed_metadata" / "schema.pbtxt"
    schema.write_text(schema.read_text().replace("max: 3", "max: 4"))


@both_formats
@pytest.mark.parametrize("change", [permute, add_word, change_schema])
def test_another_content_has_another_fingerprint(folder, change, tmp_path):
    shutil.copytree(DATA / folder, tmp_path / "changed")
    change(tmp_path / "changed")
    assert transforms.load(str(tmp_path / "changed")).fingerprint != taxi(folder).fingerprint


def test_another_variable_has_another_fingerprint(scaler, tmp_path):
    changed = Scaler()
    path = str(tmp_path / "changed")
    tf.saved_model.save(changed, path)
    before = transforms.load(path).fingerprint
    graph = (tmp_path / "changed" / "saved_model.pb").read_bytes()
    changed.kernel.assign([[2.0000002]])
    tf.saved_model.save(changed, path)
    (tmp_path / "changed" / "saved_model.pb").write_bytes(graph)
    assert transforms.load(path).fingerprint != before


# Features it does not take


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


# Inside a model's graph


def model(x: tf.Tensor) -> tf.Tensor:
    with v1.variable_scope("dense"):
        kernel = v1.get_variable("kernel", (1, 1), initializer=v1.constant_initializer(0.0))
    words = tf.constant(["b"])
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, tf.constant([100.0])), 0.0)
    return x @ kernel + table.lookup(words)


def trained_checkpoint(path: Path) -> str:
    """A checkpoint of `model` with kernel 3, by a graph that knows of no transform."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.train.create_global_step()
        model(tf.constant([[1.0]]))
        session.run(v1.global_variables_initializer())
        session.run(v1.global_variables("dense/kernel")[0].assign([[3.0]]))
        return v1.train.Saver().save(session, str(path / "model.ckpt"), global_step=1)


def vocabulary_function(vocabulary: str):
    """The scaler once more, as the kind of function that people wrote for TensorFlow 1."""

    def preprocess(features: dict) -> dict:
        with v1.variable_scope("dense"):
            kernel = v1.get_variable("kernel", (1, 1), initializer=v1.constant_initializer(2.0))
        index = tf.lookup.TextFileIndex
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(vocabulary, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER), -1
        )
        return {"x": features["x"] @ kernel, "word": table.lookup(features["word"])}

    raw_spec = {"x": Feature("x", "float32", "fixed", (1,)), "word": Feature("word", "string")}
    return transforms.from_function(preprocess, raw_spec, "trainer:preprocess")


@pytest.mark.parametrize("kind", ["saved", "function"])
def test_the_model_does_not_notice_an_attached_transform(kind, scaler, tmp_path):
    checkpoint = trained_checkpoint(tmp_path)
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("a\nb\n")
    transform = scaler if kind == "saved" else vocabulary_function(str(vocabulary))
    with tf.Graph().as_default() as graph:
        v1.train.create_global_step()
        features = {name: value for name, value in scaler_features().items() if name in transform.raw_spec}
        collections = {key: graph.get_collection(key) for key in graph.collections}
        known = set(graph.get_operations())
        attached = transform.attach(features)
        assert {key: graph.get_collection(key) for key in graph.collections} == collections
        made = [operation.name for operation in graph.get_operations() if operation not in known]
        assert {name.split("/")[0] for name in made} == {"attached_transform"}
        assert attached.assets == ([] if kind == "saved" else [str(vocabulary)])

        scores = model(attached.outputs["x"])
        assert [variable.op.name for variable in v1.global_variables()] == ["global_step", "dense/kernel"]
        assert v1.report_uninitialized_variables().shape.as_list() == [None]
        creator = v1.train.ChiefSessionCreator(checkpoint_filename_with_path=checkpoint)
        with v1.train.MonitoredSession(session_creator=creator) as session:
            assert graph.finalized
            session.run(attached.initializer)
            words, values = session.run((attached.outputs["word"], scores))
    assert words.tolist() == ([8, -1] if kind == "saved" else [1, -1])
    assert values.tolist() == [[106.0], [82.0]]  # x * 2 of the transform * 3 of the model + 100 of the model's table


def test_attached_twice_each_has_its_own_variables(scaler, tmp_path):
    tf.saved_model.save(Scaler(factor=5.0), str(tmp_path / "other"))
    other = transforms.load(str(tmp_path / "other"))
    with tf.Graph().as_default(), v1.Session() as session:
        both = [transform.attach(scaler_features()) for transform in (scaler, other)]
        session.run([attached.initializer for attached in both])
        values = session.run([attached.outputs["x"] for attached in both])
    assert [value.tolist() for value in values] == [[[2.0], [-6.0]], [[5.0], [-15.0]]]


def test_an_estimator_trains_through_a_transform_and_saves_nothing_of_it(scaler, tmp_path):
    def input_fn():
        dataset = tf.data.Dataset.from_tensors(tf.constant([[1.0], [-3.0]]))
        return dataset.map(lambda labels: (scaler(scaler_features()), labels))

    def model_fn(features, labels, mode):
        predictions = v1.layers.dense(features["x"], 1, use_bias=False)
        loss = v1.losses.mean_squared_error(labels, predictions)
        train_op = v1.train.GradientDescentOptimizer(0.01).minimize(loss, v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=train_op)

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    estimator.train(input_fn, steps=1)
    assert estimator.get_variable_names() == ["dense/kernel", "global_step"]


# What is refused when it is loaded


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


# Python functions

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
