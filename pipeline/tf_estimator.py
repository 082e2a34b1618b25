"""The real `tf.estimator`, on TensorFlow versions that no longer carry it.

Import this first in a trainer, before TensorFlow's Keras is touched:

    import pipeline.tf_estimator
    import tensorflow as tf

    tf.estimator.Estimator(...)

TensorFlow 2.16 removed `tf.estimator`; the package tensorflow-estimator 2.15.0 still holds all of its code and misses
little of TensorFlow: one API name in `tf_export`, and a few modules that are wanted when it is imported and never called
to train or predict on CPU or GPU. They are put in place, the package is imported, and its public modules become
`tf.estimator` and `tf.compat.v1.estimator`. On TensorFlow 2.15 nothing is missing and nothing is touched.

https://github.com/tensorflow/tensorflow/issues/76349; guarded by tests/test_tf_estimator.py.
"""

from __future__ import annotations

import logging
import os
import sys
import types
import warnings

from pipeline.garbage import importing
from pipeline.quiet import without_start_up_lines

KNOWN_VERSIONS = ("2.15", "2.21")
"""TensorFlow minor versions that the tests run on."""

_ABSENT_MODULES = {
    "tensorflow.python.distribute.estimator_training": (),
    "tensorflow.python.tpu.session_support": (),
    "tensorflow.python.tpu.tpu_embedding_gradient": (),
    "tensorflow.python.tpu.tpu_embedding": (
        "AdagradParameters",
        "AdamParameters",
        "FtrlParameters",
        "MomentumParameters",
        "ProximalAdagradParameters",
        "RMSPropParameters",
        "StochasticGradientDescentParameters",
    ),
}


def install() -> None:
    """Make `tf.estimator` exist; does nothing where it does already.

    Raises:
      ImportError: the TensorFlow version is not one that is known to work, a package is missing, or Keras 3 was loaded
        before this module.
    """
    own_setting = "TF_USE_LEGACY_KERAS" not in os.environ
    if own_setting:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"  # from 2.16 on it is read when TensorFlow is imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when the C++ library is loaded
    with without_start_up_lines(), importing():
        import tensorflow as tf

    minor = ".".join(tf.__version__.split(".")[:2])
    if own_setting and (minor == "2.15" or minor not in KNOWN_VERSIONS):
        del os.environ["TF_USE_LEGACY_KERAS"]  # 2.15 reads it later, and would ask for the package tf-keras
    if minor not in KNOWN_VERSIONS:
        raise ImportError(
            f"TensorFlow {tf.__version__} is not known to work with tf.estimator; "
            f"install one of {', '.join(f'{version}.*' for version in KNOWN_VERSIONS)}"
        )
    if minor == "2.15":
        return
    if "estimator" in vars(tf):
        return
    _require_legacy_keras(minor)
    _add_export_name()
    for name, classes in _ABSENT_MODULES.items():
        _add_module(name, classes)
    try:
        with importing():
            from tensorflow_estimator._api.v1 import estimator as estimator_v1
            from tensorflow_estimator._api.v2 import estimator as estimator_v2
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error.name} is missing: pip install 'tensorflow-estimator==2.15.0' 'tf-keras=={minor}.*'"
        ) from error
    _quiet_deprecations()
    tf.estimator = estimator_v2
    tf.compat.v2.estimator = estimator_v2
    tf.compat.v1.estimator = estimator_v1
    sys.modules["tensorflow.estimator"] = estimator_v2
    sys.modules["tensorflow.compat.v1.estimator"] = estimator_v1


def _require_legacy_keras(minor: str) -> None:
    if os.environ.get("TF_USE_LEGACY_KERAS") not in ("1", "true", "True"):
        raise ImportError(
            "TF_USE_LEGACY_KERAS is set to something else than 1; tf.estimator needs legacy Keras (tf-keras). "
            "Unset it, or import pipeline.tf_estimator first"
        )
    try:
        import tf_keras
    except ModuleNotFoundError as error:
        raise ImportError(f"tf-keras is missing: pip install 'tf-keras=={minor}.*'") from error
    if ".".join(tf_keras.__version__.split(".")[:2]) != minor:
        raise ImportError(
            f"tf-keras {tf_keras.__version__} does not match TensorFlow {minor}: pip install 'tf-keras=={minor}.*'"
        )


def _add_export_name() -> None:
    from tensorflow.python.util import tf_export

    if hasattr(tf_export, "ESTIMATOR_API_NAME"):
        return
    tf_export.ESTIMATOR_API_NAME = "estimator"
    attributes = tf_export._Attributes
    tf_export.API_ATTRS["estimator"] = attributes("_estimator_api_names", "_estimator_api_constants")
    tf_export.API_ATTRS_V1["estimator"] = attributes("_estimator_api_names_v1", "_estimator_api_constants_v1")


def _add_module(name: str, classes: tuple[str, ...]) -> None:
    """Put an empty stand-in where `import name` fails; a class of it raises when it is made."""
    import importlib

    try:
        importlib.import_module(name)
        return
    except ModuleNotFoundError:
        pass
    module = types.ModuleType(
        name, "Removed from TensorFlow; stands here so that tensorflow_estimator can be imported."
    )
    for class_name in classes:
        setattr(module, class_name, type(class_name, (_Removed,), {"__module__": name}))
    parent, _, leaf = name.rpartition(".")
    sys.modules[name] = module
    setattr(importlib.import_module(parent), leaf, module)


class _Removed:
    def __init__(self, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(f"{type(self).__module__}.{type(self).__name__} was removed from TensorFlow")


class _DeprecationFilter(logging.Filter):
    """Drops a notice for every second symbol: they tell users of tf.estimator to move to what they cannot move to."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Instructions for updating" not in str(record.msg)


def _quiet_deprecations() -> None:
    warnings.filterwarnings("ignore", r"`tf\.layers\.", UserWarning)
    from tensorflow.python.platform import tf_logging

    tf_logging.get_logger().addFilter(_DeprecationFilter())


install()
