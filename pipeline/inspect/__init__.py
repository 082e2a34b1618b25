"""The command `inspect`: what a file or folder holds, told by its content."""

from __future__ import annotations

from pathlib import Path

from pipeline import files
from pipeline.errors import InputError, JobError
from pipeline.inspect.checkpoint import inspect_checkpoint, inspect_model_dir, is_model_dir, prefix_of
from pipeline.inspect.job_draft import draft_job
from pipeline.inspect.output import inspect_output, is_output
from pipeline.inspect.saved_model import SAVED_MODEL, inspect_saved_model, is_saved_model
from pipeline.inspect.shard import inspect_shard, kind_of
from pipeline.manifest import MANIFEST
from pipeline.publish import SUCCESS

__all__ = ["CAN_BE_INSPECTED", "draft_job", "inspect"]

CAN_BE_INSPECTED = (
    "inspect takes an output folder, a model_dir, a checkpoint (its prefix or its .index file), the folder of a "
    "transform or of another SavedModel, or a shard (tfrecord, parquet, csv, jsonl, avro)"
)


def inspect(path: str) -> str:
    """Aligned text that tells what `path` holds. It never has a value of a row.

    Args:
      path: an output folder, a model_dir, a checkpoint, a folder of a SavedModel, or a shard.

    Raises:
      JobError: there is nothing, or something of another kind; the message tells what can be inspected.
      ModelError: a checkpoint, a transform or a SavedModel is damaged.
      InputError: a shard, a manifest or the whole path cannot be read.
    """
    try:
        prefix = prefix_of(path)
        if prefix is not None:
            return inspect_checkpoint(prefix)
        return _folder(path.rstrip("/") or "/") if _is_folder(path) else _file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error


def _folder(folder: str) -> str:
    if is_output(folder):
        return inspect_output(folder)
    if is_saved_model(folder):
        return inspect_saved_model(folder)
    if is_model_dir(folder):
        return inspect_model_dir(folder)
    raise JobError(f"{folder} is a folder of another kind ({_listing(folder)}); {CAN_BE_INSPECTED}")


def _file(path: str) -> str:
    if not files.exists(path):
        raise JobError(f"there is nothing at {path}; {CAN_BE_INSPECTED}")
    folder, _, name = path.rpartition("/")
    folder = folder or "."
    if name in (MANIFEST, SUCCESS, SAVED_MODEL, "checkpoint"):
        return _folder(folder)
    if ".tfevents." in name:
        raise JobError(f"{path} holds events for TensorBoard; inspect its model_dir for the metrics of evaluations")
    kind = kind_of(path)
    if kind is None:
        remedy = ""
        if name.endswith((".yaml", ".yml")):
            remedy = f"is it a job file, run check --config {path}; "
        raise JobError(f"{path} is a file of another kind; {remedy}{CAN_BE_INSPECTED}")
    return inspect_shard(path, kind)


def _is_folder(path: str) -> bool:
    if files.is_local(path):
        return Path(path).is_dir()
    # Object stores have no folders: there is one where something lies below it, maybe only further down.
    return not files.exists(path) and bool(files.match(files.join(path, "**")))


def _listing(folder: str) -> str:
    names = [files.base_name(info.path) for info in files.list_folder(folder)]
    if files.is_local(folder):
        names += [f"{entry.name}/" for entry in Path(folder).iterdir() if entry.is_dir()]
    if not names:
        return "no files in it"
    return f"it has {', '.join(sorted(names)[:4])}{', ...' if len(names) > 4 else ''}"
