"""The variables of a PREDICT graph against those of a checkpoint: what a restore would miss, bend or leave unread.

A restore looks up names and checks little else. What it does not tell is refused here: a layer that was not built leaves
variables in the checkpoint that no prediction reads, and the scores are silently those of another model.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.object_graph import OBJECT_GRAPH, ObjectGraph, is_object_key
from pipeline.optimizer_names import is_optimizer_state, is_slot
from pipeline.tensor_bundle import Bundle, Entry

if TYPE_CHECKING:
    import tensorflow as tf

_LISTED = 10
_BY_NAME = ObjectGraph()


@dataclass(frozen=True)
class Report:
    """Names in the checkpoint: `read` by a prediction; `exempt`, which none needs to read; `allowed` by the job.

    restored_bytes: what the variables take that the saver restores, read or not; of strings, what is stored of them.
    """

    read: tuple[str, ...]
    exempt: tuple[str, ...]
    allowed: tuple[str, ...]
    restored_bytes: int = 0


@dataclass(frozen=True)
class _Restored:
    """One tensor that the saver asks the checkpoint for, and the variable or table that it is for.

    `shape` is the full one, of a partitioned variable too; None if it is not known, as for a table. `reshaped`: the saver
    takes any shape of that size.
    """

    key: str
    dtype: str
    target: tf.Operation
    shape: tuple[int, ...] | None
    reshaped: bool

    @property
    def name(self) -> str:
        """How messages call it: a key of an object-based checkpoint is no name that the user ever gave."""
        return _resource(self.target) if is_object_key(self.key) else self.key


def check_variables(
    graph: tf.Graph,
    saver: tf.compat.v1.train.Saver,
    predictions: Iterable[Any],
    bundle: Bundle,
    allow_unused: Sequence[str] = (),
    objects: ObjectGraph = _BY_NAME,
) -> Report:
    """Hold the checkpoint against the graph that is about to restore it.

    Args:
      graph: the PREDICT graph.
      saver: that of the finalized Scaffold.
      predictions: the tensors of every key, dense, sparse or ragged.
      bundle: the index of the checkpoint.
      allow_unused: patterns (fnmatch) of checkpoint names that no prediction needs to read.
      objects: the tree of objects of the checkpoint; messages and patterns use the names of variables then.

    Raises:
      ModelError: a variable is missing from the checkpoint, has another shape or dtype there, or is read by no prediction.
    """
    import tensorflow as tf

    restored = _restored(graph, saver)
    outputs = [tensor.op for tensor in tf.nest.flatten(list(predictions), expand_composites=True)]
    reached = _reached_resources(graph, _upstream(outputs))
    read = [item for item in restored if _resource(item.target) in reached]
    unread, exempt = _unread(bundle, restored, read, tf.compat.v1.train.get_global_step(graph), objects)
    allowed = [key for key in unread if _matches(allow_unused, key, objects.name(key))]
    unread = [key for key in unread if key not in allowed]

    problems = [
        *_missing(bundle, restored, objects),
        *_differing(bundle, restored),
        *_unread_message(bundle, unread, {item.key for item in restored}, objects),
    ]
    if problems:
        raise ModelError("\n".join(["the checkpoint is not of this graph:", *problems]))
    read_names = tuple(sorted({item.key for item in read}))
    restored_bytes = sum(_bytes(bundle.entries[key]) for key in {item.key for item in restored})
    return Report(read_names, tuple(exempt), tuple(allowed), restored_bytes)


def _matches(patterns: Sequence[str], *names: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _restored(graph: tf.Graph, saver: tf.compat.v1.train.Saver) -> list[_Restored]:
    """What the saver's restore operation reads, by the names in its constants."""
    import tensorflow as tf

    if saver.saver_def is None or not saver.saver_def.restore_op_name:
        return []  # Saver(allow_empty=True) of a graph without variables
    operations = _upstream([graph.get_operation_by_name(saver.saver_def.restore_op_name)])
    restored = []
    for operation in operations:
        if operation.type not in ("RestoreV2", "RestoreSlice", "Restore"):
            continue
        names = tf.get_static_value(operation.inputs[1]).reshape(-1)
        specs = (
            [b""] * len(names) if operation.type == "Restore" else tf.get_static_value(operation.inputs[2]).reshape(-1)
        )
        for name, spec, output in zip(names, specs, operation.outputs, strict=True):
            target, through = _target(output, operations)
            if target is not None:
                shape = _full_shape(spec.decode()) if spec else _shape(target)
                if through - {"Reshape"}:
                    shape = None
                restored.append(_Restored(name.decode(), output.dtype.base_dtype.name, target, shape, bool(through)))
    return sorted(restored, key=lambda item: item.key)


def _target(tensor: tf.Tensor, operations: set[tf.Operation]) -> tuple[tf.Operation | None, set[str]]:
    """The variable or table that takes a restored tensor, and the types of the operations on the way."""
    import tensorflow as tf

    through: set[str] = set()
    pending = [tensor]
    for value in pending:
        for consumer in value.consumers():
            if consumer not in operations:
                continue
            for source in consumer.inputs:
                if source.dtype == tf.resource or source.dtype._is_ref_dtype:
                    return source.op, through - {"Identity"}
            through.add(consumer.type)
            pending.extend(consumer.outputs)
    return None, through


def _full_shape(spec: str) -> tuple[int, ...]:
    """A spec such as "10 4 0,5:-" has the full shape first, then the slice."""
    return tuple(int(size) for size in spec.split(" ")[:-1])


def _shape(operation: tf.Operation) -> tuple[int, ...] | None:
    import tensorflow as tf

    if operation.type not in ("VarHandleOp", "VariableV2", "Variable"):
        return None
    shape = tf.TensorShape(operation.get_attr("shape"))
    return tuple(shape) if shape.is_fully_defined() else None


def _bytes(entry: Entry) -> int:
    import tensorflow as tf

    return entry.size if entry.dtype == "string" else math.prod(entry.shape) * tf.as_dtype(entry.dtype).size


def _resource(operation: tf.Operation) -> str:
    """Two handles of one shared name are one variable."""
    if operation.type == "VarHandleOp":
        return operation.get_attr("shared_name").decode() or operation.name
    return operation.name


def _upstream(operations: Iterable[tf.Operation]) -> set[tf.Operation]:
    """The operations, and all that have to run before them."""
    pending = list(operations)
    seen = set(pending)
    while pending:
        operation = pending.pop()
        for source in (*(tensor.op for tensor in operation.inputs), *operation.control_inputs):
            if source not in seen:
                seen.add(source)
                pending.append(source)
    return seen


def _reached_resources(graph: tf.Graph, operations: set[tf.Operation]) -> set[str]:
    """Variables and tables among the operations, and those that a function they call names in its body.

    What a function captures is among the inputs of the call already.
    """
    resources = {_resource(operation) for operation in operations}
    called = {name for operation in operations for name in _called(operation.node_def)}
    if called:
        bodies = {function.signature.name: function for function in graph.as_graph_def().library.function}
        pending = list(called)
        while pending:
            body = bodies.get(pending.pop())
            for node in body.node_def if body else ():
                if node.op == "VarHandleOp":
                    resources.add(node.attr["shared_name"].s.decode() or node.name)
                new = _called(node) - called
                called |= new
                pending.extend(new)
    return resources


def _called(node: Any) -> set[str]:
    names = {function.name for value in node.attr.values() for function in (value.func, *value.list.func)}
    return (names | {node.op}) - {""}


def _unread(
    bundle: Bundle, restored: list[_Restored], read: list[_Restored], global_step: Any, objects: ObjectGraph
) -> tuple[list[str], list[str]]:
    """Names in the checkpoint that no prediction reads: those that are the matter, and those that are not."""
    read_keys = {item.key for item in read}
    unread = sorted(bundle.entries.keys() - read_keys)
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    counters = {OBJECT_GRAPH, "global_step"} | objects.training
    if global_step is not None:
        counters |= {item.key for item in restored if _resource(item.target) == global_step.op.name}
    # A saver of moving averages reads `w/ExponentialMovingAverage` into `w`; then nothing reads the `w` of the checkpoint.
    averaged = {
        name
        for name in unread
        if any(is_slot(key, shapes[key], {name: shapes[name]}) for key in read_keys & shapes.keys())
    }
    owners = {name: shapes[name] for name in (read_keys & shapes.keys()) | averaged}
    owners |= {_resource(item.target): shapes[item.key] for item in read if item.key in shapes}

    def is_exempt(name: str) -> bool:
        if name in counters or name in averaged:
            return True
        return is_optimizer_state(name, shapes[name]) or is_slot(name, shapes[name], owners)

    exempt = [name for name in unread if is_exempt(name)]
    others = {name: shapes[name] for name in unread if name not in set(exempt)}
    # A slot of an unread variable says nothing that its owner does not.
    return [name for name, shape in others.items() if not is_slot(name, shape, others)], exempt


def _missing(bundle: Bundle, restored: list[_Restored], objects: ObjectGraph) -> Iterable[str]:
    wanted = {item.key: item for item in restored}
    missing = [key for key in wanted if key not in bundle.entries]
    if not missing:
        return
    unclaimed = [objects.name(name) for name in bundle.entries if name not in wanted]
    lines = []
    for key in missing:
        name = wanted[key].name
        close = difflib.get_close_matches(name, unclaimed, n=2)
        lines.append(f"{name} {_brackets(wanted[key].shape)}" + (f", close to {' and '.join(close)}" if close else ""))
    yield f"- {len(missing)} of {len(wanted)} variables of the graph are missing from the checkpoint:"
    yield from _listed(lines)
    if objects.names and not is_object_key(missing[0]):
        yield (
            "  The checkpoint was written by tf.train.Checkpoint or by Keras, under names of objects; the saver asks for names "
            "of variables. Give Scaffold(saver=...) the same tf.train.Checkpoint"
        )


def _differing(bundle: Bundle, restored: list[_Restored]) -> Iterable[str]:
    lines = {}
    for item in restored:
        entry = bundle.entries.get(item.key)
        if entry is None:
            continue
        if item.shape is not None and not _fits(item, entry.shape):
            shapes = f"{_brackets(item.shape)} in the graph, {_brackets(entry.shape)} in the checkpoint"
            lines[item.key] = f"{item.name}: {shapes}"
        elif item.dtype != entry.dtype:
            lines[item.key] = f"{item.name}: {item.dtype} in the graph, {entry.dtype} in the checkpoint"
    if lines:
        yield f"- {len(lines)} variables have another shape or dtype:"
        yield from _listed(list(lines.values()))


def _fits(item: _Restored, shape: tuple[int, ...]) -> bool:
    return item.shape == shape or (item.reshaped and math.prod(item.shape or ()) == math.prod(shape))


def _unread_message(bundle: Bundle, unread: list[str], in_graph: set[str], objects: ObjectGraph) -> Iterable[str]:
    if not unread:
        return
    yield (
        f"- {len(unread)} variables of the checkpoint are read by no prediction: another architecture was built, or the "
        "predictions leave layers out:"
    )
    where = {True: "in the graph, but unread", False: "not in the graph"}
    yield from _listed(
        [f"{objects.name(key)} {_brackets(bundle.entries[key].shape)}, {where[key in in_graph]}" for key in unread]
    )
    moving = ("moving_mean", "moving_variance")
    if any(key in in_graph and objects.name(key).endswith(moving) for key in unread):
        yield "  Moving means that are unread: batch normalization is in training mode; pass training=False in PREDICT"
    yield "  If predictions do not need them, list them (or patterns, such as 'aux_head/*') under model.allow_unused"


def _listed(lines: list[str]) -> Iterable[str]:
    yield from (f"    {line}" for line in lines[:_LISTED])
    if len(lines) > _LISTED:
        yield f"    and {len(lines) - _LISTED} more"


def _brackets(shape: tuple[int, ...] | None) -> str:
    return "[unknown]" if shape is None else f"[{', '.join(map(str, shape))}]"
