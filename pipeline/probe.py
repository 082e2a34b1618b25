"""What a few rows tell of a model: whether its scores are row-wise, and whether they depend on optional features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from pipeline.errors import ModelError
from pipeline.features import Feature, decoded_features
from pipeline.model import Model, is_data_error
from pipeline.rows import RECORD, Columns, Rows, feature_column, fields_of_record, take_rows

TOLERANCE = 1e-5
"""Largest difference of two scores of one row, relative to the largest score of that prediction or 1."""

PROBE_ROWS = 64


def check_row_wise(model: Model, rows: Rows, keys: Iterable[str]) -> None:
    """Refuse a model whose scores depend on the other rows of the batch, or on chance.

    Args:
      model: the model that is going to score.
      rows: up to `PROBE_ROWS` rows, all of which can be scored.
      keys: the predictions to look at.

    Raises:
      ModelError: names the prediction, how far it moves, and whether it looks random or depends on other rows.
    """
    keys = list(keys)
    together = model.run(rows, keys).predictions
    again = model.run(rows, keys).predictions
    alone = _alone(model, rows, keys)
    count = rows.num_rows
    backwards = model.run(take_rows(rows, np.arange(count)[::-1]), keys).predictions
    reversed_back = {key: values[::-1] for key, values in backwards.items()}
    # A random score moves alone as well, so chance is looked for first.
    same_alone = _alone(model, rows, keys) if count else alone
    for key in keys:
        for first, second in ((together, again), (alone, same_alone)):
            if differing(first, second, key).any():
                raise ModelError(
                    f"prediction {key!r} is random: the same batch scored twice differs by "
                    f"{_largest(first[key], second[key])}. Dropout or a random op is on in PREDICT mode: pass "
                    "training=(mode == tf.estimator.ModeKeys.TRAIN), or accept it by model.row_wise: false"
                )
    for key in keys:
        for how, other in (("alone", alone), ("in reversed order", reversed_back)):
            different = differing(together, other, key)
            if different.any():
                raise ModelError(
                    f"prediction {key!r} depends on the other rows of the batch: {int(different.sum())} of {count} rows "
                    f"score differently {how}, by up to {_largest(together[key], other[key])}. Look for batch normalization in training "
                    "mode, a softmax or a mean over axis 0, or padding to the longest row; or accept it by "
                    "model.row_wise: false (fixed batches, a failing batch is rejected whole)"
                )


def distinct_rows(rows: Rows, count: int, examined: int = 1024) -> Rows:
    """The first `count` rows that differ from each other in what the graph is fed; equal ones cannot tell on each other.

    examined: how many rows are looked at.
    """
    of_record = [name for name in fields_of_record(rows) if name.startswith(feature_column(""))] or [RECORD]
    fed = [name for name in rows.schema.names if name in of_record or name.startswith(feature_column(""))]
    looked_at = rows.slice(0, examined)
    values = [looked_at.column(name) for name in fed]
    seen: set[str] = set()
    chosen = []
    for index in range(looked_at.num_rows):
        content = repr([column[index].as_py() for column in values])
        if content not in seen:
            seen.add(content)
            chosen.append(index)
            if len(chosen) == count:
                break
    return take_rows(rows, np.array(chosen, np.int64))


def optional_that_matter(model: Model, rows: Rows, keys: Iterable[str], columns: Columns) -> list[str]:
    """Optional features that predictions depend on: each is given two values in every row, and the scores move.

    A shard that lacks such a feature is scored with a filler in its place. One whose filler the graph refuses matters too.
    """
    keys = list(keys)
    matter = []
    for name in sorted(columns.optional & columns.features.keys()):
        feature = columns.features[name]
        fillers = ((b"", b"x") if feature.dtype == "string" else (0, 1)) if feature.kind == "fixed" else (None, 1)
        try:
            first, second = (model.run(_filled(rows, columns, name, value), keys).predictions for value in fillers)
        except Exception as error:
            if not is_data_error(error):
                raise
            matter.append(name)
            continue
        if any(differing(first, second, key).any() for key in keys):
            matter.append(name)
    return matter


def _filled(rows: Rows, columns: Columns, name: str, value: bytes | int | None) -> Rows:
    """The rows with one value of a feature (as many as its shape holds) in each; None for a list without values."""
    feature = columns.features[name]
    for key, part in decoded_features({name: feature}).items():
        filler = 0 if key in feature.index_keys and value is not None else value
        if filler is not None and part.dtype == "string" and not isinstance(filler, bytes):
            filler = b"x"
        values = [] if filler is None else [filler] * part.size
        column = feature_column(key)
        if column in rows.schema.names:
            whole = values if part.is_list or part.shape else values[0]
            filled = pa.array([whole] * rows.num_rows, part.arrow_type)
            rows = rows.set_column(rows.schema.get_field_index(column), column, filled)
        else:
            records = [
                _with_values(record, columns.source(key), part, values, columns.record)
                for record in rows.column(RECORD).to_pylist()
            ]
            rows = rows.set_column(rows.schema.get_field_index(RECORD), RECORD, pa.array(records, pa.binary()))
    return rows


def _with_values(record: bytes, key: str, feature: Feature, values: list[bytes | int], kind: str) -> bytes:
    """A serialized record with other values of a feature. kind: as `input.record`."""
    import tensorflow as tf

    if kind == "bytes":
        return values[0] if values and isinstance(values[0], bytes) else record
    parsed = (tf.train.Example if kind == "example" else tf.train.SequenceExample).FromString(record)
    if feature.feature_list:
        steps = parsed.feature_lists.feature_list[key]
        steps.Clear()
        slot = steps.feature.add() if values else None
    else:
        slot = (parsed.features if kind == "example" else parsed.context).feature[key]
        slot.Clear()
    if values and slot is not None:
        lists = {"string": slot.bytes_list, "int64": slot.int64_list, "float32": slot.float_list}
        lists[feature.dtype].value.extend(values)
    return parsed.SerializeToString()


def differing(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """Which rows of two sets of predictions differ in `key` beyond the tolerance: (rows,) bool.

    Floats by |a - b| <= 1e-5 * max(1, max|b|); anything else has to be equal, except in rows where the two best scores
    of a float prediction lie that close together, so that which of them is the best may change.
    """
    a, b = first[key], second[key]
    if a.shape != b.shape:
        return np.ones(len(a), bool)
    if a.dtype.kind == "f":
        return _far(a, b)
    unequal = (a != b).reshape(len(a), -1).any(axis=1)
    for values in second.values():
        if values.dtype.kind == "f" and values.ndim == 2:
            unequal &= ~_tied(values)
    return unequal


def _far(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    finite = np.isfinite(b)
    bound = TOLERANCE * max(1.0, float(np.abs(b[finite]).max()) if finite.any() else 1.0)
    with np.errstate(invalid="ignore"):
        far = np.where(finite & np.isfinite(a), np.abs(a - b) > bound, ~((a == b) | (np.isnan(a) & np.isnan(b))))
    return far.reshape(len(a), -1).any(axis=1)


def _tied(scores: np.ndarray) -> np.ndarray:
    """Rows whose two best scores lie within the tolerance; of a single score, those at a class boundary (0 or a half)."""
    bound = TOLERANCE * max(1.0, float(np.nanmax(np.abs(scores), initial=0.0)))
    if scores.shape[1] == 1:
        return (np.abs(scores[:, 0]) <= bound) | (np.abs(scores[:, 0] - 0.5) <= bound)
    best = np.sort(scores, axis=1)
    return best[:, -1] - best[:, -2] <= bound


def _alone(model: Model, rows: Rows, keys: list[str]) -> dict[str, np.ndarray]:
    singles = [model.run(rows.slice(index, 1), keys).predictions for index in range(rows.num_rows)]
    columns = {}
    for key in keys:
        values = [single[key] for single in singles]
        shapes = {value.shape for value in values}
        # Rows of unknown length differ in shape when they stand alone, which is what padding looks like.
        columns[key] = np.concatenate(values) if len(shapes) == 1 else _ragged(values)
    return columns


def _ragged(values: list[np.ndarray]) -> np.ndarray:
    rows = np.empty(len(values), object)
    rows[:] = [value.tobytes() for value in values]
    return rows


def _largest(a: np.ndarray, b: np.ndarray) -> str:
    if a.dtype.kind != "f" or a.shape != b.shape:
        return "other values"
    return f"{float(np.nanmax(np.abs(a - b))):.2g}"
