"""A transform inside the graph of a model that must not notice it."""

from __future__ import annotations

from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  first of all

import pytest
from saved_transforms import Scaler, scaler_features

import tensorflow as tf  # isort: skip

import transforms
from pipeline.features import Feature

v1 = tf.compat.v1


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
