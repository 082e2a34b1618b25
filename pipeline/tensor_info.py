"""The TensorInfo of a signature: the feature that it takes, and the tensors of the graph that it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.features import DTYPES


def feature_entry(info: Any) -> dict[str, Any] | None:
    """An input as a feature of a job file; None for what no feature becomes."""
    import tensorflow as tf

    if info.WhichOneof("encoding") == "composite_tensor":
        composite = info.composite_tensor
        if not composite.type_spec.type_spec_class_name.startswith("Ragged") or len(composite.components) != 2:
            return None
        return {"dtype": tf.as_dtype(composite.components[0].dtype).name, "kind": "ragged"}
    dtype = tf.as_dtype(info.dtype).name
    if dtype not in DTYPES:
        return None
    if info.HasField("coo_sparse"):
        return {"dtype": dtype, "kind": "varlen"}
    shape = tf.TensorShape(info.tensor_shape)
    sizes = shape.as_list()[1:] if shape.rank else []
    return {"dtype": dtype, "kind": "fixed"} | ({"shape": [size or 1 for size in sizes]} if sizes else {})


def fed_tensors(info: Any, tensor: Any) -> Iterator[tuple[str, Any]]:
    """Tensors of the signature's graph, each with what takes its place."""
    import tensorflow as tf

    if info.HasField("coo_sparse"):
        parts = info.coo_sparse
        yield parts.values_tensor_name, tensor.values
        yield parts.indices_tensor_name, tensor.indices
        yield parts.dense_shape_tensor_name, tensor.dense_shape
    elif info.WhichOneof("encoding") == "composite_tensor":
        values, splits = info.composite_tensor.components
        yield values.name, tensor.values
        yield splits.name, tf.cast(tensor.row_splits, splits.dtype)
    else:
        yield info.name, tensor


def tensor_names(info: Any) -> list[str]:
    """The tensors that an output is made of."""
    if info.WhichOneof("encoding") == "composite_tensor":
        return [component.name for component in info.composite_tensor.components]
    if info.HasField("coo_sparse"):
        return [info.coo_sparse.values_tensor_name, info.coo_sparse.indices_tensor_name]
    return [info.name]
