"""A draft of the job file that scores with a SavedModel: everything that the SavedModel itself tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline import exported_model, files
from pipeline.errors import JobError, ModelError
from pipeline.features import DTYPES
from pipeline.inspect.saved_model import SAVED_MODEL, TRANSFORM_FN, read_saved_model
from pipeline.signature import PREFERRED, Signature, signature_names
from pipeline.text import job_features


def draft_job(path: str) -> str:
    """A job file with paths to correct.

    Args:
      path: a SavedModel, or a folder of numbered versions.

    Raises:
      JobError: it is the folder of a transform.
      ModelError: there is no SavedModel, or none with a signature whose inputs can be fed.
    """
    path = path.rstrip("/") or "/"
    if files.exists(files.join(path, TRANSFORM_FN)):
        raise JobError(f"--as_job: {path} is the output of TensorFlow Transform; name it as transform.path of a job")
    folder = exported_model.folder_of(exported_model.resolve(path))
    signature, tags = _signature(folder)
    others = [name for name in signature_names(signature.meta_graph) if name != signature.name]
    records = signature.takes_records({}, transformed=False)
    also = f"  # or {', '.join(others)}" if others else ""
    written = str(Path(path).resolve()) if files.is_local(path) else path
    lines = [
        "# A draft: correct the paths of input and output, then run: python -m pipeline check --config FILE",
        f"name: {_name(path)}",
        "input:",
        f"  pattern: shards/*.{'tfrecord' if records else 'parquet'}",
        *_features(signature, records),
        "model:",
        f"  {_line('saved_model', written)}",
        f"  {_line('signature', signature.name)}{also}",
        *([f"  tags: {yaml.safe_dump(tags, default_flow_style=True).strip()}"] if tags != ["serve"] else []),
        "output:",
        "  path: predictions",
    ]
    return "\n".join(lines)


def _signature(folder: str) -> tuple[Signature, list[str]]:
    """The signature that a job would take, and the tags of its graph: those of serving, if there are any."""
    graphs = read_saved_model(files.join(folder, SAVED_MODEL)).meta_graphs
    graph = next((each for each in graphs if set(each.meta_info_def.tags) == {"serve"}), graphs[0])
    names = signature_names(graph)
    if not names:
        raise ModelError(f"{folder} has no signature; export the model with one")
    name = next((each for each in PREFERRED if each in names), names[0])
    return Signature(folder, name, graph), sorted(graph.meta_info_def.tags)


def _features(signature: Signature, records: bool) -> list[str]:
    if not records:
        features = signature.features()
        lost = [name for name in signature.inputs if name not in features]
        if lost:
            raise ModelError(f"{signature.place} takes {', '.join(lost)}, which no feature of a job becomes")
        unknown = [name for name, info in signature.inputs.items() if any(size.size < 0 for size in _row(info))]
        return job_features(features, dict.fromkeys(unknown, "the signature does not tell every length of the shape"))
    parsed = dict(_parsed(signature))
    if not parsed:
        return ["# features: of shards in another format than TFRecord; tf.Examples are made of them"]
    return [
        "# For shards in another format than TFRecord:",
        *(f"# {line}" for line in job_features(dict(sorted(parsed.items())))),
    ]


def _row(info: Any) -> Any:
    is_dense = info.WhichOneof("encoding") == "name" and not info.tensor_shape.unknown_rank
    return info.tensor_shape.dim[1:] if is_dense else []


def _parsed(signature: Signature) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the graph parses out of a tf.Example: name -> the feature, as far as its constants tell."""
    import tensorflow as tf

    nodes = {node.name: node for node in signature.operations}

    def value(name: str) -> Any:
        node = nodes.get(name.partition(":")[0])
        while node is not None and node.op in ("Reshape", "Identity"):  # a default gets the shape of the feature
            node = nodes.get(node.input[0].partition(":")[0])
        return tf.make_ndarray(node.attr["value"].tensor) if node is not None and node.op == "Const" else None

    def dtype(number: int) -> str:
        return tf.as_dtype(number).name

    for node in signature.operations:
        if node.op not in ("ParseExample", "ParseExampleV2"):
            continue
        sparse, dense = node.attr["sparse_types"].list.type, node.attr["Tdense"].list.type
        if node.op == "ParseExampleV2":
            sparse_keys, dense_keys, ragged_keys = (value(name) for name in node.input[2:5])
            defaults = node.input[5:]
        else:
            keys = [value(name) for name in node.input[2:]]
            sparse_keys, dense_keys, ragged_keys = keys[: len(sparse)], keys[len(sparse) :][: len(dense)], []
            defaults = node.input[2 + len(sparse) + len(dense) :]
        if any(keys is None for keys in (sparse_keys, dense_keys, ragged_keys)):
            continue
        for key, number in zip(sparse_keys, sparse, strict=False):
            yield _text(key), {"dtype": dtype(number), "kind": "varlen"}
        for key, number in zip(ragged_keys, node.attr["ragged_value_types"].list.type, strict=False):
            yield _text(key), {"dtype": dtype(number), "kind": "ragged"}
        shapes = node.attr["dense_shapes"].list.shape
        for key, number, shape, default in zip(dense_keys, dense, shapes, defaults, strict=False):
            sizes = [size.size for size in shape.dim]
            entry: dict[str, Any] = {"dtype": dtype(number)} | ({"shape": sizes} if sizes else {})
            given = value(default)
            if given is not None and given.size and dtype(number) in DTYPES:
                values = [item.decode() if isinstance(item, bytes) else item for item in given.reshape(-1).tolist()]
                entry["default"] = values if sizes and len(values) > 1 else values[0]
            yield _text(key), entry


def _text(key: Any) -> str:
    found = key.item() if hasattr(key, "item") else key
    return found.decode() if isinstance(found, bytes) else str(found)


def _line(key: str, value: str) -> str:
    text = yaml.safe_dump({key: value}, default_flow_style=False, allow_unicode=True, width=float("inf"))
    return text.strip()


def _name(path: str) -> str:
    base = files.base_name(path)
    if base.isdecimal():
        base = files.base_name(path.rpartition("/")[0])
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", base).strip("-._") or "model"
