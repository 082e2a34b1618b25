"""What a builder is called with: `model.params_as` and `model.args`."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest

from pipeline.errors import JobError
from pipeline.estimator import load_estimator
from pipeline.job import Model
from pipeline.job.file import load_job
from pipeline.params import Params

pytestmark = pytest.mark.any_tensorflow

BUILDERS = """
import tensorflow as tf

given = {}

def estimator(features, labels, mode, params):
    pass

def build(params, units, model_dir=None, *, rate=0.1):
    given.update(params=params, units=units, rate=rate)
    return tf.estimator.Estimator(estimator, params={})

def takes_all(**kwargs):
    given.update(kwargs)
    return tf.estimator.Estimator(estimator, params={})

def takes_none():
    return tf.estimator.Estimator(estimator, params={})
"""


@pytest.fixture(scope="module")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("builders")
    (folder / "arg_builders.py").write_text(BUILDERS, encoding="utf-8")
    sys.path.append(str(folder))
    import arg_builders

    yield arg_builders
    sys.path.remove(str(folder))


def build(function: str, **model: Any) -> Any:
    return load_estimator(Model.model_validate({"estimator": f"arg_builders:{function}", **model}))


def test_arguments(builders: Any) -> None:
    build("build", args={"units": [8, 4], "rate": 0.5}, params={"depth": 2})
    assert builders.given == {"params": {"depth": 2}, "units": [8, 4], "rate": 0.5}


def test_a_builder_that_takes_all(builders: Any) -> None:
    builders.given.clear()
    build("takes_all", args={"anything": 1})
    assert builders.given == {"anything": 1, "model_dir": None, "params": {}, "config": None}


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        pytest.param(
            "build",
            {"unit": 8},
            r"^model.args.unit: arg_builders:build has no such argument; did you mean 'units'\?; its signature has params, "
            "units, model_dir, rate$",
            id="close",
        ),
        pytest.param("takes_none", {"zzz": 8}, "has no such argument; its signature has none by name$", id="none"),
        pytest.param("build", {}, "requires the argument 'units'", id="missing"),
    ],
)
def test_arguments_that_are_refused(builders: Any, function: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        build(function, args=args)


def test_params_with_attributes(builders: Any) -> None:
    build("build", args={"units": 1}, params={"depth": 2, "rate": None}, params_as="attributes")
    params = builders.given["params"]
    assert isinstance(params, Params)
    assert (params.depth, params.get("depth"), params.get("width", 7), "depth" in params, "width" in params) == (
        2, 2, 7, True, False,
    )  # fmt: skip
    assert params.values() == {"depth": 2, "rate": None}
    assert copy.deepcopy(params) == pickle.loads(pickle.dumps(params)) == params
    with pytest.raises(AttributeError):
        _ = params.width


def test_params_with_attributes_of_a_model_fn(builders: Any) -> None:
    model = {
        "model_fn": "arg_builders:estimator",
        "model_dir": "model",
        "params": {"depth": 2},
        "params_as": "attributes",
    }
    assert load_estimator(Model.model_validate(model)).params.depth == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        pytest.param(
            {"params": {"two words": 1}, "params_as": "attributes"},
            "model.params.two words: cannot be an attribute, as model.params_as wants; rename it",
            id="no identifier",
        ),
        pytest.param(
            {"params": {"values": 1}, "params_as": "attributes"},
            "model.params.values: is a method of params with attributes; rename it, or leave out params_as",
            id="method",
        ),
        pytest.param({"params_as": "object"}, "model.params_as: expected dict or attributes, got text", id="kind"),
        pytest.param({"args": {"params": 1}}, "model.args.params: is given anyway; leave it out", id="given"),
        pytest.param(
            {"estimator": None, "model_fn": "a:b", "model_dir": ".", "args": {"units": 1}},
            "model.args: are of a builder (model.estimator); a model_fn gets its own by model.params",
            id="model_fn",
        ),
        pytest.param({"args": {"since": "2024-05-01"}}, "model.args.since: args cannot hold a date", id="date"),
        pytest.param({"argv": "--units=8"}, "model.argv: expected a list, got text ('--units=8')", id="argv"),
    ],
)
def test_keys_that_are_refused(tmp_path: Path, model: dict[str, Any], message: str) -> None:
    import yaml

    settings = {
        "name": "args",
        "input": {"pattern": "in/*.csv"},
        "features": {"x": {"dtype": "float32"}},
        "model": {"estimator": "a:b"} | model,
        "output": {"path": "out"},
    }
    settings["model"] = {key: value for key, value in settings["model"].items() if value is not None}
    text = yaml.safe_dump(settings).replace("'2024-05-01'", "2024-05-01")
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(JobError) as refused:
        load_job(str(tmp_path / "job.yaml"))
    assert message in str(refused.value)
