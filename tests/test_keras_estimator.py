"""Keras models that became Estimators: object-based checkpoints, names that do not wander, and a model_dir that stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import pytest
import small_estimators
import tensorflow as tf
import zoo_data
from staged_job import snapshot
from test_equal_to_predict import score, write_job
from zoo import KINDS, Kind

from pipeline import keras_builder
from pipeline.code import add_user_code, resolve
from pipeline.commands import main
from pipeline.errors import ModelError
from pipeline.estimator import load_estimator
from pipeline.job.file import load_job
from pipeline.scorer import Scorer

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def model_dir(model_dir_of: Callable[[Kind], str]) -> str:
    return model_dir_of(KINDS["keras_sequential"])


def job_of(kind: Kind, model_dir: str, folder: Path, **model: Any) -> Path:
    zoo_data.write_shards(folder, zoo_data.split(zoo_data.make_rows(kind), 2), kind.spec)
    return write_job(folder, kind.spec, kind.module.model_section() | model, model_dir, batch=50)


def test_a_builder_called_again_gives_the_same(model_dir: str, tmp_path: Path) -> None:
    kind = KINDS["keras_sequential"]
    job = job_of(kind, model_dir, tmp_path)
    rows = {"numbers": [row["numbers"] for row in zoo_data.make_rows(kind, 20)]}
    before = snapshot(Path(model_dir))
    tables = []
    for _ in range(3):
        with Scorer.from_config(str(job)) as scorer:
            tables.append(scorer.score(rows))

    assert [name for name in tables[0].column_names if name not in zoo_data.PASSTHROUGH] == ["dense_1"]
    assert tables[0] == tables[1] == tables[2]
    assert snapshot(Path(model_dir)) == before


def test_nothing_is_written_where_the_model_lies(model_dir: str, tmp_path: Path) -> None:
    production = Path(shutil.copytree(model_dir, tmp_path / "production"))
    shutil.rmtree(production / "keras")  # as where checkpoints alone were copied there
    before = snapshot(production)
    job = job_of(KINDS["keras_sequential"], str(production), tmp_path)

    assert main(["check", "--config", str(job)]) == 0
    score(job)

    assert snapshot(production) == before


def test_names_of_layers_that_the_module_makes_when_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_builder, "_made_by_imports", {})  # other tests import no such module
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "made_at_import.py").write_text(
        "import tensorflow as tf\n"
        "FIRST = tf.keras.layers.Dense(2)\n"
        "def build_estimator(model_dir):\n"
        "    model = tf.keras.Sequential([tf.keras.layers.Input((3,), name='x'), FIRST, tf.keras.layers.Dense(1)])\n"
        "    model.compile(tf.keras.optimizers.legacy.SGD(), 'mse')\n"
        "    return tf.keras.estimator.model_to_estimator(model, model_dir=model_dir)\n"
    )
    add_user_code([str(tmp_path / "code" / "made_at_import.py")])
    tf.keras.layers.Dense(1)
    # A launch imports all modules before it builds anything.
    resolve("made_at_import:build_estimator", "model.estimator")
    for _ in range(2):
        model = load_job_model(tmp_path, "made_at_import:build_estimator")
        estimator = load_estimator(model)
        with tf.Graph().as_default() as graph:
            tf.compat.v1.train.create_global_step(graph)
            features = {"x": tf.compat.v1.placeholder(tf.float32, (None, 3))}
            spec = estimator.model_fn(features, None, tf.estimator.ModeKeys.PREDICT, estimator.config)
        assert list(spec.predictions) == ["dense_1"]


def load_job_model(folder: Path, reference: str) -> Any:
    (folder / "model").mkdir(exist_ok=True)
    path = folder / "job.yaml"
    path.write_text(
        "input: {pattern: rows.tfrecord}\nfeatures: {x: {dtype: float32, shape: [3]}}\n"
        f"name: made\nmodel: {{estimator: '{reference}', model_dir: model}}\noutput: {{path: out}}\n"
    )
    return load_job(str(path)).model


def network(*units: int) -> Any:
    """Built as the guide does; a Keras session of its own, as in a process of its own."""
    tf.keras.backend.clear_session()
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((6,), name="x"), *(layers.Dense(size) for size in units)])
    model.compile(tf.keras.optimizers.legacy.Adam(), "mse")
    return tf.keras.estimator.model_to_estimator(model)


@pytest.fixture(scope="module")
def checkpoint() -> str:
    return small_estimators.trained(network(5, 4, 1))


def test_all_that_only_training_reads_is_exempt(checkpoint: str) -> None:
    report = small_estimators.check(network(5, 4, 1), checkpoint)
    assert len(report.read) == 6
    assert any("beta_1" in name for name in report.exempt)
    assert any(".OPTIMIZER_SLOT" in name for name in report.exempt)


@pytest.mark.parametrize(
    ("units", "said"),
    [
        pytest.param((5, 1), ["read by no prediction", "dense_2/kernel [4, 1], not in the graph"], id="a layer less"),
        pytest.param(
            (5, 4, 1, 1), ["2 of 9 variables of the graph are missing", "dense_3/kernel [1, 1]"], id="a layer more"
        ),
        pytest.param((5, 7, 1), ["dense_1/kernel: [5, 7] in the graph, [5, 4] in the checkpoint"], id="another size"),
    ],
)
def test_another_architecture(units: tuple[int, ...], said: list[str], checkpoint: str) -> None:
    message = small_estimators.refusal(network(*units), checkpoint)
    assert ".ATTRIBUTES" not in message
    for text in said:
        assert text in message


def test_allow_unused_takes_names_of_the_graph(checkpoint: str) -> None:
    with pytest.raises(ModelError):
        small_estimators.check(network(5, 4), checkpoint)
    report = small_estimators.check(network(5, 4), checkpoint, allow_unused=["dense_2/*"])
    assert len(report.allowed) == 2
