"""The model that scores: the PREDICT graph of an Estimator, its checkpoint restored, in one session that stays open.

The graph is made in the order of `Estimator.predict`, with its own session creator, so that what is restored and what is
initialised is what the Estimator would: graph seed, global step, model_fn, Scaffold.finalize, saver restore,
local_init_op (tables among it), ready_op. `init_op` and `init_fn` do not run after a restore.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.checkpoint import Checkpoint, read_bundle
from pipeline.code_errors import explain_user_error
from pipeline.errors import JobError, ModelError, RowCountError, ScoringError
from pipeline.graph_files import GraphFiles, graph_files, read_copies, refuse_missing
from pipeline.graph_input import PARSING, GraphInput
from pipeline.kernels import check_kernels
from pipeline.object_graph import read_object_graph
from pipeline.outputs import PredictionSpec, prediction_specs
from pipeline.rows import Rows
from pipeline.tensor_bundle import EMPTY_BUNDLE
from pipeline.variables import check_variables


@dataclass(frozen=True)
class BatchResult:
    """What one session call gave for a batch of n rows.

    predictions: key -> (n, ...) array. passthrough: column -> array of n. present: feature -> rows that had a value.
    """

    predictions: dict[str, np.ndarray]
    passthrough: dict[str, pa.Array]
    present: dict[str, int]


class Model:
    """An Estimator in an open session. Calls are safe from several threads. Made by `build_model`."""

    def __init__(self, graph_input: GraphInput, graph: Any, checkpoint: Checkpoint):
        self.graph_input = graph_input
        self._graph = graph
        self._callables: dict[tuple[str, ...], Any] = {}
        self._raw: Any = None
        self._transformed: Any = None
        self._predictions: dict[str, Any] = {}
        self._session: Any = None
        self._hooked = threading.Lock()
        self._creator: Any = None
        self.checkpoint = checkpoint
        self.files = GraphFiles()
        self.assets: tuple[str, ...] = ()
        self.predictions: tuple[PredictionSpec, ...] = ()
        self.variable_bytes = 0

    def run(self, rows: Rows, keys: Sequence[str]) -> BatchResult:
        """Score a batch.

        Args:
          rows: what the graph input takes.
          keys: the predictions to fetch.

        Raises:
          ModelError: a prediction has another number of rows than the batch.
          tf.errors.OpError: what TensorFlow raised; `is_data_error` tells whether a row can have caused it.
        """
        fetched = self._callable(tuple(keys))(*self.graph_input.feeds(rows))
        predictions = dict(zip(keys, fetched, strict=False))
        for key, values in predictions.items():
            if np.ndim(values) == 0 or len(values) != rows.num_rows:
                raise RowCountError(
                    f"prediction {key!r} has the shape {np.shape(values)} for a batch of {rows.num_rows} rows; its first "
                    "dimension has to be the batch. Leave it out by naming the others in output.predictions"
                )
        rest = iter(fetched[len(predictions) :])
        parsed = {column: (next(rest), next(rest)) for column in self._raw.passthrough}
        counts = next(rest) if self._raw.present is not None else ()
        present = {name: int(count) for name, count in zip(self._raw.features, counts, strict=False)}
        return BatchResult(predictions, self.graph_input.passthrough(rows, parsed), present)

    def failing_stage(self, row: Rows) -> tuple[str, str]:
        """Stage and reason of a row that fails alone: read, transform or predict; the reason holds no value of the row."""
        feeds = dict(zip(self.graph_input.placeholders, self.graph_input.feeds(row), strict=True))
        stages = [("read", self._raw.features), ("transform", self._transformed), ("predict", self._predictions)]
        for stage, tensors in stages:
            try:
                self._creator.session.run(_operations(tensors), feeds)
            except Exception as error:
                if not is_data_error(error):
                    raise
                reason = self._reason(error)
                is_parsing = any(f" in {kind} " in reason for kind in PARSING)
                return "read" if stage == "transform" and is_parsing else stage, reason
        return "predict", "the row fails where it is scored alone, and its parts do not"

    def tensors(self, rows: Rows, names: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Values of the raw features, of those the model gets, and of tensors of the graph by name.

        Raises:
          JobError: the graph has no such tensor.
        """
        named = {}
        for name in names:
            try:
                named[name] = self._graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
            except (KeyError, ValueError) as error:
                raise JobError(f"--tensor {name}: the graph has no such tensor") from error
        feeds = dict(zip(self.graph_input.placeholders, self.graph_input.feeds(rows), strict=True))
        groups = (dict(self._raw.features), dict(self._transformed), named)
        return tuple(self._creator.session.run(groups, feeds))

    def close(self) -> None:
        """Close the session; the model cannot be called afterwards."""
        if self._session is not None:
            self._session.close()
            self._session = self._creator = None  # only without a reference to it a session gives its memory back
            self._callables.clear()

    def _callable(self, keys: tuple[str, ...]) -> Any:
        if keys not in self._callables:
            fetches = [self._predictions[key] for key in keys]
            for values, splits in self._raw.passthrough.values():
                fetches += [values, splits]
            if self._raw.present is not None:
                fetches.append(self._raw.present)
            if self._session is self._creator.session:
                self._callables[keys] = _unchecked_callable(self._session, self.graph_input.placeholders, fetches)
            else:
                self._callables[keys] = partial(self._run_hooked, fetches)
        return self._callables[keys]

    def _run_hooked(self, fetches: list[Any], *feeds: np.ndarray) -> list[np.ndarray]:
        """One call with the hooks of the model_fn around it: they are written for one call after the other."""
        with self._hooked:
            return self._session.run(fetches, dict(zip(self.graph_input.placeholders, feeds, strict=True)))

    def _reason(self, error: Exception) -> str:
        """Error class and operation. TensorFlow's message itself may hold bytes of the row."""
        if isinstance(error, UnicodeDecodeError):
            return "TensorFlow refused the row"
        for name in re.findall(r"\{\{node ([^}]+)\}\}", str(error)):
            if name in self._operation_types:
                return f"{type(error).__name__} in {self._operation_types[name]} {name!r}"
        return type(error).__name__

    @cached_property
    def _operation_types(self) -> dict[str, str]:
        """Name -> type of the operations of the graph, those inside its functions (a mapped transform) included."""
        functions = self._graph.as_graph_def().library.function
        inside = {node.name: node.op for function in functions for node in function.node_def}
        return inside | {operation.name: operation.type for operation in self._graph.get_operations()}


def build_model(
    estimator: Any,
    checkpoint: Checkpoint,
    graph_input: GraphInput,
    transform: Any = None,
    feature_choice: Sequence[str] | str | None = None,
    allow_unused: Sequence[str] = (),
    local_assets: Callable[[Sequence[str]], Mapping[str, str]] = lambda paths: {},
    check_memory: Callable[[int], None] = lambda variable_bytes: None,
) -> Model:
    """Build the PREDICT graph of an Estimator and restore a checkpoint into it.

    Args:
      estimator: a `tf.estimator.Estimator`.
      checkpoint: the resolved checkpoint.
      graph_input: how rows enter the graph.
      transform: a `transforms.Transform` between raw features and the model's, or None.
      feature_choice: names in the order that the model_fn gets as a dict, one name for a bare tensor, or None for all.
      allow_unused: patterns of checkpoint variables that no prediction needs to read.
      local_assets: given the paths of the files that the graph reads, those that are read elsewhere: path -> where.
      check_memory: given the bytes of all variables before any is loaded; raises ModelError where they do not fit.

    Raises:
      ModelError: the model_fn fails, the checkpoint is not of this graph, or a prediction is not by row.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.compat.v1.set_random_seed(estimator.config.tf_random_seed)
        tf.compat.v1.train.create_global_step(graph)
        model = Model(graph_input, graph, checkpoint)
        model._raw = graph_input.build()
        given = model._raw.for_model
        attached = transform.attach(model._raw.features) if transform is not None else None
        model._transformed = attached.outputs if attached else model._raw.features
        if given is not None and attached is None:
            named = given if isinstance(given, Mapping) else {"features": given}
            model._transformed = {str(name): tensor for name, tensor in named.items()}
        before = len(graph.get_operations()) if given is None else 0
        spec = _call_model_fn(estimator, _choose(model._transformed, feature_choice) if given is None else given)
        model._predictions, model.predictions = prediction_specs(spec.predictions)
        check_kernels(graph)
        model.files = graph_files(graph, before)
        model.assets = (*model.files.paths, *(attached.assets if attached else ()))
        copies = local_assets(model.assets)
        refuse_missing(path for path in model.assets if path not in copies)
        read_copies(graph, model.files, copies)

        def check(saver: Any) -> None:
            try:
                bundle = read_bundle(checkpoint.path) if checkpoint.files else EMPTY_BUNDLE
                objects = read_object_graph(checkpoint.path, bundle)
                report = check_variables(graph, saver, [*model._predictions.values()], bundle, allow_unused, objects)
                model.variable_bytes = report.restored_bytes
                check_memory(model.variable_bytes)
            except ModelError as error:
                raise ModelError(f"{checkpoint.path}: {error}") from error

        model._creator = _session_creator(
            spec.scaffold or tf.compat.v1.train.Scaffold(),
            estimator,
            checkpoint,
            attached.initializer if attached else None,
            check,
        )
        if spec.prediction_hooks:
            model._session = tf.compat.v1.train.MonitoredSession(model._creator, list(spec.prediction_hooks))
        else:
            model._session = model._creator.create_session()
    return model


def is_data_error(error: Exception) -> bool:
    """Whether a value of a row can have caused an error of `Model.run`.

    TensorFlow puts the bytes of a bad record into its message, which then may not be UTF-8: a UnicodeDecodeError.
    """
    import tensorflow as tf

    causes = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError, tf.errors.DataLossError, UnicodeDecodeError)
    return isinstance(error, causes)


def _session_creator(scaffold: Any, estimator: Any, checkpoint: Checkpoint, initializer: Any, check: Any) -> Any:
    import tensorflow as tf

    class CheckedSessionCreator(tf.compat.v1.train.ChiefSessionCreator):
        """The creator that `Estimator.predict` uses, which looks at the variables before it restores them."""

        session: Any = None

        def create_session(self) -> Any:
            scaffold.finalize()
            check(scaffold.saver)
            self.session = super().create_session()
            if initializer is not None:
                self.session.run(initializer)
            return self.session

    return CheckedSessionCreator(
        scaffold=scaffold,
        master=estimator.config.master,
        config=estimator._session_config,  # what predict() uses; `config.session_config` is None for the default
        checkpoint_filename_with_path=checkpoint.path,
    )


def _call_model_fn(estimator: Any, features: Any) -> Any:
    import tensorflow as tf

    mode = tf.estimator.ModeKeys.PREDICT
    try:
        return estimator.model_fn(features, None, mode, estimator.config)
    except ScoringError:
        raise
    except Exception as error:
        message = explain_user_error(error, "model_fn in PREDICT mode")
        if "None" in str(error) or "labels" in str(error):
            message += (
                ". In PREDICT mode labels are None: return tf.estimator.EstimatorSpec(mode, predictions=...) before the "
                "loss and the train op are built"
            )
        raise ModelError(message) from error


def _choose(features: Mapping[str, Any], choice: Sequence[str] | str | None) -> Any:
    if choice is None:
        return dict(features)
    names = [choice] if isinstance(choice, str) else list(choice)
    for name in names:
        if name not in features:
            raise JobError(f"model.features: there is no feature {name!r}; there are: {', '.join(features)}")
    return features[choice] if isinstance(choice, str) else {name: features[name] for name in names}


def _unchecked_callable(session: Any, feeds: Sequence[Any], fetches: Sequence[Any]) -> Callable[..., list[np.ndarray]]:
    """A function of the values of some tensors, as Keras makes one.

    `Session.make_callable` goes through all of `Session.run` where there are feeds, which takes as long as a tenth of a
    small model. Nothing is looked at here, so the dtypes of the feeds have to be those of the tensors.
    """
    from tensorflow.core.protobuf.config_pb2 import CallableOptions

    options = CallableOptions(feed=[tensor.name for tensor in feeds], fetch=[tensor.name for tensor in fetches])
    return session._make_callable_from_options(options)


def _operations(tensors: Mapping[str, Any]) -> list[Any]:
    import tensorflow as tf

    flat = tf.nest.flatten(dict(tensors), expand_composites=True)
    # A fed placeholder cannot be run: its operation does not know of the feed.
    return [tensor.op for tensor in flat if tensor.op.type != "Placeholder"]
