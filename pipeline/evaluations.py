"""What evaluations of an Estimator measured: the event files that they leave under `model_dir/eval*/`."""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pipeline import files
from pipeline.errors import ModelError

_HEADER = struct.Struct("<QI")
_CHECKSUM_BYTES = 4


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
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.util.event_pb2 import Event

    for record in _records(path):
        try:
            event = Event.FromString(record)
        except DecodeError as error:
            raise ModelError(f"event file {path} is damaged: {error}") from error
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield event.step, value.tag, value.simple_value
            elif value.HasField("tensor") and _is_number(value.tensor):
                yield event.step, value.tag, float(tf.make_ndarray(value.tensor).reshape(()))


def _is_number(tensor: Any) -> bool:
    import tensorflow as tf

    dtype = tf.as_dtype(tensor.dtype)
    return (dtype.is_floating or dtype.is_integer) and all(dimension.size == 1 for dimension in tensor.tensor_shape.dim)


def _records(path: str) -> Iterator[bytes]:
    """The framing of TFRecord. An evaluation that runs, or was killed, leaves a last record that is cut short."""
    with files.open_read(path) as file:
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, _ = _HEADER.unpack(header)
            record = file.read(length + _CHECKSUM_BYTES)
            if len(record) < length + _CHECKSUM_BYTES:
                return
            yield record[:length]
