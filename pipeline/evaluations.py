"""What evaluations of an Estimator measured: the event files that they leave under `model_dir/eval*/`."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline import files
from pipeline.errors import ModelError
from pipeline.protos import DTYPES, message_class

_HEADER = struct.Struct("<QI")
_CHECKSUM_BYTES = 4
_HALVES = ("float16", "bfloat16")
_VALUES = {
    "float32": "float_val", "float64": "double_val", "int64": "int64_val", "uint32": "uint32_val", "uint64": "uint64_val",
    **dict.fromkeys(("int8", "uint8", "int16", "uint16", "int32"), "int_val"), **dict.fromkeys(_HALVES, "half_val"),
}  # fmt: skip
"""dtype of a tensor -> the field with its values, where they are not packed into bytes."""


def read_metric(model_dir: str, metric: str) -> dict[int, float]:
    """Global step -> value of a metric; NaN values are left out, and of several values of a step the last one counts.

    Args:
      model_dir: the Estimator's.
      metric: its name, or FOLDER/NAME where several evaluations (`eval`, `eval_train`) have one of that name.

    Raises:
      ModelError: there are no evaluations, none has that metric, several have, or an event file is damaged.
    """
    metrics = read_metrics(model_dir)
    if not metrics:
        raise ModelError(
            f"there are no evaluations in {model_dir}/eval*/ to choose the best checkpoint by: run Estimator.evaluate, or set "
            "model.checkpoint to latest or a step"
        )
    found = [key for key in metrics if metric in (key[1], "/".join(key))]
    if not found:
        names = sorted({name for _, name in metrics})
        raise ModelError(f"model.checkpoint: no evaluation has a metric {metric!r}; there are: {', '.join(names)}")
    if len(found) > 1:
        names = sorted("/".join(key) for key in found)
        raise ModelError(f"model.checkpoint: several evaluations have {metric!r}; name one of {', '.join(names)}")
    values = {step: value for step, value in metrics[found[0]].items() if not math.isnan(value)}
    if not values:
        raise ModelError(f"model.checkpoint: every value of {metric!r} is NaN, so none is the best")
    return values


def read_metrics(model_dir: str) -> dict[tuple[str, str], dict[int, float]]:
    """All that evaluations measured: (folder, metric) -> global step -> value, NaN values among them."""
    metrics: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for info in files.match(files.join(model_dir, "eval*", "*.tfevents.*")):
        folder = info.path.split("/")[-2]
        for step, name, value in _values(info.path):
            metrics[folder, name][step] = value
    return dict(metrics)


def _values(path: str) -> Iterator[tuple[int, str, float]]:
    """Global step, metric and value, in the order of writing."""
    from google.protobuf.message import DecodeError

    event_class = message_class("Event")
    for record in _records(path):
        try:
            event = event_class.FromString(record)
        except DecodeError as error:
            raise ModelError(f"event file {path} is damaged: {error}") from error
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield event.step, value.tag, value.simple_value
            elif value.HasField("tensor") and (number := _number(value.tensor)) is not None:
                yield event.step, value.tag, number


def _number(tensor: Any) -> float | None:
    """The value of a tensor that is one number; None for any other."""
    dtype = DTYPES.get(tensor.dtype)
    if dtype not in _VALUES or any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    stored = "uint16" if dtype in _HALVES else dtype  # the bits of it
    bits = np.frombuffer(tensor.tensor_content, np.dtype(stored).newbyteorder("<"))
    value = bits[:1] if len(bits) else np.array([*getattr(tensor, _VALUES[dtype]), 0][:1], stored)
    if dtype == "bfloat16":  # the upper half of a float32
        return float((value.astype(np.uint32) << 16).view(np.float32)[0])
    return float(value.view(np.float16)[0] if dtype == "float16" else value[0])


def _records(path: str) -> Iterator[bytes]:
    """The framing of TFRecord. An evaluation that runs, or was killed, leaves a last record that is cut short."""
    with files.open_read(path) as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, _ = _HEADER.unpack(header)
            record = file.read(length + _CHECKSUM_BYTES)
            if len(record) < length + _CHECKSUM_BYTES:
                return
            yield record[:length]
