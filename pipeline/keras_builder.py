"""Builders that wrap Keras models: every call names them alike, and none writes into model_dir.

`tf.keras.estimator.model_to_estimator` saves the untrained model as `model_dir/keras/keras_model.ckpt`, for training to
start from; scoring restores another checkpoint, and production stays as it is. Keras numbers layers without a name in
the order they are made in a process, so a second build calls `dense_1` `dense_3`, and with it the prediction.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_BACKENDS = ("tf_keras.src.backend", "keras.src.backend")
"""Modules of legacy Keras, the package of its own and the one that belongs to TensorFlow 2.15."""

_made_by_imports: dict[str, dict[Any, int]] = {}
"""By backend, how many layers of each name the modules of the user made when they were imported: they count for ever."""


@contextmanager
def first_import(module: str) -> Iterator[None]:
    """Around the import of a module of the user: the layers that it makes get their names as in a process of its own."""
    if module in sys.modules:
        yield
        return
    _number_from_imports()
    yield
    for backend in _backends():
        _made_by_imports.setdefault(backend.__name__, {}).update(backend.get_default_graph_uid_map())


@contextmanager
def as_in_a_trainer() -> Iterator[None]:
    """Around the call of a builder: Keras numbers layers as in a process that has only imported the user's modules, and
    `model_to_estimator` writes no checkpoint."""
    from tensorflow_estimator.python.estimator import keras_lib

    _number_from_imports()
    save = keras_lib._save_first_checkpoint
    keras_lib._save_first_checkpoint = lambda *arguments, **named: None
    try:
        yield
    finally:
        keras_lib._save_first_checkpoint = save


def _number_from_imports() -> None:
    for backend in _backends():
        backend.reset_uids()  # and not clear_session, which takes the default graph of the caller away
        backend.get_default_graph_uid_map().update(_made_by_imports.get(backend.__name__, {}))


def _backends() -> list[Any]:
    """Legacy Keras as far as it is loaded, on TensorFlow 2.15 maybe twice; Keras 3 has a module of the second name and none
    of its functions."""
    loaded = (sys.modules.get(name) for name in _BACKENDS)
    return [module for module in loaded if hasattr(module, "get_default_graph_uid_map")]
