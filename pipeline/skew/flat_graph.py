"""A graph without calls: the functions of a transform, which a SavedModel keeps closed, in place of their calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2, node_def_pb2

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def flat_graph(graph: tf.Graph) -> tf.Graph:
    """A copy of a graph in which every call of a function is replaced by the operations of that function.

    Operations of the graph itself keep their names; those of a function get the name of its call as a prefix. Bodies of
    conditions and loops stay functions. What has to run before a call, and is no input of it, no longer does: the copy is
    there to look at tensors.

    Raises:
      ValueError: TensorFlow does not take the copy.
    """
    import tensorflow as tf

    with graph.as_default():  # where the functions are known
        flat_def = _Flat(graph.as_graph_def()).graph_def
    with tf.Graph().as_default() as flat:
        tf.graph_util.import_graph_def(flat_def, name="")
    return flat


class _Flat:
    """Collects operations under their new names, then leads every edge past the calls."""

    def __init__(self, whole: graph_pb2.GraphDef):
        from tensorflow.core.framework import graph_pb2

        self._functions = {function.signature.name: function for function in whole.library.function}
        self._nodes: dict[str, node_def_pb2.NodeDef] = {}
        self._same: dict[str, str] = {}  # output of a call, or argument in its function -> the tensor that it is
        self._inside: dict[str, list[str]] = {}  # call -> names of the operations that it stands for
        self._add(whole.node, "")
        self.graph_def = graph_pb2.GraphDef(versions=whole.versions, library=whole.library)
        for name, node in self._nodes.items():
            edges = [edge for tensor in node.input for edge in self._past_calls(tensor)]
            copy = self.graph_def.node.add()
            copy.CopyFrom(node)
            copy.name = name
            del copy.input[:]
            # Control edges come last, and an edge that two calls became stands once.
            copy.input.extend(edge for edge in edges if not edge.startswith("^"))
            copy.input.extend(dict.fromkeys(edge for edge in edges if edge.startswith("^")))

    def _add(self, nodes: Iterable[node_def_pb2.NodeDef], prefix: str) -> list[str]:
        added = []
        for node in nodes:
            name = prefix + node.name
            node.input[:] = [_prefixed(tensor, prefix) for tensor in node.input]
            function = node.attr["f"].func.name if node.op in _CALLS else ""
            if function in self._functions:
                self._inside[name] = self._add_call(name, node, function)
                added += self._inside[name]
                continue
            if node.attr["use_node_name_sharing"].b and not node.attr["shared_name"].s:
                node.attr["shared_name"].s = node.name.encode()  # of the table that another function fills
            node.attr.pop("_class", None)  # where it is placed, by the name that another operation had
            self._nodes[name] = node
            added.append(name)
        return added

    def _add_call(self, name: str, call: node_def_pb2.NodeDef, function: str) -> list[str]:
        from tensorflow.python.framework import function_def_to_graph

        definition = self._functions[function]
        # There is no public way to read a function's operations with the edges of a graph.
        body, flat_names = function_def_to_graph.function_def_to_graph_def(definition)
        arguments = [argument.name for argument in definition.signature.input_arg]
        given = [tensor for tensor in call.input if not tensor.startswith("^")]
        for argument, tensor in zip(arguments, given, strict=True):
            self._same[f"{name}/{argument}:0"] = tensor
        for index, output in enumerate(definition.signature.output_arg):
            self._same[f"{name}:{index}"] = f"{name}/{flat_names[definition.ret[output.name]]}"
        return self._add((node for node in body.node if node.name not in arguments), f"{name}/")

    def _past_calls(self, edge: str) -> Iterator[str]:
        if edge.startswith("^"):
            name = edge[1:]
            if name in self._inside:
                yield from (f"^{inner}" for inner in self._inside[name])
            elif name in self._nodes:  # an argument is there before its function is
                yield edge
            return
        while edge in self._same:
            edge = self._same[edge]
        yield edge


def _prefixed(edge: str, prefix: str) -> str:
    """An edge of an inner graph, written `name:output` or `^name`."""
    if edge.startswith("^"):
        return f"^{prefix}{edge[1:]}"
    return f"{prefix}{edge}" if ":" in edge else f"{prefix}{edge}:0"
