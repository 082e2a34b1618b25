"""The Estimator of a job, built by the user's own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pipeline.code import call_with_known_arguments, resolve
from pipeline.code_errors import explain_user_error
from pipeline.errors import JobError, ModelError
from pipeline.job.messages import did_you_mean
from pipeline.keras_builder import as_in_a_trainer
from pipeline.kernels import refuse_tpu
from pipeline.params import Params
from pipeline.signature import estimator_of

if TYPE_CHECKING:
    from pipeline.job import Model as ModelSection


def load_estimator(model: ModelSection) -> Any:
    """Build the Estimator that a job names: by its builder, around its bare model_fn, or around a SavedModel.

    A builder gets those of `model_dir`, `params` and `config` that its signature names, and all of `model.args`; `config` is
    a RunConfig of model_dir. The process has to be ready for the user's code (`pipeline.environment.enter_environment`).

    Raises:
      JobError: the reference cannot be resolved, is not a builder, or does not take one of `model.args`.
      ModelError: the user's code fails.
    """
    import pipeline.tf_estimator  # noqa: F401  tf.estimator has to exist before the user's module is imported

    import tensorflow as tf

    if model.saved_model:
        return estimator_of(model)
    key = "model.estimator" if model.estimator else "model.model_fn"
    reference = model.estimator or model.model_fn or ""  # the job file has exactly one of them
    function = resolve(reference, key)
    params: Any = dict(model.params) if model.params_as != "attributes" else Params(model.params)
    try:
        if model.model_fn:
            return tf.estimator.Estimator(function, model_dir=model.model_dir, params=params if model.params else None)
        config = tf.estimator.RunConfig(model_dir=model.model_dir) if model.model_dir else None
        given = {"model_dir": model.model_dir, "params": params, "config": config}
        _check_arguments(function, reference, model.args, given)
        with as_in_a_trainer():
            estimator = call_with_known_arguments(function, given | model.args)
    except (JobError, ModelError):
        raise
    except Exception as error:
        raise ModelError(explain_user_error(error, f"{key}: {reference}")) from error
    if not hasattr(estimator, "model_fn") or not hasattr(estimator, "config"):
        raise JobError(
            f"{key}: {reference} returned a {type(estimator).__name__} where a tf.estimator.Estimator is wanted; "
            "for a bare model_fn write model.model_fn"
        )
    refuse_tpu(estimator, f"{key}: {reference}")
    return estimator


def _check_arguments(function: Callable[..., Any], reference: str, args: Iterable[str], given: Iterable[str]) -> None:
    """Refuse an argument of `model.args` that the builder's signature does not name."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = [parameter.name for parameter in parameters if parameter.kind in by_name]
    for name in args:
        if name not in known:
            close = did_you_mean(name, set(known) - set(given))
            raise JobError(
                f"model.args.{name}: {reference} has no such argument{close if 'did you mean' in close else ''}; its signature "
                f"has {', '.join(known) or 'none by name'}"
            )
