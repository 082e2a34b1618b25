"""What a SavedModel holds: a preprocessing transform, or the export of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline import files
from pipeline.errors import ModelError
from pipeline.job.features import features_as_written
from pipeline.text import facts, job_features, table

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

    from transforms import Transform

SAVED_MODEL = "saved_model.pb"
TRANSFORM_FN = f"transform_fn/{SAVED_MODEL}"
"""In a TensorFlow Transform output folder."""


def is_saved_model(folder: str) -> bool:
    """Whether a folder is a SavedModel or the output of TensorFlow Transform."""
    return any(files.exists(files.join(folder, name)) for name in (TRANSFORM_FN, SAVED_MODEL))


def inspect_saved_model(folder: str) -> str:
    """What a transform takes and gives, or else the signatures of a SavedModel and why it is no transform.

    Raises:
      ModelError: the folder of a transform, or `saved_model.pb`, is damaged.
    """
    import transforms

    if files.exists(files.join(folder, TRANSFORM_FN)):
        return "\n".join(_transform("TensorFlow Transform output folder", transforms.load(folder)))
    saved_model = read_saved_model(files.join(folder, SAVED_MODEL))
    try:
        lines = _transform("SavedModel that can be used as a transform", transforms.load(folder))
    except ModelError as error:
        lines = facts([("SavedModel", folder), ("as transform", f"no: {error}")])
    return "\n".join([*lines, *(line for graph in saved_model.meta_graphs for line in _graph(graph))])


def _transform(title: str, transform: Transform) -> list[str]:
    from transforms import saved_model

    assets = saved_model.read_saved_model(transform.path).assets
    return [
        *facts([("transform", transform.path), ("kind", title), ("fingerprint", transform.fingerprint)]),
        "",
        "raw features; a SavedModel does not tell which values are missing by default",
        *job_features(features_as_written(transform.raw_spec)),
        *table(
            "outputs",
            [(name, output.dtype, output.kind, _shape(output.shape)) for name, output in transform.output_spec.items()],
            ("name", "dtype", "kind", "shape of a row"),
        ),
        *table("assets", [(files.base_name(path), f"{files.size(path):,}") for path in assets], ("name", "bytes")),
    ]


def read_saved_model(path: str) -> saved_model_pb2.SavedModel:
    """What a file `saved_model.pb` holds. Raises ModelError: it is damaged."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved_model = saved_model_pb2.SavedModel.FromString(files.read_bytes(path))
    except DecodeError as error:
        raise ModelError(f"{path} is damaged or no SavedModel; copy the folder again") from error
    if not saved_model.meta_graphs:
        raise ModelError(f"{path} holds no graph; copy the folder again")
    return saved_model


def _graph(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[str]:
    info = graph.meta_info_def
    yield ""
    yield from facts(
        [
            ("tags", ", ".join(info.tags) or "none"),
            ("written by", f"TensorFlow {info.tensorflow_version or '(unknown)'}"),
        ]
    )
    for name, signature in sorted(graph.signature_def.items()):
        if name.startswith("__"):  # the initializer of the SavedModel itself
            continue
        rows = [
            (side, *row)
            for side, tensors in (("input", signature.inputs), ("output", signature.outputs))
            for row in _tensors(tensors)
        ]
        yield from table(
            f"signature {name} ({signature.method_name or 'no method'})", rows, ("", "name", "dtype", "kind", "shape")
        )


def _tensors(tensors: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    import tensorflow as tf

    for name, info in sorted(tensors.items()):
        composite = info.composite_tensor
        if composite.components:  # a RaggedTensor; its values come first
            kind = composite.type_spec.type_spec_class_name.removesuffix("TensorSpec").lower()
            yield name, tf.as_dtype(composite.components[0].dtype).name, kind, "unknown"
            continue
        kind = "sparse" if info.HasField("coo_sparse") else "dense"
        shape = tf.TensorShape(info.tensor_shape)
        yield name, tf.as_dtype(info.dtype).name, kind, _shape(None if shape.rank is None else tuple(shape.as_list()))


def _shape(shape: tuple[int | None, ...] | None) -> str:
    """`[28, 28]`; a length that the graph does not know is `?`."""
    return "unknown" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"
