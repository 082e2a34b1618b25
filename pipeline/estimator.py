"""The Estimator of a job, built by the user's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.code import call_with_known_arguments, resolve
from pipeline.code_errors import explain_user_error
from pipeline.errors import JobError, ModelError

if TYPE_CHECKING:
    from pipeline.job import Model as ModelSection


def load_estimator(model: ModelSection) -> Any:
    """Build the Estimator that a job names: by its builder, or around its bare model_fn.

    A builder gets those of `model_dir`, `params` and `config` that its signature names; `config` is a RunConfig of
    model_dir. The user's code has to be on sys.path already (`pipeline.code.add_user_code`).

    Raises:
      JobError: the reference cannot be resolved or is not a builder.
      ModelError: the user's code fails.
    """
    import pipeline.tf_estimator  # noqa: F401  tf.estimator has to exist before the user's module is imported

    import tensorflow as tf

    key = "model.estimator" if model.estimator else "model.model_fn"
    reference = model.estimator or model.model_fn or ""  # the job file has exactly one of them
    function = resolve(reference, key)
    params = dict(model.params)
    try:
        if model.model_fn:
            return tf.estimator.Estimator(function, model_dir=model.model_dir, params=params or None)
        config = tf.estimator.RunConfig(model_dir=model.model_dir) if model.model_dir else None
        estimator = call_with_known_arguments(
            function, {"model_dir": model.model_dir, "params": params, "config": config}
        )
    except (JobError, ModelError):
        raise
    except Exception as error:
        raise ModelError(explain_user_error(error, f"{key}: {reference}")) from error
    if not hasattr(estimator, "model_fn") or not hasattr(estimator, "config"):
        raise JobError(
            f"{key}: {reference} returned a {type(estimator).__name__} where a tf.estimator.Estimator is wanted; "
            "for a bare model_fn write model.model_fn"
        )
    return estimator
