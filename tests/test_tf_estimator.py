"""The real tf.estimator: there on every TensorFlow we know, in place where it was, refused with a reason elsewhere."""

import os
import subprocess
import sys

import pytest

from pipeline import tf_estimator

import tensorflow as tf  # isort: skip

NATIVE = tf.__version__.startswith("2.15")

TRAINER = """
import pipeline.tf_estimator
import tensorflow as tf
import tensorflow.compat.v1 as tf1

assert tf1.estimator.ModeKeys.PREDICT == tf.estimator.ModeKeys.PREDICT == "infer"
column = tf1.feature_column.numeric_column("x")
estimator = tf.estimator.LinearRegressor([column], model_dir={folder!r})
batches = lambda: tf.data.Dataset.from_tensors(({{"x": [[1.0], [2.0]]}}, [[3.0], [5.0]])).repeat()
estimator.train(batches, steps=300)
rows = lambda: tf.data.Dataset.from_tensors({{"x": [[1.0], [2.0]]}})
print([abs(float(row["predictions"][0]) - wanted) < 0.5 for row, wanted in zip(estimator.predict(rows), (3, 5))])
"""


def run(code, **environment):
    env = {name: value for name, value in os.environ.items() if name not in ("TF_USE_LEGACY_KERAS", *environment)}
    env |= {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=100, check=False
    )


def test_user_code_trains_and_predicts_by_its_usual_names(tmp_path):
    done = run(TRAINER.format(folder=str(tmp_path)))
    assert done.stdout.strip() == "[True, True]", done.stderr


def test_it_is_the_code_of_the_package_and_not_one_of_ours():
    assert tf.estimator.Estimator.__module__ == "tensorflow_estimator.python.estimator.estimator"
    assert tf.compat.v1.estimator.Estimator.__module__ == "tensorflow_estimator.python.estimator.estimator"
    assert tf.compat.v1.estimator.Estimator is not tf.estimator.Estimator  # the two generations are two classes


@pytest.mark.skipif(not NATIVE, reason="only TensorFlow 2.15 has a tf.estimator of its own")
def test_nothing_is_touched_where_nothing_is_missing():
    code = """
import os, sys
import tensorflow as tf
from tensorflow.python.util import tf_export
def state():
    return (sorted(vars(tf)), sorted(vars(tf_export)), dict(tf_export.API_ATTRS), dict(tf_export.API_ATTRS_V1),
            sorted(name for name in sys.modules if name.startswith("tensorflow")), os.environ.get("TF_USE_LEGACY_KERAS"))
before = state()
import pipeline.tf_estimator
print(state() == before)
"""
    done = run(code)
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.skipif(NATIVE, reason="TensorFlow 2.15 needs no stand-ins")
def test_what_was_removed_from_tensorflow_raises_when_it_is_used():
    from tensorflow.python.tpu import tpu_embedding

    with pytest.raises(NotImplementedError, match=r"tpu_embedding\.AdamParameters was removed from TensorFlow"):
        tpu_embedding.AdamParameters(0.1)


@pytest.mark.skipif(NATIVE, reason="on TensorFlow 2.15 nothing is done to the log")
def test_no_notice_tells_to_move_to_keras(tmp_path):
    done = run(TRAINER.format(folder=str(tmp_path)))
    assert "deprecated" not in done.stderr
    assert "cuda" not in done.stderr.lower()


def test_a_tensorflow_that_is_not_known_is_refused(monkeypatch):
    monkeypatch.setattr(tf, "__version__", "2.19.1")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    before = dict(os.environ)
    with pytest.raises(ImportError, match=r"TensorFlow 2.19.1 is not known to work .* 2.15.\*, 2.21.\*"):
        tf_estimator.install()
    assert dict(os.environ) == before


@pytest.mark.skipif(NATIVE, reason="TensorFlow 2.15 has legacy Keras built in")
@pytest.mark.parametrize(
    ("code", "environment", "message"),
    [
        pytest.param("", {"TF_USE_LEGACY_KERAS": "0"}, "needs legacy Keras", id="Keras 3 asked for"),
        pytest.param("sys.modules['tf_keras'] = None", {}, "tf-keras is missing: pip install", id="no tf-keras"),
        pytest.param(
            "import tf_keras; tf_keras.__version__ = '2.16.0'",
            {},
            "does not match TensorFlow 2.21",
            id="another tf-keras",
        ),
        pytest.param(
            "sys.modules['tensorflow_estimator'] = None",
            {},
            "tensorflow-estimator==2.15.0",
            id="no tensorflow-estimator",
        ),
    ],
)
def test_a_missing_piece_is_named_with_its_remedy(code, environment, message):
    environment = {"TF_USE_LEGACY_KERAS": "1", **environment}
    done = run(f"import sys\n{code}\nimport pipeline.tf_estimator", **environment)
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]


def test_importing_the_package_imports_neither_tensorflow_nor_beam():
    code = "import sys, pipeline, transforms; print({'tensorflow', 'apache_beam'} & set(sys.modules))"
    assert run(code).stdout.strip() == "set()"
