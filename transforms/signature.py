"""The function of a loaded SavedModel that maps raw features to model features, whichever way it was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.features import DTYPES, Feature

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

TRANSFORM_SIGNATURE = "transform_signature"
"""Name of the one signature in TensorFlow Transform's older format."""

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Signature:
    """A function over a dict of features.

    inputs: name -> what a batch of it is.
    function: takes a dict of exactly these tensors.
    loaded: what the function was found in; alone, a function does not keep its variables alive.
    """

    inputs: dict[str, tf.TypeSpec]
    function: Callable[[dict[str, Any]], Any]
    loaded: Any

    def call(self, features: dict[str, Any]) -> Any:
        """What the function returns for a batch; a dict is sorted by name."""
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        known = len(graph.get_operations())
        outputs = self.function(features)
        _hide_constants(graph.get_operations()[known:])
        return {name: outputs[name] for name in sorted(outputs)} if isinstance(outputs, Mapping) else outputs

    def raw_spec(self, place: str) -> dict[str, Feature]:
        """The inputs as features, by name. Defaults of missing values are not in a SavedModel, so there are none.

        Raises:
          ModelError: an input is nothing that rows of features can be given as.
        """
        return {name: _feature(name, self.inputs[name], place) for name in sorted(self.inputs)}


def find_signature(loaded: Any, meta_graph: meta_graph_pb2.MetaGraphDef, place: str) -> Signature:
    """The function of a loaded SavedModel that is the transform.

    In this order: the signature of TensorFlow Transform's older format, the one function over a dict that the saved
    object has (in its current format `transform_fn`), the signature `serving_default`. The function comes before that
    signature, which has SparseTensors and RaggedTensors in pieces, under names of TensorFlow's own.

    Raises:
      ModelError: there is none of these, or more than one function.
    """
    if TRANSFORM_SIGNATURE in loaded.signatures:
        return _older_signature(loaded, meta_graph.signature_def[TRANSFORM_SIGNATURE].inputs)
    functions = _functions_over_a_dict(loaded)
    if len(functions) == 1 or "__call__" in functions:
        function, inputs = functions.get("__call__") or next(iter(functions.values()))
        return Signature(inputs, function, loaded)
    if functions:
        raise ModelError(
            f"{place} has several functions over a dict of features: {', '.join(sorted(functions))}; "
            "save a tf.Module with one, or name the transform __call__"
        )
    if DEFAULT_SIGNATURE not in loaded.signatures:
        raise ModelError(
            f"{place} has no function over a dict of features and no signature {DEFAULT_SIGNATURE!r} "
            f"(its signatures: {', '.join(sorted(loaded.signatures)) or 'none'}); save a tf.Module with one tf.function "
            "whose input_signature is a dict of tensor specs by feature name"
        )
    function = loaded.signatures[DEFAULT_SIGNATURE]
    return Signature(dict(function.structured_input_signature[1]), lambda features: function(**features), loaded)


def _hide_constants(operations: Sequence[tf.Operation]) -> None:
    """Give the calls of saved functions their constants as values that the graph optimizer takes for unknown.

    TensorFlow Transform's means and variances, for instance, are arguments of its function. Called eagerly or by
    tf.data, as in training, they are tensors like any other. Were they constants here, the optimizer would rewrite
    `x / deviation` as `x * (1 / deviation)`, which is another float32 in one row of three.
    """
    import tensorflow as tf

    for operation in operations:
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            for index, value in enumerate(operation.inputs):
                if value.op.type == "Const":
                    hidden = tf.compat.v1.placeholder_with_default(value, value.shape)
                    operation._update_input(index, hidden)  # there is no public name for it


def _functions_over_a_dict(loaded: Any) -> dict[str, tuple[Any, dict[str, tf.TypeSpec]]]:
    functions = {}
    for name in ["__call__", *sorted(name for name in vars(loaded) if not name.startswith("_"))]:
        function = getattr(loaded, name, None)
        traced = getattr(function, "concrete_functions", None) or [function]
        # A function that was also called on a fixed number of rows was traced for that number as well.
        inputs = [spec for spec in map(_dict_argument, traced) if spec and _takes_any_batch(spec)]
        if len(inputs) == 1:
            functions[name] = (function, inputs[0])
    return functions


def _dict_argument(function: Any) -> dict[str, tf.TypeSpec] | None:
    signature: Any = getattr(function, "structured_input_signature", None)
    if signature and len(signature[0]) == 1 and not signature[1] and isinstance(signature[0][0], Mapping):
        return dict(signature[0][0])
    return None


def _takes_any_batch(inputs: Mapping[str, Any]) -> bool:
    import tensorflow as tf

    specs = [spec for spec in inputs.values() if isinstance(spec, tf.TensorSpec) and spec.shape.rank]
    return all(spec.shape.as_list()[0] is None for spec in specs)


def _older_signature(loaded: Any, inputs: Mapping[str, meta_graph_pb2.TensorInfo]) -> Signature:
    import tensorflow as tf

    function = loaded.signatures[TRANSFORM_SIGNATURE]
    specs: dict[str, tf.TypeSpec] = {}
    for name, info in inputs.items():
        if info.WhichOneof("encoding") == "coo_sparse":
            specs[name] = tf.SparseTensorSpec((None, None), tf.as_dtype(info.dtype))
        else:
            specs[name] = tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))

    def call(features: dict[str, Any]) -> Any:
        keywords = {}
        for name, value in features.items():
            if isinstance(value, tf.SparseTensor):
                keywords[f"{name}_indices"] = value.indices
                keywords[f"{name}_values"] = value.values
                keywords[f"{name}_dense_shape"] = value.dense_shape
            else:
                keywords[name] = value
        return function(**keywords)

    return Signature(specs, call, loaded)


def _feature(name: str, spec: Any, place: str) -> Feature:
    import tensorflow as tf

    where = f"{place}: input {name!r}"
    dtype = spec.dtype.name if isinstance(getattr(spec, "dtype", None), tf.DType) else None
    if dtype not in DTYPES:
        raise ModelError(f"{where} is a {dtype or type(spec).__name__}, which no feature can be")
    if isinstance(spec, tf.SparseTensorSpec) and spec.shape.rank in (None, 2):
        return Feature(name, dtype, "varlen")
    if isinstance(spec, tf.RaggedTensorSpec) and spec.ragged_rank == 1 and spec.shape.rank in (None, 2):
        return Feature(name, dtype, "ragged", row_splits=spec.row_splits_dtype.name)
    if not isinstance(spec, tf.TensorSpec):
        raise ModelError(f"{where} is a {type(spec).__name__} of more dimensions than rows and values")
    shape = None if spec.shape.rank is None else spec.shape.as_list()
    if not shape or shape[0] is not None:
        raise ModelError(
            f"{where} has the shape {'unknown' if shape is None else tuple(shape)}; its first dimension has to be the batch, "
            "of any size. SparseTensors and RaggedTensors need a tf.Module with one tf.function over a dict of specs"
        )
    if None in shape[1:]:
        raise ModelError(f"{where} has the shape {tuple(shape)}; every dimension but the batch has to be known")
    return Feature(name, dtype, "fixed", tuple(shape[1:]))
