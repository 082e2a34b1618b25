"""The folder of a saved transform, as it lies on disk: what is wrong with it is said before TensorFlow loads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2

_FILE = "saved_model.pb"
_TRANSFORM_FN = "transform_fn"
"""Folder of the SavedModel inside a TensorFlow Transform output folder."""


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel on disk.

    path: the folder that the user named; a TensorFlow Transform output folder has the SavedModel in a folder below it.
    directory: the folder of `saved_model.pb`.
    meta_graph: what that file holds.
    """

    path: str
    directory: str
    meta_graph: meta_graph_pb2.MetaGraphDef

    @property
    def place(self) -> str:
        """How errors call it."""
        return f"transform {self.path}"

    @property
    def made_with(self) -> str:
        """The TensorFlow version that wrote it."""
        return f"TensorFlow {self.meta_graph.meta_info_def.tensorflow_version or '(version unknown)'}"

    @property
    def asset_names(self) -> list[str]:
        """Names of the files below `assets` that the graph reads."""
        return sorted({asset.filename for asset in asset_files(self.meta_graph)})

    @property
    def assets(self) -> list[str]:
        """Paths of the files that the graph reads."""
        return [f"{self.directory}/assets/{name}" for name in self.asset_names]


def asset_files(meta_graph: meta_graph_pb2.MetaGraphDef) -> list[meta_graph_pb2.AssetFileDef]:
    """The files that a graph reads: each with the tensor that holds its path, and its name below `assets`."""
    from tensorflow.core.protobuf import meta_graph_pb2

    assets = list(meta_graph.asset_file_def)
    if "saved_model_assets" in meta_graph.collection_def:  # where TensorFlow 1 wrote them
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            assets.append(meta_graph_pb2.AssetFileDef())
            packed.Unpack(assets[-1])
    return assets


def unknown_operations(meta_graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """The operations of a graph that this TensorFlow does not know, sorted."""
    from tensorflow.python.framework import op_def_registry  # also knows what tf.load_op_library added

    graph = meta_graph.graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    operations = {node.op for node in nodes} - {function.signature.name for function in graph.library.function}
    return sorted(operation for operation in operations if op_def_registry.get(operation) is None)


def read_saved_model(path: str) -> SavedModel:
    """Read the folder of a transform.

    Raises:
      ModelError: the folder is missing or is no SavedModel, it is the export of a whole model, a file of its assets is
        missing, or it has operations that this TensorFlow does not know.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = os.fspath(path).rstrip("/")
    if "://" not in path:
        path = str(Path(path).absolute())  # the paths of assets in a graph outlive a change of working directory
    place = f"transform {path}"
    if not tf.io.gfile.exists(path):
        raise ModelError(f"{place} does not exist")
    directories = [f"{path}/{_TRANSFORM_FN}", path]
    directory = next((each for each in directories if tf.io.gfile.exists(f"{each}/{_FILE}")), None)
    if directory is None:
        raise ModelError(
            f"{place} holds neither {_TRANSFORM_FN}/{_FILE} (a TensorFlow Transform output folder) nor {_FILE} (a SavedModel)"
        )
    with tf.io.gfile.GFile(f"{directory}/{_FILE}", "rb") as file:
        try:
            meta_graphs = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
        except DecodeError as error:
            raise ModelError(f"{place}: {_FILE} is damaged or no SavedModel; copy the folder again") from error
    if len(meta_graphs) != 1:
        raise ModelError(f"{place} has {len(meta_graphs)} graphs where a transform has one; save it alone")
    saved_model = SavedModel(path, directory, meta_graphs[0])
    _refuse_model_export(saved_model)
    _refuse_missing_assets(saved_model)
    _refuse_unknown_operations(saved_model)
    return saved_model


def _refuse_model_export(saved_model: SavedModel) -> None:
    graph = saved_model.meta_graph
    signatures = graph.signature_def.values()
    takes_examples = any(
        len(signature.inputs) == 1 and ("examples" in signature.inputs or info.name.startswith("input_example_tensor"))
        for signature in signatures
        for info in signature.inputs.values()
    )
    scores = any(signature.method_name.endswith(("/classify", "/regress")) for signature in signatures)
    if takes_examples or scores or "global_step" in graph.collection_def:
        raise ModelError(
            f"{saved_model.place} is the export of a trained model, not a transform"
            + (": it takes serialized tf.Example records" if takes_examples else "")
            + ". Name the folder of the preprocessing that the model was trained with, or leave the transform out if the "
            "model was trained on raw features"
        )


def _refuse_missing_assets(saved_model: SavedModel) -> None:
    import tensorflow as tf

    names = zip(saved_model.asset_names, saved_model.assets, strict=True)
    missing = [name for name, path in names if not tf.io.gfile.exists(path)]
    if missing:
        raise ModelError(
            f"{saved_model.place} lacks {', '.join(missing)} in {saved_model.directory}/assets; copy the whole folder"
        )


def _refuse_unknown_operations(saved_model: SavedModel) -> None:
    import tensorflow as tf

    unknown = unknown_operations(saved_model.meta_graph)
    if unknown:
        raise ModelError(
            f"{saved_model.place} was made with {saved_model.made_with} and has operations that TensorFlow {tf.__version__} "
            f"does not know: {', '.join(unknown)}. Make it again with this TensorFlow, or load the library of the "
            "operations (tf.load_op_library) in the job's code"
        )
