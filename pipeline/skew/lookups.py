"""Vocabularies: how many of the values that a transform looks up are in none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.skew.origins import SELECTS, UNKNOWN, Origins, Way, plain
from pipeline.skew.words import FEWEST, MOSTLY, Fact, constant, share

_HASHES = ("StringToHashBucketFast", "StringToHashBucketStrong", "StringToHashBucket")
_NEAR = 5
"""Operations between a lookup and what chooses between its result and another: a few, so that nothing else is met."""


@dataclass(frozen=True)
class Lookup:
    """A lookup in a table.

    features: those that the keys are made of. way: from the feature to the keys, where it is clear.
    buckets: number of hash buckets that unknown keys are spread over, None where they get the default.
    tensors: to be fetched: size, default, missing (bool, of each key whether it is not in the table), and where there
        are any: given (bool, False where a default was put in), used (bool, False where the result is dropped).
    """

    features: tuple[str, ...]
    way: Way | None
    buckets: int | None
    tensors: Mapping[str, Any]

    def fact(self, found: Mapping[str, np.ndarray], fillers: int | None) -> Fact | None:
        """What the fetched tensors tell.

        fillers: how many of the keys may stand for missing values and not be known as such; None where that is unknown.
        """
        missing = found["missing"].reshape(-1)
        counted = np.ones(missing.size, bool)
        for name in ("given", "used"):
            mask = found.get(name, counted).reshape(-1)
            if mask.size == counted.size:
                counted &= mask
            else:
                fillers = None
        keys = int(counted.sum())
        if not keys:
            return None
        outside = int((missing & counted).sum())
        text = f"vocabulary of {int(found['size']):,}: "
        if not outside:
            text += f"all of {keys:,} values are in it"
        else:
            text += f"{share(outside, keys)} of {keys:,} values are not in it{self._others(found['default'])}"
        surely = None if fillers is None else (outside - fillers, keys - fillers)
        is_skew = surely is not None and surely[1] >= FEWEST and surely[0] > MOSTLY * surely[1]
        return Fact(self.features, text, is_skew)

    def _others(self, default: np.ndarray) -> str:
        if self.buckets is not None:
            return f" and share {self.buckets:,} hash bucket{'' if self.buckets == 1 else 's'}"
        return f" and get {constant(default)}" if default.size == 1 else ""


def lookups(operations: list[Any], origins: Origins) -> list[Lookup]:
    """The lookups among the operations of a flat graph whose keys come from features; adds to the graph."""
    found: dict[Any, Lookup] = {}
    hashes = [operation for operation in operations if operation.type in _HASHES]
    for operation in operations:
        if operation.type != "LookupTableFindV2":
            continue
        table, keys, default = operation.inputs
        features = tuple(sorted(origins.features(keys) - {UNKNOWN}))
        same = (plain(table).ref(), plain(keys).ref())
        if not features or not origins.is_constant(default) or not origins.is_constant(table) or same in found:
            continue
        way = origins.way(keys)
        found[same] = Lookup(features, way, _buckets(operation, hashes), _tensors(operation, way))
    return list(found.values())


def _tensors(operation: Any, way: Way | None) -> dict[str, Any]:
    import tensorflow as tf

    table, keys, default = operation.inputs
    # What a key gets says little: its default may be an id of the table too. Only of a key that is in no table two
    # defaults make two things.
    results = []
    for value in ("0", "1") if default.dtype == tf.string else (0, 1):
        other = tf.fill(tf.shape(default), tf.constant(value, default.dtype))
        results.append(tf.raw_ops.LookupTableFindV2(table_handle=table, keys=keys, default_value=other))
    tensors = {
        "size": tf.raw_ops.LookupTableSizeV2(table_handle=table),
        "default": default,
        "missing": tf.not_equal(*results),
    }
    if way is not None and way.fill is not None:
        tensors["given"] = _given(way.fill)
    used = _used(operation)
    if used is not None:
        tensors["used"] = used
    return tensors


def _given(fill: Any) -> Any:
    """Where the dense tensor that `fill` makes has values of the feature: bool, of its shape."""
    import tensorflow as tf

    if fill.type == "SparseToDense":
        indices, shape = fill.inputs[:2]
        return tf.raw_ops.SparseToDense(
            sparse_indices=indices, output_shape=shape, sparse_values=True, default_value=False
        )
    shape, values, _, *partitions = fill.inputs
    return tf.raw_ops.RaggedTensorToTensor(
        shape=shape,
        values=tf.fill(tf.shape(values), True),
        default_value=False,
        row_partition_tensors=partitions,
        row_partition_types=fill.get_attr("row_partition_types"),
    )


def _used(lookup: Any) -> Any:
    """Where the result is taken, if a mask token (as in the lookup layers of Keras) puts something else in its place."""
    import tensorflow as tf

    consumers = lookup.outputs[0].consumers()
    if len(consumers) != 1 or consumers[0].type not in SELECTS:
        return None
    condition, first, _ = consumers[0].inputs
    if _reaches(condition, lookup, _NEAR):
        return None  # it asks whether the key was found
    return condition if first is lookup.outputs[0] else tf.logical_not(condition)


def _buckets(lookup: Any, hashes: list[Any]) -> int | None:
    """Number of buckets of a hash of the same keys that a select puts in place of what was not found."""
    keys = plain(lookup.inputs[1])
    for hashed in hashes:
        if plain(hashed.inputs[0]) is not keys:
            continue
        for select in _later(hashed.outputs[0], _NEAR):
            if select.type in SELECTS and any(_reaches(branch, lookup, _NEAR) for branch in select.inputs[1:]):
                return hashed.get_attr("num_buckets")
    return None


def _reaches(tensor: Any, operation: Any, steps: int) -> bool:
    """Whether a tensor is computed from an operation, a few operations back."""
    if tensor.op is operation:
        return True
    return steps > 0 and any(_reaches(given, operation, steps - 1) for given in tensor.op.inputs)


def _later(tensor: Any, steps: int) -> list[Any]:
    """The operations that are computed from a tensor, a few operations on."""
    later = []
    for consumer in tensor.consumers():
        later.append(consumer)
        if steps:
            later += [operation for output in consumer.outputs for operation in _later(output, steps - 1)]
    return later
