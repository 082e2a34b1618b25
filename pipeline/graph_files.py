"""The files that a graph opens: found by the operations that read files, and read from copies where there are any.

Names that are constants are found wherever they stand, those that are computed from constants by computing them. Names
that rows decide cannot be known. The saver's own checkpoint is none of these files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import files
from pipeline.errors import ModelError
from pipeline.staging import file_digest

if TYPE_CHECKING:
    import tensorflow as tf

_FILE_NAMES = {
    "InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1, "ReadFile": 0, "TextLineDataset": 0,
    "TFRecordDataset": 0, "TFRecordDatasetV2": 0, "FixedLengthRecordDataset": 0, "FixedLengthRecordDatasetV2": 0,
    "CSVDataset": 0, "CSVDatasetV2": 0, "ExperimentalCSVDataset": 0, "LMDBDataset": 0, "ExperimentalLMDBDataset": 0,
}  # fmt: skip
"""Type of an operation -> which of its inputs names the files."""
_PATTERNS = {"MatchingFiles": 0, "MatchingFilesDataset": 0, "ExperimentalMatchingFilesDataset": 0}
"""The same, of operations that look for files by patterns."""
_READERS = {"ReaderRead": 1, "ReaderReadV2": 1, "ReaderReadUpTo": 1, "ReaderReadUpToV2": 1}
"""The same, of operations that take names from a queue."""
_OF_ROWS = ("Placeholder", "IteratorGetNext", "OneShotIterator", "VarHandleOp", "VariableV2", "Variable")
"""Operations whose values no graph tells."""
_MOST_WORDS = 10_000
"""A constant of more words is a vocabulary, and no list of files."""


@dataclass(frozen=True)
class GraphFiles:
    """What a graph opens.

    paths: of all files that are known, each once, those that the graph has registered first, then by the order of the graph.
    inside: those of them whose names stand inside of functions, where they cannot be changed.
    unknown: operations whose files the rows name.
    """

    paths: tuple[str, ...] = ()
    inside: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What nobody proves, in words."""
        return tuple(f"{name} opens files that the rows name; no digest holds their content" for name in self.unknown)


def graph_files(graph: tf.Graph, since: int = 0) -> GraphFiles:
    """The files that the operations of a graph open.

    since: how many operations of the graph, the oldest ones, are not looked at.
    """
    operations = graph.get_operations()[since:]
    nodes = list(_nodes_of_functions(graph, operations))
    paths = list(_registered(graph))
    unknown: list[str] = []
    is_in_function = any(node.op in _FILE_NAMES or node.op in _PATTERNS for node in nodes)
    for operation in operations:
        tensors = _names_of_files(operation)
        found = [_value(tensor) for tensor in tensors]
        if tensors and any(names is None for names in found):
            unknown.append(f"{operation.name} ({operation.type})")
        for names in found:
            paths += _matched(names or (), operation.type in _PATTERNS)
    inside: list[str] = []
    if is_in_function:  # which of the words reaches it is not followed; one that is the path of a file does
        inside = [word for node in nodes if node.op == "Const" for word in _words(node.attr["value"].tensor)]
        inside = [word for word in inside if _is_file(word)]
        words = (word for constant in _text_constants(operations) for word in _words(constant.get_attr("value")))
        paths += [*(word for word in words if _is_file(word)), *inside]
    return GraphFiles(tuple(dict.fromkeys(paths)), frozenset(inside), tuple(unknown))


def refuse_missing(paths: Iterable[str]) -> None:
    """Raise a ModelError for the first path where this machine has no file."""
    for path in paths:
        if files.info(path) is None:
            raise ModelError(
                f"the graph reads {path}, and there is no such file on this machine. Name it as it is called now: under "
                "model.assets (NAME: PATH), with {assets.NAME} in model.params, or at that very path by an absolute NAME"
            )


def read_copies(graph: tf.Graph, found: GraphFiles, copies: Mapping[str, str]) -> None:
    """Let a graph read other files: where a constant names one, it names its copy from now on.

    Feeding the constants instead would not do: `tf.get_static_value` makes those that it was asked about unfeedable.

    Args:
      copies: path -> path of its copy.

    Raises:
      ModelError: the name of a file cannot be changed, and this machine has another file there than its copy.
    """
    replaced = set(_replaced(graph, copies)) if copies else set()
    for path, copy in copies.items():
        if path in replaced and path not in found.inside:
            continue
        refuse_missing([path])
        if file_digest(path) != file_digest(copy):
            raise ModelError(
                f"the graph reads {path}, which is another file on this machine than at launch. Name it under model.assets, "
                "by that very path"
            )


def _replaced(graph: tf.Graph, copies: Mapping[str, str]) -> Iterator[str]:
    import tensorflow as tf
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

    for constant in _text_constants(graph.get_operations()):
        tensor = constant.get_attr("value")
        found = [word for word in _words(tensor) if word in copies]
        if found:
            values = tf.make_ndarray(tensor)
            flat = [copies.get(name.decode(errors="replace"), name) for name in values.ravel()]
            proto = tf.make_tensor_proto(flat if values.ndim else flat[0], tf.string, values.shape)
            constant._set_attr("value", AttrValue(tensor=proto))
            yield from found


def _registered(graph: tf.Graph) -> Iterator[str]:
    import tensorflow as tf

    for path in graph.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS):
        value = tf.get_static_value(path)
        if value is not None:
            yield from (name.decode() for name in np.ravel(value))


def _names_of_files(operation: tf.Operation) -> list[tf.Tensor]:
    """The tensors that name the files an operation opens; none where it opens none."""
    index = _FILE_NAMES.get(operation.type, _PATTERNS.get(operation.type))
    if index is not None:
        return [operation.inputs[index]]
    if operation.type in _READERS:
        queue = operation.inputs[_READERS[operation.type]]
        fed = (consumer for consumer in queue.consumers() if "Enqueue" in consumer.type)
        return [tensor for consumer in fed for tensor in consumer.inputs[1:]]
    return []


def _value(tensor: tf.Tensor) -> list[str] | None:
    """The words of a string tensor, computed if need be; None where rows or variables decide them."""
    import tensorflow as tf

    value = tf.get_static_value(tensor)
    if value is None:
        if not _is_constant(tensor):
            return None
        part = tf.compat.v1.graph_util.extract_sub_graph(tensor.graph.as_graph_def(), [tensor.op.name])
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            tf.import_graph_def(part, name="")
            try:
                value = session.run(tensor.name)
            except tf.errors.OpError:
                return None
    return [name.decode(errors="replace") for name in np.ravel(value)]


def _is_constant(tensor: tf.Tensor) -> bool:
    waiting, seen = [tensor.op], set()
    while waiting:
        operation = waiting.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if operation.type in _OF_ROWS or "HashTable" in operation.type or "Iterator" in operation.type:
            return False
        waiting += [each.op for each in operation.inputs]
    return True


def _nodes_of_functions(graph: tf.Graph, operations: Iterable[tf.Operation]) -> Iterator[Any]:
    """The nodes of all functions that operations call, and of those that they call."""
    callers = (operation for operation in operations if operation.type != "Const")
    waiting = [name for operation in callers for name in _called(operation.node_def.attr)]
    if not waiting:
        return
    library = {function.signature.name: function for function in graph.as_graph_def().library.function}
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            yield node
            waiting += _called(node.attr)


def _called(attributes: Mapping[str, Any]) -> Iterator[str]:
    for value in attributes.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            yield value.func.name
        elif kind == "list":
            yield from (function.name for function in value.list.func)


def _text_constants(operations: Iterable[tf.Operation]) -> Iterator[tf.Operation]:
    import tensorflow as tf

    for operation in operations:
        if operation.type == "Const" and operation.outputs[0].dtype == tf.string:
            yield operation


def _words(tensor: Any) -> list[str]:
    """The words of a TensorProto that can be names of files."""
    import tensorflow as tf

    if tensor.dtype != tf.string.as_datatype_enum:
        return []
    if np.prod([size.size for size in tensor.tensor_shape.dim]) > _MOST_WORDS:
        return []
    return [word.decode(errors="replace") for word in tf.make_ndarray(tensor).ravel()]


def _is_file(word: str) -> bool:
    if "/" not in word or "\n" in word or "\0" in word or len(word) > 4096:
        return False
    try:
        return files.info(word) is not None
    except (OSError, ValueError):
        return False


def _matched(names: Iterable[str], are_patterns: bool) -> list[str]:
    if not are_patterns:
        return [name for name in names if name]
    return [info.path for name in names for info in files.match(name)]
