"""A SavedModel that is the model of a job (`model.saved_model`): which version of it, and the files that make it.

Its variables are a checkpoint, `variables/variables`; the digest covers the graph and the files that this reads too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import checkpoint as checkpoints
from pipeline import files
from pipeline.checkpoint import Checkpoint
from pipeline.errors import ModelError
from pipeline.staging import Source, file_digest

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2

GRAPH = "saved_model.pb"
VARIABLES = "variables/variables"
_MADE_OF = re.compile(r"saved_model\.pb|(assets|variables)/.*")
"""The files that scores rest on; the others, such as `assets.extra` or `keras_metadata.pb`, are for people and for Keras."""


def resolve(path: str) -> Checkpoint:
    """Find the SavedModel that is meant, the highest version of a folder of them, and prove it complete.

    Returns:
      The checkpoint of its variables; without `files` where it has no variables.

    Raises:
      ModelError: there is no SavedModel, or its variables are missing, cut short or damaged.
    """
    folder = _version_folder(path.rstrip("/"))
    found = _files(folder)
    variables = files.join(folder, VARIABLES)
    if any(name.startswith("variables/") for name in found):
        checkpoint = checkpoints.resolve(None, variables)
    else:
        checkpoint = Checkpoint(str(Path(variables).resolve()) if files.is_local(folder) else variables, None, "", ())
    digest = hashlib.sha256(checkpoint.digest.encode())
    for name, place in sorted(found.items()):
        if not name.startswith("variables/"):
            digest.update(f"{name} {file_digest(place)}\n".encode())
    return replace(checkpoint, digest=digest.hexdigest(), saved_model=True)


def found_again(checkpoint: Checkpoint, folder: str | None = None) -> Checkpoint:
    """What lies now where a checkpoint, of a SavedModel or another, was found; or in a folder that is a copy of it.

    Raises:
      ModelError: nothing that is complete.
    """
    path = files.join(folder, name_in_copy(checkpoint)) if folder else checkpoint.path
    return resolve(path.removesuffix(f"/{VARIABLES}")) if checkpoint.saved_model else checkpoints.resolve(None, path)


def name_in_copy(checkpoint: Checkpoint) -> str:
    """The prefix of the files of a checkpoint in the folder that it is copied to."""
    return VARIABLES if checkpoint.saved_model else files.base_name(checkpoint.path)


def folder_of(checkpoint: Checkpoint) -> str:
    """The folder of the SavedModel, of the version that was chosen."""
    return checkpoint.path.removesuffix(f"/{VARIABLES}")


def version_of(checkpoint: Checkpoint) -> int | None:
    """The number of the version, None where the folder has another name."""
    name = files.base_name(folder_of(checkpoint))
    return int(name) if name.isdecimal() else None


def sources_of(checkpoint: Checkpoint) -> dict[str, Source]:
    """Name in a copy -> file, of all that makes the model. The variables are proved by the checkpoint."""
    return {
        name: Source(place, None if name.startswith("variables/") else file_digest(place))
        for name, place in _files(folder_of(checkpoint)).items()
    }


def read_meta_graph(folder: str, tags: list[str]) -> meta_graph_pb2.MetaGraphDef:
    """The graph of a SavedModel that has exactly these tags.

    Raises:
      ModelError: `saved_model.pb` is damaged, or holds no such graph.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = files.join(folder, GRAPH)
    try:
        graphs = saved_model_pb2.SavedModel.FromString(files.read_bytes(path)).meta_graphs
    except DecodeError as error:
        raise ModelError(f"{path} is damaged or no SavedModel; copy the folder again") from error
    for graph in graphs:
        if set(graph.meta_info_def.tags) == set(tags):
            return graph
    there = "; ".join(", ".join(sorted(graph.meta_info_def.tags)) or "none" for graph in graphs)
    raise ModelError(f"{folder} has no graph with the tags {', '.join(tags)}; set model.tags: there are: {there}")


def _version_folder(path: str) -> str:
    if files.exists(files.join(path, GRAPH)):
        return path
    names = {info.path[len(path) + 1 :] for info in files.match(files.join(path, "*", GRAPH))}
    versions = [name.partition("/")[0] for name in names]
    numbered = [name for name in versions if name.isdecimal()]
    if numbered:
        return files.join(path, max(numbered, key=int))
    raise ModelError(f"model.saved_model: {_what_is_there(path, versions)}")


def _what_is_there(path: str, others: list[str]) -> str:
    if others:
        return f"{path} has no folder with a number as its name; name one of {', '.join(sorted(others))}"
    if files.exists(files.join(path, "saved_model.pbtxt")):
        return f"{path} is a SavedModel as text (saved_model.pbtxt); save it again with as_text=False"
    if files.exists(files.join(path, "fingerprint.pb")) or files.match(files.join(path, "variables", "*")):
        return f"{path} is part of a SavedModel and lacks {GRAPH}; copy the whole folder again"
    if files.exists(files.join(path, "checkpoint")):
        return f"{path} is a model_dir with checkpoints; write model.model_dir and model.estimator for it"
    if not files.exists(path) and not files.match(files.join(path, "**")):
        return f"{path} does not exist"
    return f"{path} holds neither {GRAPH} nor numbered folders with one"


def _files(folder: str) -> dict[str, str]:
    found = {info.path[len(folder) + 1 :]: info.path for info in files.match(files.join(folder, "**"))}
    return {name: place for name, place in found.items() if _MADE_OF.fullmatch(name)}
