"""Models that cannot be scored here are refused at launch, each with the true reason and the way on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import heads_model
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commands import main

CODE = """
import tensorflow as tf

def build_estimator(model_dir, params):
    def model_fn(features, labels, mode, params):
        value = features["x"][:, 0]
{body}
        return tf.estimator.EstimatorSpec(mode, {{"score": score}})
    return tf.estimator.Estimator(model_fn, model_dir, params=params)
"""
BODIES = {
    "boosted trees": "score = tf.raw_ops.BoostedTreesBucketize(float_values=[value], bucket_boundaries=[[0.5]])[0]",
    "boosted trees in a function": """
        @tf.function
        def bucket(number):
            return tf.raw_ops.BoostedTreesBucketize(float_values=[number], bucket_boundaries=[[0.5]])[0]

        score = tf.cond(tf.constant(True), lambda: bucket(value), lambda: tf.cast(value, tf.int32))""",
    "TPU": "score = tf.raw_ops.TPUReplicatedOutput(input=value, num_replicas=1)[0]",
    "GPU": "score = tf.raw_ops.CudnnRNN(input=features['x'][None], input_h=[[[0.0]]], input_c=[[[0.0]]], params=value)[0][0]",
    "no prediction": """
        tf.raw_ops.BoostedTreesBucketize(float_values=[value], bucket_boundaries=[[0.5]])
        score = value * 2""",
}
"""What the predictions of a model_fn rest on; TensorFlow builds each and runs none."""

NUMBERS = itertools.count()
"""For modules of other names: no process takes two of one name."""


def code_of(body: str) -> str:
    lines = body if body.startswith("\n") else f"        {body}"
    return CODE.format(body=lines.strip("\n"))


REFUSED: dict[str, tuple[str, int, list[str]]] = {
    "tf.contrib": (
        "import tensorflow as tf\n\ndef build_estimator(model_dir):\n    return tf.contrib.learn.DNNClassifier([4])\n",
        6,
        ["model.py:4", "tf.contrib.learn.DNNClassifier was removed in TensorFlow 2", "export a SavedModel", "model.saved_model"],
    ),
    "import of tf.contrib": (
        "from tensorflow.contrib import layers\n\ndef build_estimator(model_dir):\n    pass\n",
        2,
        ["model.py:1", "tf.contrib was removed in TensorFlow 2", "export a SavedModel", "model.saved_model"],
    ),
    "canned boosted trees": (
        "import tensorflow as tf\n\ndef build_estimator(model_dir):\n    return tf.estimator.BoostedTreesClassifier([], 1)\n",
        6,
        ["model.py:4", "boosted trees were removed in TensorFlow 2.9", "TensorFlow 2.8 or older", "Decision Forest"],
    ),
    "operations of boosted trees": (
        code_of(BODIES["boosted trees"]), 6,
        ["the graph has the operation BoostedTreesBucketize", "no kernel on this machine", "TensorFlow 2.8 or older"],
    ),
    "operations of boosted trees in a function": (
        code_of(BODIES["boosted trees in a function"]), 6,
        ["the graph has the operation BoostedTreesBucketize", "no kernel on this machine", "TensorFlow 2.8 or older"],
    ),
    "operations that no prediction needs": (
        code_of(BODIES["no prediction"]), 6, ["the graph has the operation BoostedTreesBucketize"],
    ),
    "operations of TPUs": (
        code_of(BODIES["TPU"]), 6,
        ["the graph has the operation TPUReplicatedOutput", "no kernel on this machine", "use_tpu=False"],
    ),
    "operations of other devices": (
        code_of(BODIES["GPU"]), 6,
        ["the graph has the operation CudnnRNN", "score it with the TensorFlow that trained it"],
    ),
    "an Estimator for TPUs": (
        "import heads_model\n\ndef build_estimator(config):\n    return heads_model.on_a_tpu(True)(config)\n", 6,
        ["model:build_estimator returned a TPUEstimator with use_tpu=True", "build it with use_tpu=False"],
    ),
    "one layer more than the checkpoint": (
        "import heads_model\n\ndef build_estimator(config):\n    return heads_model.classifier(config, hidden=[4, 4])\n", 6,
        ["hiddenlayer_1", "model"],
    ),
    "one layer less than the checkpoint": (
        "import heads_model\n\ndef build_estimator(config):\n    return heads_model.classifier(config, hidden=[])\n", 6,
        ["hiddenlayer_0", "model"],
    ),
    "another kind of Estimator": (
        "import heads_model\nimport tensorflow as tf\n\ndef build_estimator(config):\n"
        "    return tf.estimator.LinearClassifier(heads_model.wide_columns(), config=config)\n", 6,
        ["linear/linear_model", "model"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("refused") / "model")
    heads_model.train(heads_model.build_estimator(path, {"head": "added_metrics"}), "two")
    return path


@pytest.fixture
def score(tmp_path: Path, classifier_dir: str, capfd: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    """Scores with a builder's source; gives the exit code and what was said."""

    def run(source: str) -> tuple[int, str]:
        module = f"of_test_{next(NUMBERS)}_model"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        columns: Mapping[str, Any] = heads_model.make_features(8)
        pq.write_table(pa.table({**columns, "x": columns["x"].tolist()}), tmp_path / "rows.parquet")
        job = {
            "name": "refused",
            "code": [str(tmp_path / f"{module}.py"), heads_model.__file__],
            "input": {"pattern": str(tmp_path / "rows.parquet")},
            "features": heads_model.FEATURES,
            "model": {"estimator": f"{module}:build_estimator", "model_dir": classifier_dir, "allow_unused": ["*"]},
            "output": {"path": str(tmp_path / "out")},
        }
        if "heads_model" in source:
            del job["model"]["allow_unused"]  # type: ignore[attr-defined]
        (tmp_path / "job.yaml").write_text(json.dumps(job), encoding="utf-8")
        return main(["score", "--config", str(tmp_path / "job.yaml"), "--quiet"]), capfd.readouterr().err

    return run


@pytest.mark.parametrize(("source", "code", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_at_launch(source: str, code: int, said: list[str], score: Any, tmp_path: Path) -> None:
    ended, error = score(source)
    assert [text for text in said if text not in error] == [], error
    assert ended == code
    assert not list((tmp_path / "out").glob("part-*"))
