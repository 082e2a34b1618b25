"""The raw features and the transform of a job in a flat graph of their own, to look at and to run on some rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.graph_input import ColumnInput, GraphInput
from pipeline.model import is_data_error
from pipeline.partition_input import record_input
from pipeline.rows import take_rows
from pipeline.scoring import ScoringSpec
from pipeline.skew.flat_graph import flat_graph
from pipeline.skew.origins import Origins
from transforms import Attached, FunctionTransform

if TYPE_CHECKING:
    import tensorflow as tf

MOST_BAD = 64
"""Rows that are looked for one by one because the graph refuses them; with more of them nothing is told."""


@dataclass(frozen=True)
class Traced:
    """A flat graph.

    values: feature -> its values: all of a batch (rows, *shape), or those that rows have (values,).
    present: int64 (features,), rows that have a value, in the order of `values`; None where columns are decoded before.
    operations: those that an output of the transform is computed from.
    origins: leads back from them to the features.
    """

    graph: tf.Graph
    values: Mapping[str, Any]
    present: Any
    operations: list[Any]
    origins: Origins
    _source: tf.Graph  # keeps the Python functions that operations call
    _graph_input: GraphInput
    _initializer: Any

    @contextmanager
    def _session(self) -> Iterator[tf.compat.v1.Session]:
        """A session with the transform's tables filled."""
        import tensorflow as tf

        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)
        with tf.compat.v1.Session(graph=self.graph, config=config) as session:
            if self._initializer is not None:
                session.run(self._initializer)
            yield session

    def run(self, fetches: Any, rows: pa.RecordBatch) -> tuple[Any, int] | None:
        """Values of tensors for those rows that the graph takes, and how many these are; None where too few are good."""
        with self._session() as session:
            bad: list[int] = []
            fetched = self._search(session, fetches, rows, 0, bad)
            if not bad:
                return fetched, rows.num_rows
            good = np.ones(rows.num_rows, bool)
            good[bad] = False
            if len(bad) > MOST_BAD or not good.any():
                return None
            return self._run(session, fetches, take_rows(rows, good)), int(good.sum())

    def _search(self, session: Any, fetches: Any, rows: pa.RecordBatch, start: int, bad: list[int]) -> Any:
        """Run rows, of which the first has the number `start`; the numbers of bad ones are added to `bad`."""
        try:
            return self._run(session, fetches, rows)
        except Exception as error:
            if not is_data_error(error):
                raise
        if rows.num_rows == 1:
            bad.append(start)
        elif len(bad) <= MOST_BAD:
            middle = rows.num_rows // 2
            self._search(session, fetches, rows.slice(0, middle), start, bad)
            self._search(session, fetches, rows.slice(middle), start + middle, bad)
        return None

    def _run(self, session: Any, fetches: Any, rows: pa.RecordBatch) -> Any:
        names = [placeholder.name for placeholder in self._graph_input.placeholders]
        return session.run(fetches, dict(zip(names, self._graph_input.feeds(rows), strict=True)))


def trace(spec: ScoringSpec, transform: Any, outputs: Sequence[str] | str | None) -> Traced:
    """Build the flat graph.

    Args:
      spec: of the job.
      transform: of `pipeline.scoring.load_transform`, or None.
      outputs: the outputs of the transform that the model gets, None for all of them.

    Raises:
      ValueError: the transform cannot be called once more, or TensorFlow does not take the flat copy of its graph.
    """
    import tensorflow as tf

    columns = replace(spec.columns, passthrough={})
    graph_input = record_input(columns) if spec.record_format == "tfrecord" else ColumnInput(columns.features)
    with tf.Graph().as_default() as graph:
        raw = graph_input.build()
        values = {name: _values(tensor) for name, tensor in raw.features.items()}
        structure = [part for tensor in raw.features.values() for part in _structure(tensor)]
        chosen: list[Any] = []
        initializer = None
        if transform is not None:
            attached = _attached(transform, raw.features)
            initializer = attached.initializer
            names = [outputs] if isinstance(outputs, str) else outputs or attached.outputs
            parts = tf.nest.flatten({name: attached.outputs[name] for name in names}, expand_composites=True)
            chosen = [tf.identity(part) for part in parts]  # a call's own outputs are not in the flat graph
    flat = flat_graph(graph)

    def same(tensor: Any) -> Any:
        return flat.get_tensor_by_name(tensor.name)

    flat_values = {name: same(tensor) for name, tensor in values.items()}
    return Traced(
        graph=flat,
        values=flat_values,
        present=None if raw.present is None else same(raw.present),
        operations=_before(flat, [same(tensor).op for tensor in chosen]),
        origins=Origins({tensor: name for name, tensor in flat_values.items()}, map(same, structure)),
        _source=graph,
        _graph_input=graph_input,
        _initializer=None if initializer is None else flat.get_operation_by_name(initializer.name),
    )


def _attached(transform: Any, features: dict[str, Any]) -> Attached:
    if not isinstance(transform, FunctionTransform):
        return transform.attach(features)
    try:
        return transform.trace(features)
    except (TypeError, RuntimeError, LookupError, AttributeError) as error:
        # The user's function was called before, in another graph; what it kept of that may not fit here.
        raise ValueError("the function cannot be called once more") from error


def _values(tensor: Any) -> Any:
    return getattr(tensor, "flat_values", getattr(tensor, "values", tensor))


def _structure(tensor: Any) -> list[Any]:
    import tensorflow as tf

    if isinstance(tensor, tf.SparseTensor):
        return [tensor.indices, tensor.dense_shape]
    return [tensor.row_splits] if isinstance(tensor, tf.RaggedTensor) else []


def _before(graph: tf.Graph, operations: list[Any]) -> list[Any]:
    """Operations and all that they are computed from, in the order of the graph."""
    found: set[Any] = set()
    stack = list(operations)
    while stack:
        operation = stack.pop()
        if operation not in found:
            found.add(operation)
            stack += [given.op for given in operation.inputs]
    return [operation for operation in graph.get_operations() if operation in found]
