"""Features in memory to rows: arrays, lists, data frames and Arrow tables, taken by the rules of the shards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from pipeline.decode_rows import decode_rows
from pipeline.exact import is_text, type_name
from pipeline.features import DTYPES, Feature
from pipeline.rows import Chunk, Columns

if TYPE_CHECKING:
    import pandas as pd

    Features: TypeAlias = Mapping[str, Any] | pd.DataFrame | pa.RecordBatch | pa.Table

_PLAIN = {type(None), bool, int, float, str, bytes}


def rows_from_memory(features: Features, columns: Columns) -> Chunk:
    """Decode rows in memory, numbered from 0; without the column `record`.

    A column is a numpy array (rows, *shape), an Arrow array, a Series, or a list with an item per row; None, pandas' NA
    and, where text is wanted of a Series, NaN are missing. numpy's own bytes and str arrays lose trailing NUL characters
    when they are made: object arrays keep them.

    Raises:
      ValueError: a feature that is not optional is not there, or columns are of different lengths.
    """
    given = named_columns(features)
    shapes = {columns.source(name): feature.shape for name, feature in columns.decoded.items()}
    texts = {columns.source(name) for name, feature in columns.decoded.items() if feature.dtype == "string"}
    source: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for name in columns.needed:
        if name in given:
            source[name] = _values(name, given[name], shapes.get(name), name in texts)
            lengths[name] = len(source[name])
    for name in columns.decoded:
        if columns.source(name) not in source and not columns.may_lack(name):
            there = ", ".join(map(repr, given)) or "none"
            raise ValueError(f"features: {columns.source(name)!r} is missing; there are: {there}")
    first = next(iter(lengths), "")
    for name, length in lengths.items():
        if length != lengths[first]:
            raise ValueError(f"features: {first!r} has {lengths[first]} rows and {name!r} has {length}")
    return decode_rows(source, columns, np.arange(lengths.get(first, 0)))


def spec_from_memory(features: Features) -> dict[str, Feature]:
    """The raw feature spec that arrays in memory tell: their dtypes and row shapes; rows of lists are varlen.

    Raises:
      ValueError: a column has a dtype that no feature can have.
    """
    return {name: _feature(name, _values(name, column)) for name, column in named_columns(features).items()}


def named_columns(features: Features) -> dict[str, Any]:
    """Name -> column, as it was given.

    Raises:
      ValueError: it holds no columns, or two of one name.
    """
    if isinstance(features, Mapping):
        return dict(features)
    if isinstance(features, (pa.RecordBatch, pa.Table)):
        names = features.schema.names
    elif _is_pandas(features, "DataFrame"):
        names = list(features.columns)
    else:
        raise ValueError(
            f"features: expected a dict of arrays, a DataFrame, a RecordBatch or a Table, got {type(features).__name__}"
        )
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"features: {names.count(name)} columns of the {type(features).__name__} are named {name!r}"
            )
    return {name: features[name] for name in names}


def _values(name: str, column: Any, shape: tuple[int, ...] | None = None, text: bool = False) -> pa.Array | list[Any]:
    """A column as `decode_rows` takes it: an Arrow array, or a list of plain Python values.

    shape: of a row as it is wanted. text: NaN in a Series of objects stands for a missing value, as pandas has it.
    """
    if isinstance(column, pa.Array):
        return column
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if _is_pandas(column, "Series"):
        if not isinstance(column.dtype, np.dtype):
            return pa.array(column)  # pandas' own types have nulls, and say so
        column = column.to_numpy()
        if column.dtype == object:
            return [None if text and _is_nan(value) else _plain(value) for value in column.tolist()]
    elif isinstance(column, (list, tuple)):
        return _plain(column)
    elif hasattr(column, "__array__"):
        column = np.asanyarray(column)
    else:
        raise ValueError(
            f"features: {name!r}: expected an array or a list with an item per row, got {type(column).__name__}"
        )
    if column.ndim == 0:
        raise ValueError(f"features: {name!r}: expected an array with an item per row, got a single value")
    if isinstance(column, np.ma.MaskedArray) or column.dtype.kind not in "biufMm" or column.dtype.itemsize > 8:
        return _plain(column.tolist())
    if column.dtype.byteorder not in "=|":
        column = column.astype(column.dtype.newbyteorder("="))
    array = pa.array(column.reshape(-1))
    lengths = column.shape[1:]
    if lengths and lengths == shape:
        lengths = (math.prod(lengths),)  # flat is as good where the shape is right, and quicker
    for axis in range(len(lengths) - 1, -1, -1):
        rows = len(column) * math.prod(lengths[:axis])
        array = pa.Array.from_buffers(pa.list_(array.type, lengths[axis]), rows, [None], children=[array])
    return array


def _plain(value: Any) -> Any:
    """Python values in place of numpy's and pandas', lists in place of arrays and tuples."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return list(value) if set(map(type, value)) <= _PLAIN else [_plain(item) for item in value]
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _feature(name: str, values: pa.Array | list[Any]) -> Feature:
    shape: tuple[int, ...] = ()
    if isinstance(values, list):
        while values and all(isinstance(value, list) for value in values):
            lengths = {len(value) for value in values}
            values = [item for value in values for item in value]
            if len(lengths) > 1:
                return Feature(name, _dtype(name, pa.array(values).type), "varlen")
            shape += tuple(lengths)
        return Feature(name, _dtype(name, pa.array(values).type), "fixed", shape)
    source = values.type
    while pa.types.is_fixed_size_list(source):
        source, shape = source.value_type, (*shape, source.list_size)
    if pa.types.is_list(source) or pa.types.is_large_list(source):
        return Feature(name, _dtype(name, source.value_type), "varlen")
    return Feature(name, _dtype(name, source), "fixed", shape)


def _dtype(name: str, source: pa.DataType) -> str:
    """The dtype that holds an Arrow type as it is."""
    if pa.types.is_dictionary(source):
        source = source.value_type
    dtype = "string" if is_text(source) else type_name(source)
    if dtype not in DTYPES:
        raise ValueError(f"features: {name!r} is of type {dtype}, which no feature has; give a spec, or leave it out")
    return dtype


def _is_pandas(value: Any, name: str) -> bool:
    """Whether it is of a pandas class, without importing pandas."""
    return any(kind.__name__ == name and kind.__module__.partition(".")[0] == "pandas" for kind in type(value).__mro__)
