"""A transform that was saved: a TensorFlow Transform output folder of either format, or a plain SavedModel."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import ModelError
from pipeline.features import Feature
from transforms.attach import SCOPE, Attached, Output, attach, checked_features, checked_outputs, no_rows, output_spec
from transforms.fingerprint import Content, contents, files_of, fingerprint
from transforms.saved_model import SavedModel, read_saved_model
from transforms.signature import Signature, find_signature

if TYPE_CHECKING:
    import tensorflow as tf

_NO_KERNEL = re.compile(
    r"No OpKernel was registered to support Op '(\w+)'|Could not find device for node: .* = (\w+)\["
)


class Transform:
    """A saved transform; made by `load`.

    path: the folder it was loaded from.
    raw_spec: what it takes, by name. A SavedModel does not tell the defaults of missing values, so there are none.
    output_spec: what it gives, by name.
    fingerprint: SHA-256 over its files, in hex; the same for a copy elsewhere, another for any change of content.

    Outputs are sorted by name. A SavedModel keeps no order of its own: on TensorFlow 2.21 `tf.saved_model.load` gives
    them in another order in every process (a map of a protocol buffer).
    """

    def __init__(self, saved_model: SavedModel):
        self.path = saved_model.path
        self.fingerprint = fingerprint(saved_model)
        self._saved_model = saved_model
        self._place = saved_model.place
        self._eager: Signature | None = None
        self._lock = threading.Lock()
        self.raw_spec, self.output_spec = self._run_on_no_rows()

    def contents(self) -> dict[str, Content]:
        """Digests of the files that make the fingerprint, by name: they tell which of them differs from another's."""
        return contents(files_of(self._saved_model))

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Transform a batch: eagerly, inside `tf.data`, a `tf.function` or a `tf.Graph`. Safe from several threads.

        In a graph its variables and tables are initialised with the graph's tables, so an Estimator's `input_fn` may
        call it, and nothing of it ends up in the checkpoint.

        Args:
          features: name -> tensor, exactly those of `raw_spec`, with the batch as first dimension. Nothing is cast.

        Returns:
          name -> Tensor, SparseTensor or RaggedTensor.

        Raises:
          ModelError: the features are others.
          RuntimeError: eager execution is off and no graph was entered, so the result would hold no values.
        """
        import tensorflow as tf
        from tensorflow.python.framework import ops

        # Only an empty stack of graphs tells a forgotten eager mode from code that is meant for a graph.
        if not tf.executing_eagerly() and ops._default_graph_stack.is_cleared():
            raise RuntimeError(
                f"{self._place} was called with eager execution off, so the result would be a symbolic tensor without "
                "values: tf.compat.v1.disable_v2_behavior() or disable_eager_execution() was called in this process. "
                "Remove that call, or call the transform inside `with tf.Graph().as_default()` and run it in a session"
            )
        tensors = checked_features(features, self.raw_spec, self._place)
        with tf.init_scope():  # what a function of tf.data captures has to be made outside of it
            signature = self._loaded_eagerly() if tf.executing_eagerly() else self._loaded_into_graph()
        return signature.call(tensors)

    def attach(self, features: Mapping[str, Any], scope: str = SCOPE) -> Attached:
        """Load the transform into the current graph and call it there, apart from what is the model's.

        Args:
          features: name -> tensor, exactly those of `raw_spec`, with the batch as first dimension.
          scope: name scope of all that is made.

        Raises:
          ModelError: the features are others.
        """
        tensors = checked_features(features, self.raw_spec, self._place)
        return attach(lambda given: self._load().call(given), tensors, scope, self._saved_model.assets)

    def _load(self) -> Signature:
        import tensorflow as tf

        loaded = tf.saved_model.load(self._saved_model.directory)
        return find_signature(loaded, self._saved_model.meta_graph, self._place)

    def _loaded_eagerly(self) -> Signature:
        with self._lock:
            if self._eager is None:
                self._eager = self._load()
            return self._eager

    def _loaded_into_graph(self) -> Signature:
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        with self._lock:
            # Kept by the graph itself, because it refers to the graph: a dictionary here would keep both for good.
            loads: dict[Transform, Signature] = getattr(graph, "_loaded_transforms", {})
            graph._loaded_transforms = loads
            if self not in loads:
                attached = attach(lambda _: {"signature": self._load()}, {}, SCOPE, self._saved_model.assets)
                graph.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, attached.initializer)
                loads[self] = attached.outputs["signature"]
            return loads[self]

    def _run_on_no_rows(self) -> tuple[dict[str, Feature], dict[str, Output]]:
        """Raw and output spec, and the proof that it runs: in a graph and a session of its own, whatever the caller's."""
        import tensorflow as tf

        raw_spec: dict[str, Feature] = {}

        def call(_: object) -> dict[str, Any]:
            signature = self._load()
            raw_spec.update(signature.raw_spec(self._place))
            features = no_rows(raw_spec)
            return checked_outputs(signature.call(features), features, self._place)

        # What a folder can be to blame for; a filesystem that fails is another matter.
        refused = (
            *(ValueError, TypeError, KeyError, AttributeError, AssertionError, NotImplementedError, RuntimeError),
            *(tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError),
            *(tf.errors.DataLossError, tf.errors.OutOfRangeError, tf.errors.UnimplementedError, FileNotFoundError),
        )
        # A session without a limit would take all the memory of a GPU.
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)
        try:
            with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
                attached = attach(call, {}, SCOPE, self._saved_model.assets)
                session.run(attached.initializer)
                rows = _rows_made_of_none(session, attached.outputs)
        except refused as error:
            raise ModelError(self._refusal(error)) from error
        constant = [name for name, count in rows.items() if count]
        if constant:
            raise ModelError(f"{self._place}: output {constant[0]!r} has rows where there are none in the batch")
        return raw_spec, output_spec(attached.outputs)

    def _refusal(self, error: Exception) -> str:
        import tensorflow as tf

        kernel = _NO_KERNEL.search(str(error))
        made_with = f"{self._place} was made with {self._saved_model.made_with}"
        if kernel:
            operation = kernel[1] or kernel[2]
            return f"{made_with} and needs the operation {operation}, which TensorFlow {tf.__version__} cannot run; make it again"
        noise = ("Graph execution error", "Detected at node", "Node:", " ", "\t")
        text = str(error).partition("\nOriginal stack trace")[0]
        reason = " ".join(line for line in text.splitlines() if line and not line.startswith(noise))
        return f"{made_with}; TensorFlow {tf.__version__} cannot load it: {type(error).__name__}: {reason[:500]}"


def load(path: str) -> Transform:
    """Load a transform, with nothing but TensorFlow.

    Args:
      path: a TensorFlow Transform output folder (of its current format, or of the one of TensorFlow 1), or a
        SavedModel: a tf.Module with one tf.function over a dict of features, or Keras preprocessing layers. Any place
        that `tf.io.gfile` reads.

    Raises:
      ModelError: there is no transform, it is the export of a whole model, files of it are missing, or this TensorFlow
        cannot run it (it is run once, on a batch of no rows).
    """
    return Transform(read_saved_model(path))


def _rows_made_of_none(session: tf.compat.v1.Session, outputs: dict[str, Any]) -> dict[str, int]:
    """How many rows each output has when the batch has none."""
    import tensorflow as tf

    rows = {}
    for name, output in outputs.items():
        if isinstance(output, tf.RaggedTensor):
            rows[name] = output.nrows()
        else:
            rows[name] = output.dense_shape[0] if isinstance(output, tf.SparseTensor) else tf.shape(output)[0]
    try:
        return session.run((rows, outputs))[0]
    except (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError) as error:
        if _NO_KERNEL.search(str(error)):
            raise
        return {}  # An operation that needs at least one row is no fault, and no batch is empty.
