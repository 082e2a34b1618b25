"""The parity record as it lies beside the model: some raw rows, and what the trainer's own `Estimator.predict` gave for them.

    RECORD/transform.json    the transform that the model was trained with; one a model_dir, see `pipeline.record.transform`
    RECORD/<digest>.arrow    for each recorded checkpoint, named by its digest, an Arrow IPC file

The Arrow file has the columns `feature:NAME` and `prediction:KEY`, and as many rows as were kept: none where no raw rows
may be stored. Its schema's metadata hold under `record`, as JSON, all the rest: of which checkpoint, the batch boundaries,
names, order, dtypes and ranks of the features, dtypes of the predictions, versions. Each file is written whole or not at
all, and nothing in it says where the model lies, so a copy of a model_dir is as good as the original.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.errors import ModelError
from pipeline.features import Feature, FeatureSpec
from pipeline.outputs import OutputColumn, to_arrow
from pipeline.rows import feature_column

FOLDER = "record"
"""Name of the record's folder in a model_dir."""
TRANSFORM = "transform.json"
FORMAT_VERSION = 1

Predictions = dict[str, np.ndarray]


class RecordedFeature(NamedTuple):
    """What a feature is in a graph.

    kind: `dense`, `sparse` or `ragged`. rank: with the batch dimension, None where the graph does not know it.
    """

    name: str
    kind: str
    dtype: str
    rank: int | None


class RecordedFile(NamedTuple):
    """A file that the model's graph opened: its base name, and the SHA-256 of its content, in hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """The sample of one checkpoint.

    checkpoint: base name of its files, for people. digest: of the checkpoint. raw: the raw features. model: what the
    model_fn got, in its order; bare: as one tensor, not as a dict. batches: rows of each batch that was predicted.
    rows: the columns `feature:NAME`. predictions: key, or key[index] on the last axis -> array (rows of the batch, ...),
    for each batch. source: where they are from. files: that the model's graph opened, in its order; None: not known.
    """

    checkpoint: str
    step: int | None
    digest: str
    raw: tuple[RecordedFeature, ...]
    model: tuple[RecordedFeature, ...]
    bare: bool
    batches: tuple[int, ...]
    rows: pa.RecordBatch
    predictions: tuple[Predictions, ...]
    source: str = "Estimator.predict"
    created: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    files: tuple[RecordedFile, ...] | None = None


def raw_features(spec: FeatureSpec) -> tuple[RecordedFeature, ...]:
    """What raw features are in the graph, in the order of the spec."""
    kinds = {"varlen": "sparse", "sparse": "sparse", "ragged": "ragged"}
    return tuple(
        RecordedFeature(name, kinds.get(feature.kind, "dense"), feature.dtype, _rank(feature))
        for name, feature in spec.items()
    )


def _rank(feature: Feature) -> int:
    if feature.kind in ("fixed", "sparse"):
        return 1 + len(feature.shape)
    return 2 + len(feature.shape) + len(feature.partitions)


def framework_versions() -> dict[str, str]:
    """Versions of what computes predictions."""
    import tensorflow as tf

    return {"tensorflow": tf.__version__, "numpy": np.__version__}


def sample_path(folder: str, digest: str) -> str:
    """Path of the file of a checkpoint in a record folder."""
    return files.join(folder, f"{digest}.arrow")


def write_record(folder: str, record: Record) -> str:
    """Write the sample of a checkpoint, over an older one of the same checkpoint; returns its path."""
    plain: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "checkpoint": record.checkpoint,
        "step": record.step,
        "digest": record.digest,
        "raw_features": [feature._asdict() for feature in record.raw],
        "model_features": [feature._asdict() for feature in record.model],
        "bare": record.bare,
        "batches": record.batches,
        "predictions": {key: str(values.dtype) for key, values in next(iter(record.predictions), {}).items()},
        "source": record.source,
        "created": record.created,
        "versions": dict(record.versions),
        "files": None if record.files is None else [file._asdict() for file in record.files],
    }
    columns = {name: record.rows.column(name) for name in record.rows.schema.names}
    for key in plain["predictions"]:
        columns[_prediction_column(key)] = pa.concat_arrays(
            [_to_arrow(key, batch[key]) for batch in record.predictions]
        )
    table = pa.table(columns).replace_schema_metadata({"record": json.dumps(plain)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    path = sample_path(folder, record.digest)
    files.write_bytes(path, sink.getvalue().to_pybytes())
    return path


def read_record(folder: str, digest: str) -> Record | None:
    """The sample of the checkpoint with that digest, or None if there is none.

    Raises:
      ModelError: the file is damaged, or was written by a newer version of this project.
    """
    path = sample_path(folder, digest)
    if not files.exists(path):
        return None
    try:
        with pa.ipc.open_file(pa.py_buffer(files.read_bytes(path))) as reader:
            table = reader.read_all()
        plain = json.loads((table.schema.metadata or {})[b"record"])
        check_version(path, plain)
        rows = table.combine_chunks()
        return Record(
            checkpoint=plain["checkpoint"],
            step=plain["step"],
            digest=digest,
            raw=tuple(RecordedFeature(**feature) for feature in plain["raw_features"]),
            model=tuple(RecordedFeature(**feature) for feature in plain["model_features"]),
            bare=plain["bare"],
            batches=tuple(plain["batches"]),
            rows=_batch(rows.select([name for name in rows.column_names if name.startswith(feature_column(""))])),
            predictions=_predictions(rows, plain["batches"], plain["predictions"]),
            source=plain["source"],
            created=plain["created"],
            versions=plain["versions"],
            files=_files(plain.get("files")),
        )
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def _files(plain: Any) -> tuple[RecordedFile, ...] | None:
    return None if plain is None else tuple(RecordedFile(**file) for file in plain)


def _prediction_column(key: str) -> str:
    return f"prediction:{key}"


def _to_arrow(key: str, values: np.ndarray) -> pa.Array:
    """Lists of no fixed size for all but the batch dimension: it may differ between batches."""
    value_type = pa.binary() if values.dtype.kind in "OS" else pa.from_numpy_dtype(values.dtype)
    column = OutputColumn(_prediction_column(key), key, None, value_type, (None,) * (values.ndim - 1))
    return to_arrow(column, values)[0]


def _predictions(rows: pa.Table, batches: Sequence[int], dtypes: Mapping[str, str]) -> tuple[Predictions, ...]:
    found, start = [], 0
    for count in batches:
        piece = rows.slice(start, count)
        found.append({key: _to_numpy(_array(piece[_prediction_column(key)]), dtype) for key, dtype in dtypes.items()})
        start += count
    if start != rows.num_rows:
        raise ValueError(f"{rows.num_rows} rows in batches of {start}")
    return tuple(found)


def _to_numpy(array: pa.Array, dtype: str) -> np.ndarray:
    shape = [len(array)]
    while pa.types.is_list(array.type):
        lists, array = len(array), array.flatten()
        shape.append(len(array) // lists if lists else 0)
    return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False).reshape(shape)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _batch(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_array(column) for column in table.columns], names=table.column_names)


def check_version(path: str, plain: Any) -> None:
    """Refuse a file of a newer version of this project."""
    if plain["format_version"] > FORMAT_VERSION:
        raise ModelError(
            f"{path} was written by a newer version of this project; install that, or make the record again"
        )


def damaged(path: str, error: Exception) -> ModelError:
    """The refusal of a file that cannot be read."""
    return ModelError(f"{path} is damaged ({type(error).__name__}); delete it, and make the record again")
