"""Checkpoints of tf.train.Checkpoint and of Keras: variables by their place in a tree of objects, not by name.

A variable lies under a key such as `layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE`. The tree itself is a tensor
of the checkpoint, which also tells the name that each variable had in the graph that saved it:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/trackable_object_graph.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from pipeline.tensor_bundle import Bundle

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The tensor that holds the tree. The saver of a graph does not ask for it."""

_ATTRIBUTES = "/.ATTRIBUTES/"
_SLOT = "/.OPTIMIZER_SLOT/"
_TRAINING = frozenset({"optimizer", "estimator_global_step", "global_step", "save_counter", "keras_api"})
"""Names in the tree, below which lies what only training reads; `keras_api` has the metrics."""


@dataclass(frozen=True)
class ObjectGraph:
    """What the tree tells of a checkpoint; empty for one that knows variables by name.

    names: key -> name of the variable in the graph that saved it. training: keys that no prediction has to read.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    training: frozenset[str] = frozenset()

    def name(self, key: str) -> str:
        """How messages call a variable of the checkpoint."""
        return self.names.get(key, key)


def read_object_graph(path: str, bundle: Bundle) -> ObjectGraph:
    """The tree of objects of the checkpoint with the prefix `path`.

    Raises:
      ModelError: it is damaged.
    """
    if OBJECT_GRAPH not in bundle.entries:
        return ObjectGraph()
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    try:
        nodes = TrackableObjectGraph.FromString(tf.train.load_checkpoint(path).get_tensor(OBJECT_GRAPH)).nodes
    except (DecodeError, tf.errors.OpError) as error:
        raise ModelError(f"the tensor {OBJECT_GRAPH} of {path} is damaged; copy the checkpoint again") from error
    saved = [attribute for node in nodes for attribute in node.attributes]
    training = {attribute.checkpoint_key for attribute in saved if _is_of_training(attribute.checkpoint_key)}
    for optimizer in nodes:
        if optimizer.slot_variables:  # under whatever name; what hangs on it directly are its settings
            owners = {slot.original_variable_node_id for slot in optimizer.slot_variables}
            settings = [nodes[child.node_id] for child in optimizer.children if child.node_id not in owners]
            training |= {attribute.checkpoint_key for node in settings for attribute in node.attributes}
    return ObjectGraph(
        {attribute.checkpoint_key: attribute.full_name for attribute in saved if attribute.full_name},
        frozenset(training),
    )


def is_object_key(key: str) -> bool:
    """Whether a key of a checkpoint is a place in a tree of objects."""
    return _ATTRIBUTES in key


def _is_of_training(key: str) -> bool:
    path = key.partition(_ATTRIBUTES)[0]
    return _SLOT in key or not _TRAINING.isdisjoint(path.split("/"))
