"""A Python function on tensors, used as a transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from pipeline.features import Feature, FeatureSpec
from transforms.attach import (
    SCOPE,
    Attached,
    Call,
    Output,
    attach,
    checked_features,
    checked_outputs,
    no_rows,
    output_spec,
)
from transforms.fingerprint import Content, contents, files_of_sources, source_fingerprint


class FunctionTransform:
    """A Python function as a transform; made by `from_function`.

    raw_spec: what the function takes.
    fingerprint: digest of its source files, or None where they were not given. It says nothing of what they import.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Any]], Mapping[str, Any]],
        raw_spec: FeatureSpec,
        reference: str,
        sources: Sequence[str] = (),
    ):
        self.raw_spec: dict[str, Feature] = dict(raw_spec)
        self.fingerprint = source_fingerprint(sources)
        self._sources = sources
        self._function = function
        self._place = f"transform function {reference}"

    @cached_property
    def output_spec(self) -> dict[str, Output]:
        """What the function gives, in the order of the dict that it returns; it is traced once to find out."""
        import tensorflow as tf

        with tf.Graph().as_default():
            return output_spec(self.attach(no_rows(self.raw_spec)).outputs)

    def contents(self) -> dict[str, Content]:
        """Digests of the source files that make the fingerprint, by name."""
        return contents(files_of_sources(self._sources))

    def __call__(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """Call the function; its variables and tables are the caller's, as if it had been called directly."""
        return dict(self._function(checked_features(features, self.raw_spec, self._place)))

    def attach(self, features: Mapping[str, Any], scope: str = SCOPE) -> Attached:
        """Call the function in the current graph, apart from what is the model's.

        It is traced as `dataset.map(function)` traces it, AutoGraph included. The variables and tables that it makes,
        of a vocabulary file for instance, are initialised by the initializer alone.

        Args:
          features: name -> tensor, exactly those of `raw_spec`, with the batch as first dimension.
          scope: name scope of all that is made.

        Raises:
          ModelError: the features are others, or the function does not return a dict of tensors with the batch as
            first dimension.
        """
        call, tensors = self._converted(features)
        return attach(lambda given: _call_as_mapped(call, given), tensors, scope)

    def trace(self, features: Mapping[str, Any], scope: str = SCOPE) -> Attached:
        """As `attach`, with the operations of the function in the current graph itself, where they can be looked at.

        The graph optimizer goes over them with the rest of the graph, so numbers may be rounded otherwise.
        """
        call, tensors = self._converted(features)
        return attach(call, tensors, scope)

    def _converted(self, features: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
        """The function as tf.data converts it, its outputs checked, and the features as tensors."""
        import tensorflow as tf

        # The very conversion that tf.data applies; Keras uses these two names of TensorFlow for its own layers.
        autograph = tf.__internal__.autograph
        function = autograph.tf_convert(self._function, autograph.control_status_ctx())

        def call(given: dict[str, Any]) -> dict[str, Any]:
            return checked_outputs(function(given), given, self._place)

        return call, checked_features(features, self.raw_spec, self._place)


def from_function(
    function: Callable[[dict[str, Any]], Mapping[str, Any]],
    raw_spec: FeatureSpec,
    reference: str,
    sources: Sequence[str] = (),
) -> FunctionTransform:
    """Use a Python function as a transform.

    Args:
      function: takes a dict of tensors as `raw_spec` has them, returns a dict of tensors; each has the batch as first
        dimension.
      raw_spec: what the function takes.
      reference: how errors call it, such as `my_trainer.features:preprocess`.
      sources: paths of its source files, in a fixed order; they make the fingerprint.
    """
    return FunctionTransform(function, raw_spec, reference, sources)


def _call_as_mapped(call: Call, features: dict[str, Any]) -> Any:
    """Call a function on a batch in the current graph the way `dataset.map` calls it in training.

    It becomes a function of tf.data, which the graph optimizer treats as it does in training: by itself. Were its
    operations part of the PREDICT graph, `x / 3.0` would be rewritten as `x * (1 / 3.0)`, for instance, which is another
    float32 in one row of four. tf.data also runs an assertion that no output depends on, which a bare graph does not.
    """
    import tensorflow as tf
    from tensorflow.python.framework import ops

    scope = tf.compat.v1.get_default_graph().get_name_scope()
    variables = tf.compat.v1.get_variable_scope()

    @tf.autograph.experimental.do_not_convert
    def mapped(given: dict[str, Any]) -> Any:
        with (
            tf.name_scope(f"{scope}/"),  # of tables and variables, which are made outside of the function
            # A function that makes variables is traced twice.
            tf.compat.v1.variable_scope(variables, reuse=tf.compat.v1.AUTO_REUSE, auxiliary_name_scope=False),
            ops.resource_creator_scope("StaticHashTable", _made_once),
            ops.resource_creator_scope("StaticHashTableV1", _made_once),
        ):
            return call(given)

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False  # for one batch they cost more than they gain
    return tf.data.Dataset.from_tensors(features).map(mapped).with_options(options).get_single_element()


def _made_once(create: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a table and its initializer outside of the function of tf.data, which would read its file for every batch."""
    import tensorflow as tf

    initializer = args[0] if args else kwargs.get("initializer")
    if not isinstance(initializer, tf.lookup.TextFileInitializer):
        return create(*args, **kwargs)  # its keys are tensors of that function
    with tf.init_scope():
        return create(*args, **kwargs)
