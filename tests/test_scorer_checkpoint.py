"""Which checkpoint a Scorer takes, and what of its job file can be given otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # makes tf.estimator exist

import linear_model
import numpy as np
import pytest
import tensorflow as tf
from test_equal_to_predict import write_job
from test_scorer import ROWS, assert_scores, predicted

import pipeline.job
from pipeline import Scorer
from pipeline.checkpoint import Best
from pipeline.errors import ModelError

EXPECTED_CHOICE = "checkpoint: expected 'latest', a step, a path or pipeline.checkpoint.Best"


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    return linear_model.make_columns(ROWS)


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An Estimator with checkpoints of steps 3 and 6, of which 3 was evaluated better."""
    columns = linear_model.make_columns(64, seed=1)
    estimator = linear_model.build_estimator(str(tmp_path_factory.mktemp("linear") / "model"))

    def input_fn(label: float) -> Any:
        return tf.data.Dataset.from_tensors((columns, np.full(64, label, np.float32)))

    for evaluated_on in (0.0, 1000.0):
        estimator.train(lambda: input_fn(0.5).repeat(), steps=3)
        estimator.evaluate(lambda label=evaluated_on: input_fn(label))
    return estimator


@pytest.mark.parametrize(
    ("choice", "step"),
    [
        ("latest", 6),
        (3, 3),
        (6, 6),
        (Best("loss", "min"), 3),
        (Best("loss", "max"), 6),
        (np.int64(3), 3),
        ("model.ckpt-3", 3),
        (Path("model.ckpt-3"), 3),
    ],
    ids=["latest", "step", "last step", "best", "worst", "step of numpy", "path", "Path"],
)
def test_choice_of_the_checkpoint(choice: Any, step: int, two_checkpoints: Any, columns: dict[str, np.ndarray]) -> None:
    folder = Path(two_checkpoints.model_dir)
    if str(choice).startswith("model.ckpt"):
        choice = type(choice)(folder / choice)
    expected = {
        number: predicted(two_checkpoints, columns, checkpoint_path=str(folder / f"model.ckpt-{number}"))
        for number in (3, 6)
    }
    assert not np.array_equal(expected[3]["score"], expected[6]["score"])
    with Scorer(two_checkpoints, checkpoint=choice) as scorer:
        assert_scores(scorer.score(columns), expected[step])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (4, "there is no checkpoint of step 4 in .*; there are steps 0, 3, 6: set model.checkpoint to one of them"),
        ("lost/model.ckpt-4", "there is no checkpoint at lost/model.ckpt-4"),
        (None, f"{EXPECTED_CHOICE}, got builtins.NoneType"),
        (3.0, f"{EXPECTED_CHOICE}, got builtins.float"),
        (pipeline.job.Best(metric="loss", mode="min"), f"{EXPECTED_CHOICE}, got pipeline.job.Best"),
    ],
    ids=["step", "path", "None", "float", "Best of a job file"],
)
def test_a_checkpoint_that_is_not_there(choice: Any, message: str, two_checkpoints: Any) -> None:
    with pytest.raises(ModelError, match=f"^{message}"):
        Scorer(two_checkpoints, checkpoint=choice)


def test_overrides_of_a_job_file(two_checkpoints: Any, columns: dict[str, np.ndarray], tmp_path: Path) -> None:
    job = {"features": linear_model.FEATURES, "model": {"estimator": "linear_model:build_estimator"}}
    path = write_job(tmp_path, job["features"], job["model"], two_checkpoints.model_dir, batch=ROWS)
    path.write_text(path.read_text().replace(str(Path("tests") / "zoo"), str(Path("tests") / "linear_model.py")))
    expected = predicted(
        two_checkpoints, columns, checkpoint_path=str(Path(two_checkpoints.model_dir) / "model.ckpt-3")
    )
    overrides = ["model.checkpoint=3", "output.predictions=[score]"]
    with Scorer.from_config(str(path), overrides=overrides) as scorer:
        assert_scores(scorer.score(columns), {"score": expected["score"]})
