"""The process that user code runs in: variables of the environment, `setup`, and the flags of absl."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pipeline.artifacts import Places, stage_named
from pipeline.assets import lay
from pipeline.code import resolve
from pipeline.code_errors import explain_user_error
from pipeline.errors import JobError, ModelError
from pipeline.flags import parse_flags

if TYPE_CHECKING:
    from pipeline.job import Job
    from pipeline.pinned import Pinned

_OF_LIBRARIES = (
    "TF_", "XLA_", "CUDA_", "CUDNN_", "NCCL_", "NVIDIA_", "HIP_", "ROCM_", "OMP_", "KMP_", "MKL_", "ONEDNN_", "DNNL_",
    "TPU_",
)  # fmt: skip
"""Beginnings of variables that TensorFlow and what it rests on read when they are loaded."""

_before: dict[str, str | None] = {}
"""Variables that a job has set here -> what they were."""
_set_up: set[str] = set()


def enter_environment(job: Job) -> None:
    """Make this process one that the user code of a job can run in; calling it again for the same job changes nothing.

    Afterwards the variables of `env` are set, `tf.estimator` exists, `setup` was called, and the flags of `model.argv`
    are parsed. The job's code has to be on `sys.path` (`pipeline.code.add_user_code`), and the paths of assets filled.

    Raises:
      JobError: a variable would come too late, a reference cannot be resolved, or a flag is wrong.
      ModelError: `setup` failed.
    """
    set_variables(job.env, [reference.partition(":")[0] for reference in references(job).values()])
    import pipeline.tf_estimator  # noqa: F401  before any user code is imported

    if job.setup is not None:
        _call_once(job.setup)
    if job.model.argv is not None:
        if not job.model.argv:
            parse_flags([])  # modules may then read their defaults when they are imported
        for key, reference in references(job).items():
            resolve(reference, key)  # which defines the flags
    parse_flags(job.model.argv)


def open_environment(job: Job, staging: str | None = None, pin: Pinned | None = None) -> Places:
    """Find the files that a job names for its code, and make this process ready for that code.

    Args:
      job: its code is on `sys.path`.
      staging, pin: as for `pipeline.launch.open_transform`.
    """
    named = pin.named(job, staging) if pin else stage_named(job.model.assets, staging)
    places = Places(job, named=named)
    with places.named_as_in_job():
        lay(job.model.assets, named)
        enter_environment(places.local_job)
    return places


def references(job: Job) -> dict[str, str]:
    """The job's keys that name user code -> its reference."""
    transform = job.transform.function if job.transform is not None else None
    found = {
        "setup": job.setup,
        "model.estimator": job.model.estimator,
        "model.model_fn": job.model.model_fn,
        "model.serving_input_fn": job.model.serving_input_fn,
        "transform.function": transform,
        "features": job.features if isinstance(job.features, str) else None,
    }
    return {key: reference for key, reference in found.items() if reference is not None}


def set_variables(env: Mapping[str, str], modules: Iterable[str]) -> None:
    """Set variables of the environment, and take back those of an earlier job in this process.

    Args:
      env: name -> value.
      modules: of the user's, which may read variables when they are imported.

    Raises:
      JobError: what reads a variable has been imported already, with another value.
    """
    wanted: dict[str, str | None] = {**_before, **env}
    differing = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    loaded = [module for module in modules if module in sys.modules]
    for name in differing:
        reader = (
            "TensorFlow" if "tensorflow" in sys.modules and name.startswith(_OF_LIBRARIES) else next(iter(loaded), "")
        )
        if reader:
            raise JobError(
                f"env: {name} would come too late: this process has imported {reader} already, with "
                f"{'another value' if name in os.environ else 'no value'} of it. Set {name} before, where the process is started, "
                "or use a new process for this job"
            )
    for name, value in differing.items():
        if name in env:
            _before.setdefault(name, os.environ.get(name))
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    for name in _before.keys() - env.keys():
        del _before[name]


def _call_once(reference: str) -> None:
    if reference in _set_up:
        return
    function = resolve(reference, "setup")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise JobError(f"setup: {reference} is called without arguments: {error}; give them defaults") from error
    except ValueError:
        pass  # a function of C, which has no signature
    try:
        function()
    except Exception as error:
        raise ModelError(explain_user_error(error, f"setup: {reference}")) from error
    _set_up.add(reference)
