"""A serving_input_receiver_fn between the rows and the model: it is fed raw records, or raw tensors by name.

The function is called in the PREDICT graph, as an export calls it, so its tables and variables are the model's. Its
placeholders are not fed: their consumers get the tensors of one of our own graph inputs instead, which brings
pass-through columns, presence and decoding along.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.code import resolve
from pipeline.code_errors import explain_user_error
from pipeline.errors import JobError, ModelError
from pipeline.example_input import ExampleInput
from pipeline.features import DTYPES, EXAMPLE_DTYPES, Feature, FeatureSpec
from pipeline.graph_input import PARSING, ColumnInput, GraphInput, RawTensors, RecordInput
from pipeline.partition_input import record_input
from pipeline.rows import Columns

if TYPE_CHECKING:
    from pipeline.job import Job

KEY = "model.serving_input_fn"


@dataclass(frozen=True)
class ServingInputFn:
    """A serving_input_receiver_fn and what a call of it in a graph of its own has told.

    function: without arguments. place: how messages call it.
    parses: whether it is fed serialized records. features: those that it takes by name, or that its parse op reads; empty
        where it parses in a way that does not tell.
    receiver: name of its one tensor for records, or "".
    """

    function: Any
    place: str
    parses: bool
    features: Mapping[str, Feature]
    receiver: str = ""


def open_serving_input(job: Job) -> ServingInputFn:
    """Call the serving_input_receiver_fn of a job in a graph of its own, and tell what it takes.

    Raises:
      JobError: it needs arguments, returns no receiver, or takes what rows cannot be fed to.
      ModelError: it fails.
    """
    import tensorflow as tf

    reference = job.model.serving_input_fn or ""
    function, place = resolve(reference, KEY), f"{KEY}: {reference}"
    _refuse_arguments(function, place)
    with tf.Graph().as_default() as graph:
        tf.compat.v1.train.create_global_step(graph)
        receiver = _call(function, place)
        tensors = receiver.receiver_tensors
        for name, tensor in tensors.items():
            _check_batch(name, tensor, place)
        (name, tensor), *others = tensors.items()
        is_text = isinstance(tensor, tf.Tensor) and tensor.dtype == tf.string and tensor.shape.rank in (None, 1)
        raw_record = job.input.format == "tfrecord" and job.input.record != "example"
        if is_text and not others and (raw_record or any(kind in PARSING for kind in _operation_types(graph))):
            features = {} if raw_record else parsed_features(tensor)
            return ServingInputFn(function, place, True, features, name)
        if raw_record:
            raise JobError(
                f"{place} takes {', '.join(tensors)} by name, and not one vector of serialized records, which "
                f"input.record: {job.input.record} gives; leave input.record out, or parse the record in the function"
            )
        return ServingInputFn(function, place, False, {name: _feature(name, tensors[name], place) for name in tensors})


def serving_features(job: Job, declared: FeatureSpec | None) -> dict[str, Feature]:
    """The raw features of a job with a serving_input_receiver_fn.

    Args:
      job: the job.
      declared: its `features`, for rows that are made into tf.Examples.

    Raises:
      JobError: the function does not take rows of the job's format.
    """
    serving = open_serving_input(job)
    if not serving.parses:
        if declared is not None:
            raise JobError(
                f"features: {serving.place} takes {', '.join(serving.features)} by name, and its placeholders tell dtype and "
                "shape; leave features out"
            )
        return dict(serving.features)
    if job.input.format == "tfrecord":
        for name in serving.features:
            if name in job.input.rename:
                raise JobError(
                    f"input.rename: {name}: {serving.place} parses the record by its own names; leave it out"
                )
        return dict(serving.features)
    if declared is None:
        if not serving.features:
            raise JobError(
                f"{serving.place} parses serialized records, in a way that does not tell the features, and the rows are "
                f"{job.input.format}; write features, of which tf.Examples are made for it"
            )
        return dict(serving.features)
    for name, feature in declared.items():
        if feature.dtype not in EXAMPLE_DTYPES:
            raise JobError(
                f"features: {name}: rows become tf.Examples for {serving.place}, which hold {', '.join(EXAMPLE_DTYPES)} and no "
                f"{feature.dtype}; declare one of these"
            )
    missing = [
        name for name in serving.features if name not in {key for each in declared.values() for key in each.keys}
    ]
    if missing:
        raise JobError(
            f"features: {serving.place} parses {', '.join(missing)} too, which would be missing in every row; add it"
        )
    return dict(declared)


def parsed_features(records: Any) -> dict[str, Feature]:
    """The features that ops of `tf.io.parse_example` read out of serialized records, a tensor, each once."""
    found: dict[str, Feature] = {}
    for name, feature, _ in _parsed_of(records):
        found.setdefault(name, feature)
    return found


class ServingInput:
    """The rows of another graph input, wired to the placeholders of a serving_input_receiver_fn."""

    def __init__(self, serving: ServingInputFn, inner: GraphInput):
        self._serving = serving
        self._inner = inner
        self.placeholders: list[Any] = []

    def build(self) -> RawTensors:
        raw = self._inner.build()
        self.placeholders = self._inner.placeholders
        if not self._serving.parses:
            return replace(raw, for_model=_wired(self._serving, raw.features))
        records = self.placeholders[0]
        for_model = _wired(self._serving, {self._serving.receiver: records})
        parsed = {name: tensor for name, _, tensor in _parsed_of(records)}
        return replace(raw, features=parsed, for_model=for_model)

    def feeds(self, rows: pa.RecordBatch) -> list[np.ndarray]:
        return self._inner.feeds(rows)

    def passthrough(
        self, rows: pa.RecordBatch, fetched: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> dict[str, pa.Array]:
        return self._inner.passthrough(rows, fetched)

    def refusal(self, row: pa.RecordBatch) -> str | None:
        return self._inner.refusal(row)


class ExampleServingInput(RecordInput):
    """Serialized tf.Examples that the function parses; here only pass-through columns and presence are read."""

    def __init__(self, serving: ServingInputFn, columns: Columns):
        super().__init__(columns)
        self._serving = serving
        self._for_model: Any = None

    def build(self) -> RawTensors:
        return replace(super().build(), for_model=self._for_model)

    def _parse(
        self, record: Any, spec: Mapping[str, Feature], more: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self._for_model = _wired(self._serving, {self._serving.receiver: record})
        parsed = {name: tensor for name, _, tensor in _parsed_of(record)}
        return {name: parsed[name] for name in spec}, self._parse_aside(record, more) if more else {}


def serving_input(job: Job, columns: Columns, as_columns: bool) -> GraphInput:
    """The graph input of a job with a serving_input_receiver_fn.

    Args:
      job: the job.
      columns: what is taken out of a record.
      as_columns: whether rows arrive as decoded columns, and not as records.
    """
    serving = open_serving_input(job)
    if as_columns:
        return ServingInput(serving, ExampleInput(columns) if serving.parses else ColumnInput(columns.features))
    if serving.parses and columns.record == "example":
        return ExampleServingInput(serving, columns)
    return ServingInput(serving, record_input(columns))


def _refuse_arguments(function: Any, place: str) -> None:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in kinds
    ]
    if needed:
        raise JobError(
            f"{place} needs the arguments {', '.join(needed)}, and is called with none; name a function without arguments, "
            "such as what tf.estimator.export.build_parsing_serving_input_receiver_fn returns"
        )


def _call(function: Any, place: str) -> Any:
    try:
        receiver = function()
    except Exception as error:
        raise ModelError(explain_user_error(error, place)) from error
    if not isinstance(getattr(receiver, "receiver_tensors", None), Mapping) or not receiver.receiver_tensors:
        raise JobError(
            f"{place} returned a {type(receiver).__name__}; it has to return a "
            "tf.estimator.export.ServingInputReceiver or TensorServingInputReceiver"
        )
    return receiver


def _check_batch(name: str, tensor: Any, place: str) -> None:
    shape = tensor.shape
    if shape.rank is not None and (shape.rank == 0 or shape.as_list()[0] is not None):
        raise JobError(
            f"{place}: the receiver tensor {name!r} has the shape {tuple(shape.as_list())}; its first dimension has to be "
            "the batch, of any size: write None for it"
        )
    if any(component.op.type not in ("Placeholder", "PlaceholderWithDefault") for component in _components(tensor)):
        raise JobError(f"{place}: the receiver tensor {name!r} is no placeholder, so nothing can be fed to it")


def _feature(name: str, tensor: Any, place: str) -> Feature:
    """The feature that a placeholder stands for."""
    import tensorflow as tf

    dtype = tensor.dtype.name
    if dtype not in DTYPES:
        raise JobError(f"{place}: the receiver tensor {name!r} is of {dtype}, which no feature has")
    if isinstance(tensor, tf.SparseTensor) and tensor.shape.rank in (None, 2):
        return Feature(name, dtype, "varlen")
    if isinstance(tensor, tf.RaggedTensor) and tensor.ragged_rank == 1 and tensor.flat_values.shape.rank == 1:
        return Feature(name, dtype, "ragged", row_splits=tensor.row_splits.dtype.name)
    known = isinstance(tensor, tf.Tensor) and tensor.shape.rank
    sizes: list[Any] = tensor.shape.as_list()[1:] if known else [None]
    if None in sizes:
        raise JobError(
            f"{place}: the receiver tensor {name!r} has the shape {tensor.shape}, which does not tell how many values a row "
            "has; give its placeholder every dimension but the first, or let the function parse tf.Examples"
        )
    return Feature(name, dtype, "fixed", tuple(sizes))


def _operation_types(graph: Any) -> set[str]:
    definition = graph.as_graph_def()
    inside = {node.op for function in definition.library.function for node in function.node_def}
    return inside | {node.op for node in definition.node}


def _wired(serving: ServingInputFn, given: Mapping[str, Any]) -> Any:
    """Call the function, let its receiver tensors be `given`, and return the features that it has for the model."""
    import tensorflow as tf

    receiver = _call(serving.function, serving.place)
    wiring: dict[str, Any] = {}
    for name, tensor in receiver.receiver_tensors.items():
        for old, new in zip(_components(tensor), _components(given[name]), strict=True):
            for consumer in old.consumers():
                for index, each in enumerate(consumer.inputs):
                    if each is old:
                        consumer._update_input(index, new)
            wiring[old.name] = new
    return tf.nest.map_structure(
        lambda tensor: wiring.get(tensor.name, tensor), receiver.features, expand_composites=True
    )


def _parsed_of(records: Any) -> Iterator[tuple[str, Feature, Any]]:
    """Name, feature and tensor of all that ops of `tf.io.parse_example` read out of serialized records."""
    for consumer in records.consumers():
        if consumer.type == "ParseExampleV2" and consumer.inputs[0] is records:
            yield from _parsed(consumer)
        elif consumer.type == "Identity":
            yield from _parsed_of(consumer.outputs[0])


def _parsed(operation: Any) -> Iterator[tuple[str, Feature, Any]]:
    import tensorflow as tf

    inputs, outputs = list(operation.inputs), list(operation.outputs)
    sparse, dense, ragged = ([key.decode() for key in tf.get_static_value(tensor)] for tensor in inputs[2:5])
    for index, (key, dtype) in enumerate(zip(sparse, operation.get_attr("sparse_types"), strict=True)):
        parts = (outputs[index + step * len(sparse)] for step in range(3))
        yield key, Feature(key, dtype.name, "varlen"), tf.SparseTensor(*parts)
    first = 3 * len(sparse)
    shapes = map(tf.TensorShape, operation.get_attr("dense_shapes"))
    for key, dtype, shape, default in zip(dense, operation.get_attr("Tdense"), shapes, inputs[5:], strict=True):
        yield key, _dense_feature(key, dtype.name, shape.as_list(), _constant(default)), outputs[first]
        first += 1
    splits = operation.get_attr("ragged_split_types")
    for key, dtype, split in zip(ragged, operation.get_attr("ragged_value_types"), splits, strict=True):
        tensor = tf.RaggedTensor.from_row_splits(outputs[first], outputs[first + len(ragged)], validate=False)
        yield key, Feature(key, dtype.name, "ragged", row_splits=split.name), tensor
        first += 1


def _dense_feature(key: str, dtype: str, sizes: list[int | None], default: np.ndarray | None) -> Feature:
    """default: as the op has it: empty where there is none, of a sequence what it is padded with."""
    values = () if default is None else tuple(np.ravel(default).tolist())
    known = tuple(size for size in sizes if size is not None)
    filler = None if not values else values[0] if len(values) == 1 else values
    return Feature(key, dtype, "fixed" if len(known) == len(sizes) else "sequence", known, filler)


def _constant(tensor: Any) -> np.ndarray | None:
    """The value of a default, which `tf.io.parse_example` reshapes; None where it is computed."""
    import tensorflow as tf

    while tensor.op.type in ("Reshape", "Identity"):
        tensor = tensor.op.inputs[0]
    return tf.get_static_value(tensor)


def _components(tensor: Any) -> list[Any]:
    import tensorflow as tf

    return tf.nest.flatten(tensor, expand_composites=True)
