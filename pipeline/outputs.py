"""Predictions as Arrow columns: which ones, of which type, and their values. Types come from the graph, never from data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.decode_rows import fitting
from pipeline.errors import JobError, ModelError

CONSTANT_KEYS = ("all_classes", "all_class_ids")
"""Predictions of canned classifiers, and of each head of several, that are the same in every row; left out unless named."""


@dataclass(frozen=True)
class PredictionSpec:
    """A prediction of the graph: its key, its dtype ("string" for bytes) and the shape of one row, None where unknown."""

    key: str
    dtype: str
    shape: tuple[int | None, ...]
    column: str


@dataclass(frozen=True)
class OutputColumn:
    """A column of the output: prediction `key`, or its value at `index` on the last axis.

    value_type: Arrow type of one value. shape: of a row's values after `index` was taken.
    """

    name: str
    key: str
    index: int | None
    value_type: pa.DataType
    shape: tuple[int | None, ...]

    @property
    def type(self) -> pa.DataType:
        """Plain for one value a row, nested lists otherwise: of fixed size where the graph knows the size."""
        nested = self.value_type
        for size in reversed(self.shape):
            nested = pa.list_(nested, size) if size else pa.list_(nested)
        return nested


def prediction_specs(predictions: Any) -> tuple[dict[str, Any], tuple[PredictionSpec, ...]]:
    """The predictions of an EstimatorSpec, key -> tensor, and what each one is.

    Raises:
      ModelError: one that cannot be written: sparse, of an unknown rank or dtype, or not one for each row.
    """
    import tensorflow as tf

    if not isinstance(predictions, Mapping):
        predictions = {"predictions": predictions}
    tensors: dict[str, Any] = {}
    specs = []
    for key, tensor in predictions.items():
        path = key if isinstance(key, tuple) else (key,)
        name, column = "/".join(map(str, path)), "_".join(map(str, path))
        if not isinstance(tensor, tf.Tensor):
            raise ModelError(f"prediction {name!r} is a {type(tensor).__name__}; only dense tensors can be written")
        dtype = tensor.dtype.base_dtype
        if tensor.shape.rank is None:
            raise ModelError(
                f"prediction {name!r} has an unknown rank; give it one by tf.ensure_shape or set_shape in the model_fn"
            )
        shape = tensor.shape.as_list()
        if not shape or shape[0] is not None:
            raise ModelError(
                f"prediction {name!r} has the shape {shape}; its first dimension has to be the batch, of unknown size "
                "in the graph. Make it one row for each row of the features, or drop it from the predictions"
            )
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype == tf.string) or dtype.is_quantized:
            raise ModelError(
                f"prediction {name!r} has the dtype {dtype.name}, which has no Arrow type; cast it in the model_fn"
            )
        if dtype == tf.bfloat16:
            raise ModelError(
                f"prediction {name!r} is bfloat16, which has no Arrow type; cast it to tf.float32 in the model_fn"
            )
        if name in tensors:
            raise ModelError(f"two predictions are called {name!r}")
        tensors[name] = (
            tf.identity(tensor) if tensor.op.type == "Placeholder" else tensor
        )  # it cannot be fed and fetched
        specs.append(PredictionSpec(name, dtype.name, tuple(shape[1:]), column))
    return tensors, tuple(specs)


def output_columns(
    specs: Sequence[PredictionSpec],
    chosen: Mapping[str, Any] | None,
    types: Mapping[str, pa.DataType],
) -> tuple[OutputColumn, ...]:
    """The columns that a job asks for.

    Args:
      specs: all predictions of the graph, in its order.
      chosen: output column -> object with `key` and `index`; None for every prediction.
      types: output column -> Arrow type of its values, in place of the graph's.

    Raises:
      JobError: a key that the model does not have, an index outside of its last axis, a type for no column.
    """
    by_key = {spec.key: spec for spec in specs}
    if chosen is None:
        wanted = [(spec.column, spec, None) for spec in specs if spec.key.rpartition("/")[2] not in CONSTANT_KEYS]
    else:
        wanted = []
        for name, prediction in chosen.items():
            if prediction.key not in by_key:
                close = difflib.get_close_matches(prediction.key, by_key, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise JobError(
                    f"output.predictions: the model has no prediction {prediction.key!r}{hint} It has: {', '.join(by_key)}"
                )
            spec = by_key[prediction.key]
            wanted.append((spec.column if name == prediction.key else name, spec, prediction.index))
    columns = tuple(_column(name, spec, index, types.get(name)) for name, spec, index in wanted)
    unknown = set(types) - {column.name for column in columns}
    if unknown:
        raise JobError(f"output.types: no output column is called {sorted(unknown)[0]!r}")
    return columns


def _column(name: str, spec: PredictionSpec, index: int | None, value_type: pa.DataType | None) -> OutputColumn:
    shape = spec.shape
    if index is not None:
        if not shape:
            raise JobError(
                f"output.predictions: {spec.key}[{index}]: {spec.key!r} has one value a row; name it without an index"
            )
        if shape[-1] is not None and index >= shape[-1]:
            raise JobError(
                f"output.predictions: {spec.key}[{index}]: {spec.key!r} has {shape[-1]} values on its last axis, from 0"
            )
        shape = shape[:-1]
    if value_type is None:
        value_type = pa.string() if spec.dtype == "string" else pa.from_numpy_dtype(np.dtype(spec.dtype))
    elif spec.dtype != "string" and (pa.types.is_binary(value_type) or pa.types.is_string(value_type)):
        raise JobError(f"output.types: {name}: {spec.dtype} predictions cannot be written as {value_type}")
    return OutputColumn(name, spec.key, index, value_type, shape)


def check_names(names: Sequence[str]) -> None:
    """Raises JobError where two output columns have one name."""
    for position, name in enumerate(names):
        if name in names[:position]:
            raise JobError(
                f"output: two columns are called {name!r}; rename one by output.predictions or output.passthrough: {{new_name: {name}}}"
            )


def to_arrow(column: OutputColumn, values: np.ndarray) -> tuple[pa.Array, dict[int, str]]:
    """The values of a prediction, (rows, *shape), as the column's Arrow array, and why rows do not fit it.

    Rows that do not fit hold null or a filler. Numbers are not copied.
    """
    rows = len(values)
    if column.index is not None:
        if values.shape[-1] <= column.index:
            raise ModelError(
                f"output.predictions: {column.key}[{column.index}]: the model gave {values.shape[-1]} values on the last axis"
            )
        values = values[..., column.index]
    if values.ndim != len(column.shape) + 1:
        raise ModelError(f"prediction {column.key!r}: expected rank {len(column.shape) + 1}, got {values.ndim}")
    flat, bad_values = _flat_to_arrow(column, np.ascontiguousarray(values).reshape(-1))
    values_per_row = max(1, values.size // rows) if rows else 1
    bad = {position // values_per_row: reason for position, reason in reversed(bad_values.items())}
    for size, declared in zip(reversed(values.shape[1:]), reversed(column.shape), strict=True):
        if declared:
            flat = pa.FixedSizeListArray.from_arrays(flat, declared)
        else:
            lists = int(np.prod(values.shape[: values.ndim - 1])) if size == 0 else len(flat) // size
            flat = pa.ListArray.from_arrays(pa.array(np.arange(lists + 1, dtype=np.int32) * np.int32(size)), flat)
    return flat, bad


def _flat_to_arrow(column: OutputColumn, flat: np.ndarray) -> tuple[pa.Array, dict[int, str]]:
    wanted = column.value_type
    array = pa.array(flat, pa.binary() if flat.dtype == object else None)
    if array.type == wanted:
        return array, {}
    array, misfits = fitting(array, wanted)
    if pa.types.is_string(wanted):
        reason = (
            f"prediction {column.key!r} is not UTF-8; write output.types: {{{column.name}: binary}} to keep its bytes"
        )
    else:
        reason = f"prediction {column.key!r} does not fit the type {wanted} of output.types"
    return array, dict.fromkeys(misfits, reason)
