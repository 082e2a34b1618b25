"""The same model scored from its checkpoint and from its own export, by records and by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import pytest
import tensorflow as tf
import yaml
import zoo_data
from test_equal_to_predict import TOLERANCE, differences, predictions_of, score, write_job
from zoo import KINDS, Kind, parsing_spec

EXPORTED = ("wide_deep_classifier", "ragged", "moving_averages", "keras_functional", "keras_sequential")


def placeholder(feature: Any) -> Any:
    tf1 = tf.compat.v1
    if isinstance(feature, tf.io.VarLenFeature):
        return tf1.sparse_placeholder(feature.dtype, (None, None))
    if isinstance(feature, tf.io.RaggedFeature):
        return tf1.ragged.placeholder(feature.dtype, ragged_rank=1, value_shape=[])
    return tf1.placeholder(feature.dtype, (None, *feature.shape))


def receiver_fn(kind: Kind, by_name: bool) -> Callable[[], Any]:
    spec, bare = parsing_spec(kind.spec), kind.module.model_section().get("features")

    def receiver() -> Any:
        if by_name:
            features = {name: placeholder(feature) for name, feature in spec.items()}
            given = tf.estimator.export.ServingInputReceiver(dict(features), features)
        else:
            given = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)()
        if isinstance(bare, str):
            return tf.estimator.export.TensorServingInputReceiver(given.features[bare], given.receiver_tensors)
        return given

    return receiver


@pytest.mark.parametrize("by_name", [False, True], ids=["records", "tensors"])
@pytest.mark.parametrize("name", EXPORTED)
def test_export_scores_as_its_checkpoint(
    name: str, by_name: bool, model_dir_of: Callable[[Kind], str], tmp_path: Path
) -> None:
    kind = KINDS[name]
    model_dir = model_dir_of(kind)
    export = kind.estimator(model_dir).export_saved_model(str(tmp_path / "export"), receiver_fn(kind, by_name)).decode()
    shards = zoo_data.split(zoo_data.make_rows(kind), 2)
    zoo_data.write_shards(tmp_path, shards, kind.spec)
    path = write_job(tmp_path, kind.spec, {}, model_dir, batch=50)
    job = yaml.safe_load(path.read_text(encoding="utf-8"))
    job["model"] = {"saved_model": export}
    if not by_name:
        del job["features"]
    path.write_text(yaml.safe_dump(job, sort_keys=False), encoding="utf-8")

    exported = predictions_of(score(path))

    reference = kind.predict(model_dir, shards, 50)
    constant = {key for key in reference if key not in exported}
    assert constant <= {"all_classes", "all_class_ids"}
    reference = {key: values for key, values in reference.items() if key in exported}
    assert differences(exported, reference, kind, TOLERANCE) == []
