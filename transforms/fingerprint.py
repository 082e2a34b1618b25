"""The digest of a transform: the same for every copy of it, another for any change of what it does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from transforms.saved_model import SavedModel

_METADATA = ("asset_map", "schema.pbtxt", "v1-json/schema.json")
_CHUNK = 1 << 20


def fingerprint(saved_model: SavedModel) -> str:
    """SHA-256, in hex, over the names and contents of the files that make a transform.

    These are the graph, the variables, the assets that the graph names, and of a TensorFlow Transform output folder the
    schema beside it. Not modification times, nor where the folder lies, nor a file that nothing reads. Nor TensorFlow's
    own `fingerprint.pb`: it repeats checksums of the files above beside a random id, older TensorFlow versions do not
    write it, and a tool that copies a SavedModel may drop it.
    """
    return _digest(files_of(saved_model))


def files_of(saved_model: SavedModel) -> dict[str, str]:
    """Name -> path of the files that make a transform."""
    import tensorflow as tf

    names = ["saved_model.pb", *(f"assets/{name}" for name in saved_model.asset_names)]
    variables = f"{saved_model.directory}/variables"
    if tf.io.gfile.isdir(variables):
        names += [f"variables/{name}" for name in tf.io.gfile.listdir(variables) if name.startswith("variables.")]
    files = {name: f"{saved_model.directory}/{name}" for name in names}
    if saved_model.directory != saved_model.path:
        metadata = {f"metadata/{name}": f"{saved_model.path}/transformed_metadata/{name}" for name in _METADATA}
        files |= {name: path for name, path in metadata.items() if tf.io.gfile.exists(path)}
    return files


def source_fingerprint(sources: Sequence[str]) -> str | None:
    """SHA-256, in hex, over the base names and contents of source files, in this order; None when there are none."""
    files = files_of_sources(sources)
    return _digest(files) if files else None


def files_of_sources(sources: Sequence[str]) -> dict[str, str]:
    """Name -> path of source files."""
    return {f"{index}/{Path(path).name}": path for index, path in enumerate(sources)}


class Content(NamedTuple):
    """What tells how a file came to differ, and nothing of what it holds.

    sha256: of its bytes. lines: how many it has. unordered: the same for its lines in any order.
    """

    sha256: str
    lines: int
    unordered: str


def contents(files: Mapping[str, str]) -> dict[str, Content]:
    """Name -> content of files. files: name -> path."""
    import tensorflow as tf

    found = {}
    for name, path in files.items():
        whole, lines, total = hashlib.sha256(), 0, 0
        with tf.io.gfile.GFile(path, "rb") as file:
            for line in file:
                whole.update(line)
                lines += 1
                total += int.from_bytes(hashlib.sha256(line.rstrip(b"\n")).digest(), "big")
        found[name] = Content(whole.hexdigest(), lines, f"{total % 2**256:064x}")
    return found


def _digest(files: Mapping[str, str]) -> str:
    import tensorflow as tf

    digest = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256()
        with tf.io.gfile.GFile(files[name], "rb") as file:
            while chunk := file.read(_CHUNK):
                content.update(chunk)
        digest.update(name.encode() + b"\0" + content.digest())
    return digest.hexdigest()
