"""Predictions that are known from elsewhere: scores in a file, joined by key, or the signature of an exported SavedModel."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.errors import InputError, JobError, ModelError
from pipeline.features import EXAMPLE_DTYPES
from pipeline.graph_input import dense_values
from pipeline.outputs import OutputColumn
from pipeline.record.file import Predictions
from pipeline.record.rows import examples_of_rows
from pipeline.rows import Columns, feature_column

_SQL = {
    "float": "FLOAT", "halffloat": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN", "string": "VARCHAR",
    "binary": "VARCHAR", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
}  # fmt: skip


def is_exported_model(path: str) -> bool:
    """Whether a folder is a SavedModel."""
    return files.exists(files.join(path, "saved_model.pb"))


def scores_in_file(
    path: str, on: Sequence[str], keys: pa.Table, outputs: Sequence[OutputColumn]
) -> tuple[np.ndarray, Predictions]:
    """Known scores of rows, by their key.

    Args:
      path: an output folder, or files of Parquet, CSV or JSON lines; its columns are named as those of the job's output.
      on: the columns of the key, in the file and in `keys`; compared as text.
      keys: the key of each row.
      outputs: the prediction columns of the job.

    Returns:
      The numbers of the rows of `keys` that have exactly one known score, ascending, and for each of the predictions that
      the file has, named `key` or `key[index]`, an array with a row for each of them.

    Raises:
      JobError: the file lacks a column of the key, or has no prediction of the job.
      InputError: the file cannot be read, or no row has a known score.
    """
    import duckdb

    from pipeline.compare.sides import open_side, reading
    from pipeline.compare.types import identifier

    connection = duckdb.connect()
    with tempfile.TemporaryDirectory() as scratch, connection:
        side = open_side(connection, "--against", path, Path(scratch))
        lacking = [name for name in on if name not in side.types]
        known = [column for column in outputs if column.name in side.types]
        if lacking or not known:
            wanted = f"the column {lacking[0]!r}" if lacking else "a prediction of the job"
            raise JobError(f"--against {path}: it does not have {wanted}; it has: {', '.join(side.types)}")
        connection.register("keys", keys.append_column("place", pa.array(range(keys.num_rows), pa.int64())))
        same = " AND ".join(
            f"CAST(k.{identifier(name)} AS VARCHAR) = CAST(s.{identifier(name)} AS VARCHAR)" for name in on
        )
        values = ", ".join(f"CAST(s.{identifier(column.name)} AS {_sql_type(column)})" for column in known)
        with reading(f"--against {path}"):
            found = connection.execute(
                f"SELECT k.place, {values} FROM keys k JOIN {side.relation} s ON {same} "
                "QUALIFY count(*) OVER (PARTITION BY k.place) = 1 ORDER BY k.place"
            ).fetchall()
    complete = [row for row in found if None not in row]
    if not complete:
        raise InputError(
            f"--against {path}: none of the {keys.num_rows} rows that were looked at has one score there by {', '.join(on)}"
        )
    places, *scores = zip(*complete, strict=True)
    return np.array(places), {
        _name(column): _array(column, list(kept)) for column, kept in zip(known, scores, strict=True)
    }


def signature_predictions(
    path: str, rows: pa.RecordBatch, columns: Columns, batches: Sequence[int], keys: Collection[str]
) -> tuple[Predictions, ...]:
    """What an exported SavedModel gives for raw rows: by its signature `predict`, or else `serving_default`.

    Args:
      path: the SavedModel.
      rows: columns `feature:NAME`.
      columns: the raw features. The signature takes serialized tf.Examples of them, or dense features by name.
      batches: rows of each batch.
      keys: the predictions to take; the signature has to give one of them at least.

    Raises:
      ModelError: the SavedModel cannot be loaded, or its signature takes or gives something else.
    """
    import tensorflow as tf

    found, start = [], 0
    try:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            signatures = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def
            name = "predict" if "predict" in signatures else "serving_default"
            if name not in signatures:
                raise ModelError(
                    f"--against {path}: it has no signature predict or serving_default, but {', '.join(signatures)}"
                )
            outputs = {key: info.name for key, info in signatures[name].outputs.items() if key in keys}
            if not outputs:
                given = ", ".join(signatures[name].outputs)
                raise ModelError(
                    f"--against {path}: the signature {name!r} gives {given}, and the model {', '.join(keys)}"
                )
            for count in batches:
                feeds = _feeds(
                    signatures[name].inputs, rows.slice(start, count), columns, f"--against {path}: {name!r}"
                )
                found.append(session.run(outputs, feeds))
                start += count
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise ModelError(f"--against {path}: the SavedModel cannot be run ({type(error).__name__})") from error
    return tuple(found)


def _feeds(inputs: Mapping[str, Any], rows: pa.RecordBatch, columns: Columns, place: str) -> dict[str, Any]:
    import tensorflow as tf

    named = {name: feature for name, feature in columns.features.items() if name in inputs}
    if len(named) == len(inputs) and all(feature.kind == "fixed" for feature in named.values()):
        return {
            inputs[name].name: dense_values(rows.column(feature_column(name)), feature)
            for name, feature in named.items()
        }
    first, *others = inputs.values()
    fits_example = all(feature.dtype in EXAMPLE_DTYPES for feature in columns.features.values())
    if not others and first.dtype == tf.string.as_datatype_enum and fits_example:
        return {first.name: examples_of_rows(rows, columns)}
    raise ModelError(
        f"{place} takes {', '.join(inputs)}, which are neither tf.Examples nor dense raw features of the job"
    )


def _name(column: OutputColumn) -> str:
    return column.key if column.index is None else f"{column.key}[{column.index}]"


def _sql_type(column: OutputColumn) -> str:
    return _SQL[str(column.value_type)] + "[]" * len(column.shape)


def _array(column: OutputColumn, values: list[Any]) -> np.ndarray:
    """Rows as an array of the dtype of the prediction; texts are bytes, as in TensorFlow."""
    if str(column.value_type) in ("string", "binary"):
        array = np.array(values, object)
        return np.array([text.encode() for text in array.reshape(-1)] + [None], object)[:-1].reshape(array.shape)
    return np.array(values, column.value_type.to_pandas_dtype())
