"""Keys of a SavedModel as the model: `saved_model`, `signature` and `tags` of `model`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.job.messages import KeyPath

if TYPE_CHECKING:
    from pipeline.job import Job

_OF_CODE = (
    "estimator", "model_fn", "model_dir", "checkpoint", "params", "params_as", "args", "serving_input_fn", "features",
    "allow_unused",
)  # fmt: skip
"""Keys of `model` that mean nothing to a graph that is there already."""


def saved_model_mistakes(job: Job) -> Iterator[tuple[KeyPath, str]]:
    """What does not go with `model.saved_model`, or needs it."""
    model = job.model
    if model.saved_model is None:
        for key in ("signature", "tags"):
            if getattr(model, key) is not None:
                yield ("model", key), "is of a SavedModel, and there is no model.saved_model; leave it out"
        return
    if model.saved_model.endswith((".keras", ".h5", ".hdf5")):
        yield (
            ("model", "saved_model"),
            "is a file of Keras, which holds no signature; export it where it can be loaded: model.export(FOLDER) (or "
            "tf.saved_model.save(model, FOLDER)), and name that folder",
        )
    for key in _OF_CODE:
        if getattr(model, key) != type(model).model_fields[key].get_default():
            owner = "a model_fn, and a signature takes its inputs by name" if key == "features" else "an Estimator"
            yield ("model", key), f"goes with {owner}; model.saved_model is the model here: leave one of them out"
