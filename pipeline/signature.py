"""A signature of a SavedModel as the model_fn of an Estimator: what it takes, what it gives, and its graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.errors import JobError, ModelError
from pipeline.exported_model import folder_of, read_meta_graph, version_of
from pipeline.graph_input import PARSING
from pipeline.tensor_info import feature_entry, fed_tensors, tensor_names
from pipeline.text import job_features

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2

    from pipeline.checkpoint import Checkpoint
    from pipeline.job import Model as ModelSection

PREFERRED = ("predict", "serving_default")
_SCOPE = "saved_model"
_INITIALIZER = "__saved_model_init_op"
_INITIALIZERS_OF_TENSORFLOW_1 = ("saved_model_main_op", "legacy_init_op")


@dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel.

    folder: of the SavedModel, where this machine reads it. name: of the signature.
    """

    folder: str
    name: str
    meta_graph: meta_graph_pb2.MetaGraphDef

    @property
    def place(self) -> str:
        """How messages call it."""
        return f"the signature {self.name!r} of {self.folder}"

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Name -> TensorInfo, by name."""
        return dict(sorted(self.meta_graph.signature_def[self.name].inputs.items()))

    @cached_property
    def text_input(self) -> str | None:
        """The name of the input, if there is one alone, a vector of strings."""
        import tensorflow as tf

        if len(self.inputs) != 1:
            return None
        ((name, info),) = self.inputs.items()
        is_text = info.WhichOneof("encoding") == "name" and info.dtype == tf.string.as_datatype_enum
        return name if is_text and tf.TensorShape(info.tensor_shape).rank in (None, 1) else None

    @cached_property
    def operations(self) -> tuple[Any, ...]:
        """The nodes that its outputs are computed by, those in functions among them."""
        graph = self.meta_graph.graph_def
        outputs = self.meta_graph.signature_def[self.name].outputs.values()
        nodes = {node.name: node for node in graph.node}
        pending = [nodes[name] for info in outputs for name in map(_node, tensor_names(info)) if name in nodes]
        seen = {node.name: node for node in pending}
        for node in pending:
            for source in map(_node, node.input):
                if source not in seen and source in nodes:
                    seen[source] = nodes[source]
                    pending.append(nodes[source])
        bodies = {function.signature.name: function for function in graph.library.function}
        called: dict[str, None] = {}
        for node in pending:
            new = [name for name in _called(node) if name in bodies and name not in called]
            called.update(dict.fromkeys(new))
            pending.extend(inner for name in new for inner in bodies[name].node_def)
        return tuple(pending)

    def takes_records(self, features: Mapping[str, Any], transformed: bool) -> bool:
        """Whether it is fed serialized records: it has one vector of strings, and parses it, or nothing else is known."""
        if self.text_input is None or transformed:
            return False
        return not features or any(node.op in PARSING for node in self.operations)

    def check_names(self, features: Mapping[str, Any]) -> None:
        """Raise JobError where a raw feature is none of the inputs; it would be read for nothing, or is a misspelt one."""
        unknown = [name for name in features if name not in self.inputs]
        if unknown:
            raise JobError(
                f"features: {', '.join(unknown)}: {self.place} has no such input; it takes {', '.join(self.inputs)}. "
                "For another name in the files write input.rename"
            )

    def features(self) -> dict[str, dict[str, Any]]:
        """The `features` section of a job that feeds its inputs by name, as far as the signature tells."""
        return {name: entry for name, info in sorted(self.inputs.items()) if (entry := feature_entry(info)) is not None}

    def model_fn(self, features: Any, labels: Any, mode: str) -> Any:
        """The EstimatorSpec of its graph.

        Args:
          features: input -> tensor, or a bare tensor of serialized records.

        Raises:
          JobError: features that the inputs do not take.
          ModelError: the graph cannot be built here.
        """
        import tensorflow as tf

        given = features if isinstance(features, Mapping) else {self.text_input or "": features}
        self._check(given)
        fed = {name: tensor for key, info in self.inputs.items() for name, tensor in fed_tensors(info, given[key])}
        assets = dict(self._assets())
        for tensor in assets.values():
            tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS, tensor)
        saver, initializer = self._import(fed | assets)
        return tf.estimator.EstimatorSpec(
            mode,
            {key: self._output(info, fed) for key, info in self._outputs()},
            scaffold=tf.compat.v1.train.Scaffold(
                # The variables are no collection of this graph: what is ready is what the initializer leaves.
                ready_for_local_init_op=tf.constant([], tf.string),
                ready_op=tf.constant([], tf.string),
                local_init_op=initializer,
                saver=saver or tf.compat.v1.train.Saver([], allow_empty=True),
            ),
        )

    def _import(self, fed: Mapping[str, Any]) -> tuple[Any, Any]:
        """Put the graph into the default one, with tensors in place of some of its own; its saver, and its initializer."""
        import tensorflow as tf

        from transforms.saved_model import unknown_operations

        unknown = unknown_operations(self.meta_graph)
        if unknown:
            written_by = self.meta_graph.meta_info_def.tensorflow_version or "(version unknown)"
            raise ModelError(
                f"{self.folder} was made with TensorFlow {written_by} and has operations that TensorFlow {tf.__version__} does "
                f"not know: {', '.join(unknown)}. If they come from a package, import it in a module of code: that setup "
                "names; operations of tf.contrib are gone: export the model anew without them"
            )
        copy = type(self.meta_graph)()
        copy.CopyFrom(self.meta_graph)
        copy.ClearField(
            "collection_def"
        )  # of training and of its machine: paths of assets, hooks, a second global step
        try:
            saver = tf.compat.v1.train.import_meta_graph(
                copy, clear_devices=True, import_scope=_SCOPE, input_map=dict(fed)
            )
        except (ValueError, tf.errors.OpError) as error:
            raise ModelError(f"the graph of {self.folder} cannot be built here: {error}") from error
        graph = tf.compat.v1.get_default_graph()
        operations = [graph.get_operation_by_name(f"{_SCOPE}/{name}") for name in self._initializers()]
        global_step = tf.compat.v1.train.get_or_create_global_step()
        return saver, tf.group(*operations, global_step.initializer)

    def _initializers(self) -> Iterator[str]:
        if _INITIALIZER in self.meta_graph.signature_def:
            yield _node(self.meta_graph.signature_def[_INITIALIZER].outputs[_INITIALIZER].name)
            return
        for key in _INITIALIZERS_OF_TENSORFLOW_1:
            if key in self.meta_graph.collection_def:
                yield from map(_node, self.meta_graph.collection_def[key].node_list.value)
                return

    def _assets(self) -> Iterator[tuple[str, Any]]:
        """The tensors that hold paths of files of the SavedModel, each with one for where this machine has it."""
        import tensorflow as tf

        from transforms.saved_model import asset_files

        for asset in asset_files(self.meta_graph):
            path = files.join(self.folder, "assets", asset.filename)
            if not files.exists(path):
                raise ModelError(f"{path} is missing; copy the whole folder of the SavedModel again")
            yield asset.tensor_info.name, tf.constant(path)

    def _outputs(self) -> Iterator[tuple[str, Any]]:
        return iter(sorted(self.meta_graph.signature_def[self.name].outputs.items()))

    def _output(self, info: Any, fed: Mapping[str, Any]) -> Any:
        import tensorflow as tf

        if info.name in fed:
            return tf.identity(fed[info.name])
        graph = tf.compat.v1.get_default_graph()
        tensor = tf.compat.v1.saved_model.utils.get_tensor_from_tensor_info(info, graph, _SCOPE)
        if (
            isinstance(tensor, tf.Tensor) and tensor.shape.rank is None
        ):  # the call of a function does not tell its shape
            tensor.set_shape(tf.TensorShape(info.tensor_shape))
        return tensor

    def _check(self, given: Mapping[str, Any]) -> None:
        import tensorflow as tf

        missing = [name for name in self.inputs if name not in given]
        if missing:
            if self.text_input is not None:
                raise JobError(
                    f"{self.place} takes one vector of strings, {self.text_input!r}: serialized records where neither transform "
                    f"nor features is given, else a feature of that name. There are: {', '.join(given) or 'none'}"
                )
            draft = "\n".join(job_features(self.features()))
            raise JobError(
                f"features: {self.place} takes {', '.join(self.inputs)}; missing: {', '.join(missing)}. By the signature:\n{draft}"
            )
        for name, info in self.inputs.items():
            wanted, tensor = feature_entry(info), given[name]
            kind = {tf.SparseTensor: "varlen", tf.RaggedTensor: "ragged"}.get(type(tensor), "fixed")
            dtype = tf.as_dtype(info.dtype) if info.dtype else None
            if info.WhichOneof("encoding") == "composite_tensor" or info.HasField("coo_sparse"):
                if wanted is None or wanted["kind"] != kind:
                    raise JobError(
                        f"features: {name}: {self.place} takes a {'sparse' if info.HasField('coo_sparse') else 'ragged'} tensor, "
                        f"and the feature is {kind}; write kind: {(wanted or {}).get('kind', 'ragged')}"
                    )
            elif kind != "fixed":
                raise JobError(f"features: {name}: {self.place} takes a dense tensor, and the feature is {kind}")
            if dtype is not None and tensor.dtype != dtype:
                raise JobError(
                    f"features: {name}: {self.place} takes {dtype.name}, and the feature is {tensor.dtype.name}; correct its "
                    "dtype, or cast it in transform.function"
                )
            shape = tf.TensorShape(info.tensor_shape)
            if kind != "fixed" or shape.rank is None:
                continue
            if shape.rank and shape[0] is not None:
                raise JobError(
                    f"features: {name}: {self.place} takes batches of exactly {shape[0]} rows; export the model with an "
                    "unknown batch dimension (None)"
                )
            if not tensor.shape.is_compatible_with(shape):
                raise JobError(
                    f"features: {name}: {self.place} takes the shape {_of_row(shape)} for a row, and the feature has "
                    f"{_of_row(tensor.shape)}; correct its shape"
                )


def read_signature(model: ModelSection) -> Signature:
    """The signature that a job names: `predict` if it is there, else `serving_default`.

    Raises:
      ModelError: there is no such signature, or no graph with the tags.
    """
    folder = model.saved_model or ""
    meta_graph = read_meta_graph(folder, model.tags or ["serve"])
    names = signature_names(meta_graph)
    name = model.signature or next((each for each in PREFERRED if each in names), None)
    if name is None or name not in names:
        what = f"no signature {name!r}" if name else f"neither of the signatures {' and '.join(PREFERRED)}"
        there = (
            f"set model.signature: there are: {', '.join(names)}" if names else "it has none; export the model with one"
        )
        raise ModelError(f"{folder} has {what}; {there}")
    return Signature(folder, name, meta_graph)


def signature_names(meta_graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """Names of the signatures that have an output, sorted."""
    found = meta_graph.signature_def.items()
    return sorted(name for name, signature in found if signature.outputs and not name.startswith("__"))


def refuse_record(estimator: Any, features: Mapping[str, Any], transformed: bool) -> None:
    """Raise JobError where the model parses its records itself: there is nothing between shard and model to record."""
    signature = getattr(estimator, "signature", None)
    if signature is not None and signature.takes_records(features, transformed):
        raise JobError(
            f"record: {signature.place} parses the records itself, so a parity record of features would prove nothing; hold a "
            "run against known scores by the command compare"
        )


def facts_of(estimator: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """What the manifest says of the model beside its digest; nothing of one that is no SavedModel."""
    if not checkpoint.saved_model:
        return {}
    signature = estimator.signature.name
    return {"saved_model": folder_of(checkpoint), "version": version_of(checkpoint), "signature": signature}


def estimator_of(model: ModelSection) -> Any:
    """An Estimator whose model_fn is the signature that a job names; it has that as `signature`."""
    import tensorflow as tf

    signature = read_signature(model)
    estimator = tf.estimator.Estimator(signature.model_fn, model_dir=signature.folder)
    estimator.signature = signature
    return estimator


def _node(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _called(node: Any) -> list[str]:
    names = [function.name for value in node.attr.values() for function in (value.func, *value.list.func)]
    return [*filter(None, names), node.op]


def _of_row(shape: Any) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in shape.as_list()[1:])}]"
