"""What every test needs: TensorFlow's C++ library says less, so that a failure can be read; the kinds of the zoo, trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from zoo import Kind

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported, so before any test module is


@pytest.fixture(scope="session")
def model_dir_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], str]:
    """The `model_dir` of a kind, which is trained when it is first asked for."""
    folder = tmp_path_factory.mktemp("zoo")

    def model_dir(kind: Kind) -> str:
        path = folder / kind.name
        if not path.exists():
            kind.train(str(path))
        return str(path)

    return model_dir


@pytest.fixture(scope="session")
def linear_model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The `model_dir` of the tabular model of `linear_model.py`, trained."""
    import pipeline.tf_estimator  # noqa: F401, I001  makes tf.estimator exist
    import linear_model

    path = str(tmp_path_factory.mktemp("linear") / "model")
    linear_model.train(path)
    return path
