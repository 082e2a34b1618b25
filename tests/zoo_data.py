"""Rows for the kinds of the zoo, seeded, and the writers of one shard in each input format.

A row is a dict: feature -> value, nested list, or None where the row has none; `id` and `note` are for passing through.
Formats write None as they do in the wild: an absent key, a null, an empty cell.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from zoo import Kind, Row

ROWS = 203
INT64_TRAPS = (2**53 + 1, -(2**63), 2**63 - 1, 0)
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
PASSTHROUGH = {"id": {"dtype": "int64"}, "note": {"dtype": "string"}}
"""Fields of every row that no model sees, as `features`-like entries."""

_ARROW = {"float32": pa.float32(), "int64": pa.int64(), "string": pa.string()}
_AVRO = {"float32": "float", "int64": "long", "string": "string"}


def make_rows(kind: Kind, count: int = ROWS, seed: int = 0) -> list[Row]:
    """Distinct rows of a kind. Where its domains allow the first ones hold the values that readers get wrong."""
    random = np.random.default_rng(seed)
    domains = getattr(kind.module, "DOMAINS", {})
    columns = {name: _column(feature, domains.get(name), count, random) for name, feature in kind.spec.items()}
    columns["id"] = [INT64_TRAPS[i] if i < len(INT64_TRAPS) else 10**11 + 7 * i for i in range(count)]
    columns["note"] = [("", "plain", "naïve ☃", 'say "x", then\r\ny', None)[i % 5] for i in range(count)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def split(rows: Sequence[Row], shards: int) -> list[list[Row]]:
    """Cut rows into shards of nearly one length, in order."""
    ends = np.linspace(0, len(rows), shards + 1).round().astype(int)
    return [list(rows[start:end]) for start, end in itertools.pairwise(ends)]


def to_example(row: Row, spec: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A row as a serialized tf.Example that holds the features of `spec`."""
    import tensorflow as tf

    example = tf.train.Example()
    for name, feature in spec.items():
        if row[name] is None:
            continue
        values = _flat(row[name])
        if feature["dtype"] == "float32":
            example.features.feature[name].float_list.value.extend(values)
        elif feature["dtype"] == "int64":
            example.features.feature[name].int64_list.value.extend(values)
        else:
            example.features.feature[name].bytes_list.value.extend(value.encode() for value in values)
    return example.SerializeToString(deterministic=True)


def write_tfrecord(path: Path, rows: Iterable[Row], spec: Mapping[str, Any], compression: str = "") -> None:
    """TFRecord of tf.Example. `compression`: "", GZIP or ZLIB."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
        for row in rows:
            writer.write(to_example(row, {**spec, **PASSTHROUGH}))


def write_shards(folder: Path, shards: Sequence[Sequence[Row]], spec: Mapping[str, Any]) -> list[Path]:
    """One plain TFRecord file a shard, numbered as training pipelines number them."""
    paths = [folder / f"rows-{index:05d}-of-{len(shards):05d}.tfrecord" for index in range(len(shards))]
    for path, rows in zip(paths, shards, strict=True):
        write_tfrecord(path, rows, spec)
    return paths


def write_parquet(path: Path, rows: Sequence[Row], spec: Mapping[str, Any], row_group_size: int = 50) -> None:
    """Parquet with several row groups; features of any length and shape are (nested) lists."""
    fields = {**spec, **PASSTHROUGH}
    table = pa.table(
        {name: pa.array([row[name] for row in rows], _arrow_type(feature)) for name, feature in fields.items()}
    )
    pq.write_table(table, path, row_group_size=row_group_size)


def write_csv(path: Path, rows: Iterable[Row], spec: Mapping[str, Any], header: bool = True) -> None:
    """RFC 4180: strings are quoted, so that "" is not missing; lists are JSON."""
    names = [*spec, *PASSTHROUGH]
    lines = [",".join(names)] if header else []
    lines += [",".join(_cell(row[name]) for name in names) for row in rows]
    path.write_bytes("".join(line + "\r\n" for line in lines).encode())


def write_jsonl(path: Path, rows: Sequence[Row], spec: Mapping[str, Any]) -> None:
    """JSON lines; a missing value is an absent key in even rows and a null in odd ones."""
    names = [*spec, *PASSTHROUGH]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows):
            values = {name: row[name] for name in names if row[name] is not None or number % 2}
            file.write(json.dumps(values, ensure_ascii=number % 3 == 0) + "\n")


def write_avro(path: Path, rows: Iterable[Row], spec: Mapping[str, Any]) -> None:
    """An Avro container, deflated, in several blocks; every field may be null."""
    fields = [
        {"name": name, "type": ["null", _avro_type(feature)]} for name, feature in {**spec, **PASSTHROUGH}.items()
    ]
    schema = fastavro.parse_schema({"type": "record", "name": "Row", "fields": fields})
    with path.open("wb") as file:
        fastavro.writer(file, schema, rows, codec="deflate", sync_interval=4_000)


def _column(feature: Mapping[str, Any], domain: Any, count: int, random: np.random.Generator) -> list[Any]:
    if feature.get("kind", "fixed") != "fixed":
        lengths = random.integers(0, 6, count)
        lengths[1] = 0
        values = _values(feature["dtype"], domain, int(lengths.sum()), random)
        ends = np.cumsum(lengths)
        column: list[Any] = [values[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        column[2] = None  # no values: absent, where row 1 has an empty list
        return column
    shape = feature.get("shape", [])
    size = int(np.prod(shape, dtype=int))
    values = _values(feature["dtype"], domain, count * size, random)
    if shape:
        nested = np.array(values, dtype=object).reshape(count, *shape).tolist()
        return list(nested)
    if feature["dtype"] == "string":
        values[3:5] = ["", "żółć ☃"]
    if "default" in feature:
        values[5::9] = [None] * len(values[5::9])
    return values


def _values(dtype: str, domain: Any, count: int, random: np.random.Generator) -> list[Any]:
    if dtype == "string":
        return [str(word) for word in random.choice(np.array(domain or WORDS, dtype=object), count)]
    if dtype == "int64":
        low, high = domain or (-1000, 1000)
        values: list[Any] = random.integers(low, high, count).tolist()
        traps: Sequence[Any] = INT64_TRAPS
    else:
        drawn = random.normal(size=count) if domain is None else random.uniform(domain[0], domain[1], count)
        values = drawn.astype(np.float32).tolist()
        traps = (-0.0, 0.0, 1e-40, float(np.float32(1 / 3)))
    if domain is None:
        values[: len(traps)] = traps[:count]
    return values


def _flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in _flat(item)] if isinstance(value, list) else [value]


def _arrow_type(feature: Mapping[str, Any]) -> pa.DataType:
    arrow = _ARROW[feature["dtype"]]
    for _ in range(_depth(feature)):
        arrow = pa.list_(arrow)
    return arrow


def _avro_type(feature: Mapping[str, Any]) -> Any:
    avro: Any = _AVRO[feature["dtype"]]
    for _ in range(_depth(feature)):
        avro = {"type": "array", "items": avro}
    return avro


def _depth(feature: Mapping[str, Any]) -> int:
    return len(feature.get("shape", [])) if feature.get("kind", "fixed") == "fixed" else 1


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, str)):
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        return '"' + text.replace('"', '""') + '"'
    return repr(value)
