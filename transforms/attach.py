"""A transform inside the graph of a model that must not notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.errors import ModelError
from pipeline.features import Feature, FeatureSpec, to_tensorflow

if TYPE_CHECKING:
    import tensorflow as tf

SCOPE = "attached_transform"
"""Default name scope: a Keras layer of the model would not get this name, and so not lose it to the transform."""

Call = Callable[[dict[str, Any]], Any]


class Output(NamedTuple):
    """One output of a transform.

    kind: `dense`, `sparse` or `ragged`.
    dtype: TensorFlow's name of it, such as `float32`.
    shape: of one row, without the batch dimension; None for a length that the graph does not know, and None in place
        of the tuple where it does not know the rank.
    """

    kind: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Attached:
    """A transform in a graph.

    outputs: name -> Tensor, SparseTensor or RaggedTensor, in the transform's order.
    initializer: one op that gives the transform's variables and tables their contents. Run it once a session, before
        an output is read; a finalized graph is fine.
    assets: the files that its tables are read from.
    """

    outputs: dict[str, Any]
    initializer: tf.Operation
    assets: list[str]


def attach(call: Call, features: dict[str, Any], scope: str, assets: list[str] | None = None) -> Attached:
    """Call a transform in the current graph, and leave no trace of it in the graph's collections.

    What `call` makes stands under the name scope `scope`. Its variables, tables and whatever else went to a collection
    are taken out again: the model's variables keep their names, and neither the Estimator's saver, nor its
    local_init_op or ready_op, sees those of the transform.

    Args:
      call: makes the outputs; may create variables and tables.
      features: what it is called with.
      scope: name scope of all that is made.
      assets: the files that its tables are read from; when None, those that it registered in the graph.
    """
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    keys = tf.compat.v1.GraphKeys
    with (
        _collections_of_its_own(graph) as made,
        graph.name_scope(scope) as inside,
        # tf.compat.v1.get_variable leaves the name scope for that of variables.
        tf.compat.v1.variable_scope(inside.rstrip("/"), auxiliary_name_scope=False),
    ):
        outputs = call(features)
    variables = {id(item): item for items in made.values() for item in items if isinstance(item, tf.Variable)}
    initializers = [variable.initializer for variable in variables.values()]
    # Restores the variables that stay inside a loaded graph of TensorFlow 1.
    initializers += made.get("saved_model_initializers", [])
    # Flattened, because tf.saved_model.load adds lists of ops as if they were ops.
    initializers += tf.nest.flatten(made.get(keys.TABLE_INITIALIZERS, []))
    with graph.name_scope(inside):
        initializer = tf.group(*initializers, name="initializer")
    if assets is None:
        paths = (tf.get_static_value(path) for path in made.get(keys.ASSET_FILEPATHS, []))
        assets = sorted({name.decode() for path in paths if path is not None for name in np.ravel(path)})
    return Attached(outputs, initializer, assets)


@contextmanager
def _collections_of_its_own(graph: tf.Graph) -> Iterator[dict[Any, list[Any]]]:
    """Empty all collections of the graph, and put them back at the end; yields a dict that is then what was added.

    Among them are the stores that count variable scopes, so a name used inside is still free outside.
    """
    before = {name: graph.get_collection(name) for name in graph.collections}
    for name in before:
        graph.clear_collection(name)
    made: dict[Any, list[Any]] = {}
    try:
        yield made
    finally:
        for name in graph.collections:
            made[name] = graph.get_collection(name)
            graph.clear_collection(name)
        for name, items in before.items():
            graph.get_collection_ref(name).extend(items)


def checked_features(features: Mapping[str, Any], raw_spec: FeatureSpec, place: str) -> dict[str, Any]:
    """The features as tensors, when they are exactly those of `raw_spec`. Nothing is cast.

    Raises:
      ModelError: a feature is missing or too many, or has another kind, dtype or row shape; the first such is named.
    """
    import tensorflow as tf

    missing = sorted(raw_spec.keys() - features.keys())
    extra = sorted(features.keys() - raw_spec.keys())
    if missing or extra:
        wrong = [f"missing: {', '.join(missing)}"] if missing else []
        wrong += [f"not known to it: {', '.join(extra)}"] if extra else []
        raise ModelError(f"{place} takes exactly the features {', '.join(sorted(raw_spec))}; {'; '.join(wrong)}")
    tensors = {}
    for name, feature in raw_spec.items():
        value = features[name]
        if not isinstance(value, (tf.SparseTensor, tf.RaggedTensor)):
            value = tf.convert_to_tensor(value)
        if isinstance(value, tf.RaggedTensor):
            value = value.with_row_splits_dtype(tf.as_dtype(feature.row_splits))
        expected, found = type_spec(feature), tf.type_spec_from_value(value)
        if not expected.is_compatible_with(found):
            raise ModelError(f"{place}: feature {name!r} has to be {_described(expected)}, got {_described(found)}")
        tensors[name] = value
    return tensors


def type_spec(feature: Feature) -> tf.TypeSpec:
    """What a batch of a feature is in a graph."""
    import tensorflow as tf

    if not _is_plain(feature):
        with tf.Graph().as_default():
            return tf.type_spec_from_value(_parsed(feature, tf.compat.v1.placeholder(tf.string, (None,))))
    dtype = tf.as_dtype(feature.dtype)
    if feature.kind == "varlen":
        return tf.SparseTensorSpec((None, None), dtype)
    if feature.kind == "ragged":
        return tf.RaggedTensorSpec((None, None), dtype, ragged_rank=1, row_splits_dtype=tf.as_dtype(feature.row_splits))
    return tf.TensorSpec((None, *feature.shape), dtype)


def _is_plain(feature: Feature) -> bool:
    kinds = ("fixed", "varlen", "ragged")
    return feature.kind in kinds and not feature.partitions and not feature.feature_list


def _parsed(feature: Feature, records: Any) -> Any:
    """A feature as the op of `tf.io` parses it."""
    import tensorflow as tf

    spec = to_tensorflow({feature.name: feature})
    if feature.feature_list:
        return tf.io.parse_sequence_example(records, {}, spec)[1][feature.name]
    return tf.io.parse_example(records, spec)[feature.name]


def no_rows(raw_spec: FeatureSpec) -> dict[str, Any]:
    """A batch of no rows in the current graph, which does not know that: its static batch dimension is None."""
    import tensorflow as tf

    def placeholder(shape: tuple[int, ...], dtype: tf.DType, static: list[int | None]) -> tf.Tensor:
        return tf.compat.v1.placeholder_with_default(tf.zeros(shape, dtype), static)

    features: dict[str, Any] = {}
    for name, feature in raw_spec.items():
        dtype = tf.as_dtype(feature.dtype)
        if not _is_plain(feature):
            features[name] = _parsed(feature, placeholder((0,), tf.string, [None]))
        elif feature.kind == "varlen":
            indices = placeholder((0, 2), tf.int64, [None, 2])
            features[name] = tf.SparseTensor(
                indices, placeholder((0,), dtype, [None]), placeholder((2,), tf.int64, [2])
            )
        elif feature.kind == "ragged":
            splits = placeholder((1,), tf.as_dtype(feature.row_splits), [None])
            features[name] = tf.RaggedTensor.from_row_splits(placeholder((0,), dtype, [None]), splits, validate=False)
        else:
            features[name] = placeholder((0, *feature.shape), dtype, [None, *feature.shape])
    return features


def checked_outputs(outputs: Any, features: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What a transform made of features, when it is a dict of tensors that may have the batch as first dimension.

    Raises:
      ModelError: it is something else; the output is named.
    """
    import tensorflow as tf

    if not isinstance(outputs, Mapping) or not outputs:
        raise ModelError(f"{place} has to return a dict of tensors by name, it returned {_described(outputs)}")
    batches = {None, *(feature.shape.as_list()[0] for feature in features.values())}
    for name, output in outputs.items():
        if not isinstance(name, str) or not isinstance(output, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
            raise ModelError(f"{place}: output {name!r} is {_described(output)}; it has to be a tensor")
        shape = output.shape
        if shape.rank is not None and (shape.rank == 0 or shape.as_list()[0] not in batches):
            raise ModelError(
                f"{place}: output {name!r} has the shape {tuple(shape.as_list())}; its first dimension has to be the batch"
            )
    return dict(outputs)


def output_spec(outputs: Mapping[str, Any]) -> dict[str, Output]:
    """Kind, dtype and row shape of outputs, in their order."""
    import tensorflow as tf

    spec = {}
    for name, output in outputs.items():
        kind = {tf.SparseTensor: "sparse", tf.RaggedTensor: "ragged"}.get(type(output), "dense")
        rank = output.shape.rank
        spec[name] = Output(kind, output.dtype.name, None if rank is None else tuple(output.shape.as_list()[1:]))
    return spec


def _described(value: Any) -> str:
    """Kind, dtype and shape; never a value."""
    import tensorflow as tf

    if not isinstance(value, tf.TypeSpec):
        if not isinstance(value, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
            return f"a {type(value).__name__}"
        value = tf.type_spec_from_value(value)
    kind = {tf.SparseTensorSpec: "SparseTensor", tf.RaggedTensorSpec: "RaggedTensor"}.get(type(value), "dense tensor")
    shape = "unknown" if value.shape.rank is None else tuple(value.shape.as_list())
    return f"a {value.dtype.name} {kind} of shape {shape}"
