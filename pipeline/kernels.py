"""What this TensorFlow can build and not run: operations whose kernels were removed, and those of TPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.errors import ModelError

_REMEDIES = {
    "BoostedTrees": "boosted trees were removed in TensorFlow 2.9, and an exported model has the same operations: score it "
    "with TensorFlow 2.8 or older, or train it anew as a TensorFlow Decision Forest",
    "TPU": "it is an operation of TPUs: build the Estimator with use_tpu=False, and leave tpu.rewrite and the like to "
    "TRAIN mode; the checkpoint is the same",
}
"""Beginning of a type of operations -> what to do. https://github.com/tensorflow/tensorflow/issues/76826"""
_REMEDY = "score it with the TensorFlow that trained it, or write the operation anew in what this one has"


def check_kernels(graph: Any) -> None:
    """Refuse a graph with an operation that has no kernel here, whether a prediction needs it or not: TensorFlow places all.

    It tells so itself when the first row is scored, by an error that bad rows have too.

    Raises:
      ModelError: names the operation and what to do.
    """
    import tensorflow as tf

    runnable = _with_kernels()
    for name, kind in _operations(graph):
        if kind not in runnable:
            remedy = next((text for start, text in _REMEDIES.items() if kind.startswith(start)), _REMEDY)
            raise ModelError(
                f"the graph has the operation {kind} ({name!r}), for which TensorFlow {tf.__version__} has no kernel on this "
                f"machine; {remedy}"
            )


def refuse_tpu(estimator: Any, place: str) -> None:
    """Refuse an Estimator that was built for TPUs: its model_fn gets to know, and may do otherwise there.

    Raises:
      ModelError: names the place, and what to write.
    """
    if getattr(getattr(estimator, "_ctx", None), "_use_tpu", False):
        raise ModelError(
            f"{place} returned a {type(estimator).__name__} with use_tpu=True, and TPUs are not scored with: build it with "
            "use_tpu=False, such as from model.params; it predicts on CPUs from the same checkpoint"
        )


def _with_kernels() -> set[str]:
    import tensorflow as tf
    from tensorflow.python.framework import kernels

    devices = {"CPU", "DEFAULT"} | ({"GPU"} if tf.config.list_physical_devices("GPU") else set())
    return {kernel.op for kernel in kernels.get_all_registered_kernels().kernel if kernel.device_type in devices}


def _operations(graph: Any) -> Iterator[tuple[str, str]]:
    """Name and type of all operations, those inside functions that are called included."""
    called: list[str] = []
    for operation in graph.get_operations():
        if graph._is_function(operation.type):
            called.append(operation.type)
        else:
            called += _functions(operation.node_def)
            yield operation.name, operation.type
    if not called:
        return
    bodies = {function.signature.name: function for function in graph.as_graph_def().library.function}
    known: set[str] = set()
    while called:
        name = called.pop()
        if name in known or name not in bodies:
            continue
        known.add(name)
        for node in bodies[name].node_def:
            if node.op in bodies:
                called.append(node.op)
            else:
                called += _functions(node)
                yield node.name, node.op


def _functions(node: Any) -> list[str]:
    """Functions that an operation is given to call."""
    named = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return named + [function.name for value in node.attr.values() for function in value.list.func]
