"""Which checkpoint is scored: found once, at launch, proved complete, and named by a digest.

`Estimator.predict` scores with random weights where it finds no checkpoint; here that is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline import evaluations, files
from pipeline.errors import ModelError
from pipeline.protos import message_class
from pipeline.tensor_bundle import Bundle, parse_index, read_integer

if TYPE_CHECKING:
    from pipeline.job import Job

_STATE_FILE = "checkpoint"
_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


@dataclass(frozen=True)
class Best:
    """The choice of the checkpoint with the best evaluation: the largest (`max`) or smallest (`min`) of a metric."""

    metric: str
    mode: Literal["min", "max"]


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    path: the prefix of its files, absolute.
    step: the global step, or None where neither its name nor a tensor `global_step` tells.
    digest: SHA-256, in hex, of the index (it holds a checksum of every tensor) and of names and sizes of the data files.
    files: base name and bytes of the index and of each data file.
    note: what a person should know of the choice, or "".
    saved_model: whether it stands for a whole SavedModel (pipeline/exported_model.py), which the digest covers; `files` is
        empty for one without variables.
    """

    path: str
    step: int | None
    digest: str
    files: tuple[tuple[str, int], ...]
    note: str = ""
    saved_model: bool = False


def resolve(model_dir: str | None, choice: str | os.PathLike[str] | int | Best = "latest") -> Checkpoint:
    """Find the checkpoint that is meant, and prove that it is whole.

    Args:
      model_dir: the Estimator's; only a `choice` that is a path can do without.
      choice: "latest", by the state file `checkpoint`; a global step; `Best`; or a path: of a checkpoint (with or without
        .index), of a folder with a state file, or of an exported SavedModel or its variables.

    Raises:
      ModelError: there is no such checkpoint, or a file of it is missing, cut short or damaged.
    """
    note = ""
    if isinstance(choice, os.PathLike) or (isinstance(choice, str) and choice != "latest"):
        path = _at_path(os.fspath(choice), model_dir)
    else:
        folder = _model_folder(model_dir)
        if isinstance(choice, Best):
            path, note = _best(folder, choice)
        elif isinstance(choice, Integral):  # numpy's integers are no int
            path = _at_step(folder, int(choice))
        elif choice == "latest":
            path = _latest(folder)
        else:
            kind = type(choice)
            raise ModelError(
                "checkpoint: expected 'latest', a step, a path or pipeline.checkpoint.Best, "
                f"got {kind.__module__}.{kind.__qualname__}"
            )
    return _complete(path if not files.is_local(path) else str(Path(path).resolve()), note)


def of_job(job: Job, model_dir: str | None) -> Checkpoint:
    """The checkpoint that a job chooses; raises as `resolve` does. model_dir: that of the job, or of the Estimator."""
    if job.model.saved_model:
        from pipeline import exported_model

        return exported_model.resolve(job.model.saved_model)
    choice = job.model.checkpoint
    return resolve(model_dir, choice if isinstance(choice, (str, int)) else Best(choice.metric, choice.mode))


def read_bundle(path: str) -> Bundle:
    """The index of the checkpoint with the prefix `path`."""
    return parse_index(files.read_bytes(f"{path}.index"), f"{path}.index")


def data_file(path: str, shard: int, bundle: Bundle) -> str:
    """Path of a data file of the checkpoint with the prefix `path`."""
    return f"{path}.data-{shard:05d}-of-{bundle.num_shards:05d}"


def _model_folder(model_dir: str | None) -> str:
    if not model_dir:
        raise ModelError(
            "there is no model_dir to look for checkpoints in: set model.model_dir, or model.checkpoint to a path"
        )
    if not files.list_folder(model_dir) and not files.exists(model_dir):
        raise ModelError(f"model_dir {model_dir} does not exist: correct model.model_dir")
    return model_dir


def _latest(folder: str) -> str:
    """What the state file names: beside it if it is there, since the folder may have moved since it was written."""
    from google.protobuf import text_format

    names = _names(folder)
    state_file = files.join(folder, _STATE_FILE)
    if _STATE_FILE not in names:
        raise _refusal(
            f"Could not find trained model in model_dir: {folder} has no file {_STATE_FILE!r} that names the latest",
            folder,
        )
    try:
        state = text_format.Parse(files.read_bytes(state_file), message_class("CheckpointState")())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ModelError(f"{state_file} is damaged ({error}); set model.checkpoint to a step or a path") from error
    named = state.model_checkpoint_path
    base = files.base_name(named)
    if any(name == base or name.startswith(f"{base}.") for name in names):
        return files.join(folder, base)
    elsewhere = named if Path(named).is_absolute() or not files.is_local(named) else files.join(folder, named)
    if not named or not (files.exists(f"{elsewhere}.index") or files.exists(elsewhere)):
        raise _refusal(
            f"{state_file} names {named or 'no checkpoint'!r}, which is neither there nor in {folder}", folder
        )
    return elsewhere


def _at_step(folder: str, step: int) -> str:
    found = [name for number, name in _checkpoints(folder) if number == step]
    if not found:
        raise _refusal(f"there is no checkpoint of step {step} in {folder}", folder)
    if len(found) > 1 and f"model.ckpt-{step}" in found:
        found = [f"model.ckpt-{step}"]
    if len(found) > 1:
        raise ModelError(
            f"several checkpoints in {folder} are of step {step}: {', '.join(found)}; set model.checkpoint to a path"
        )
    return files.join(folder, found[0])


def _at_path(path: str, model_dir: str | None) -> str:
    prefix = _PART.sub("", path).rstrip("/")
    candidates = [prefix]
    if model_dir and files.is_local(prefix) and not Path(prefix).is_absolute():
        candidates.append(files.join(model_dir, prefix))
    for candidate in candidates:
        for inside in ("", "/variables", "/variables/variables"):
            if files.exists(f"{candidate}{inside}.index"):
                return candidate + inside
        if files.exists(f"{candidate}/{_STATE_FILE}"):
            return _latest(candidate)
        folder, base = _split(candidate)
        if any(name == base or name.startswith(f"{base}.data-") for name in _names(folder)):
            return candidate
    folder = prefix if files.list_folder(prefix) else _split(prefix)[0]
    raise _refusal(f"there is no checkpoint at {path}", folder)


def _best(folder: str, choice: Best) -> tuple[str, str]:
    """The path, and a note if a better checkpoint was deleted."""
    values = evaluations.read_metric(folder, choice.metric)
    sign = 1 if choice.mode == "max" else -1
    ranked = sorted(values, key=lambda step: (sign * values[step], step), reverse=True)
    present = {step for step, _ in _checkpoints(folder)}
    kept = [step for step in ranked if step in present]
    if not kept:
        raise _refusal(
            f"no checkpoint that {choice.metric!r} was evaluated for (steps {_some(sorted(values))}) is left in {folder}",
            folder,
        )
    note = ""
    if sign * values[ranked[0]] > sign * values[kept[0]]:
        note = (
            f"the best {choice.metric} ({values[ranked[0]]:.6g}) was that of step {ranked[0]}, whose checkpoint is gone; "
            f"step {kept[0]} ({values[kept[0]]:.6g}) is the best of those that are left"
        )
    return _at_step(folder, kept[0]), note


def _complete(path: str, note: str) -> Checkpoint:
    folder, base = _split(path)
    sizes = {files.base_name(info.path): info.bytes for info in files.list_folder(folder)}
    index = f"{base}.index"
    if index not in sizes:
        if base in sizes:
            raise ModelError(
                f"{path} is a checkpoint of version 1 (one file, no .index), which is not read: restore it in the training "
                "program and save it again with tf.compat.v1.train.Saver(), whose default is version 2"
            )
        raise _incomplete(path, f"{index} is missing")
    data = files.read_bytes(f"{path}.index")
    bundle = parse_index(data, f"{path}.index")
    parts = [(index, len(data))]
    for shard, needed in enumerate(bundle.shard_bytes):
        name = data_file(base, shard, bundle)
        if name not in sizes:
            raise _incomplete(path, f"{name} is missing, {needed} bytes are needed")
        if sizes[name] < needed:
            raise _incomplete(path, f"{name} has {sizes[name]} bytes, {needed} are needed")
        parts.append((name, sizes[name]))
    digest = hashlib.sha256(data)
    digest.update(repr(parts[1:]).encode())
    return Checkpoint(path, _step(path, bundle), digest.hexdigest(), tuple(parts), note)


def _incomplete(path: str, what: str) -> ModelError:
    folder, _ = _split(path)
    return _refusal(
        f"checkpoint {path} is incomplete: {what}. Training was stopped while it saved, or a copy is unfinished: copy it again, "
        "or choose another one",
        folder,
    )


def _step(path: str, bundle: Bundle) -> int | None:
    numbered = _numbered(files.base_name(path))
    entry = bundle.entries.get("global_step")
    if numbered is not None or entry is None or entry.shape or not entry.dtype.startswith("int"):
        return numbered
    try:
        return read_integer(bundle, "global_step", lambda shard: files.open_read(data_file(path, shard, bundle)))
    except ModelError as error:
        raise ModelError(f"checkpoint {path} is damaged: {error}") from error


def _checkpoints(folder: str) -> Iterator[tuple[int | None, str]]:
    """Step, if the name tells it, and name of every checkpoint in a folder, by step."""
    bases = [name.removesuffix(".index") for name in _names(folder) if name.endswith(".index")]
    yield from sorted(
        ((_numbered(base), base) for base in bases), key=lambda found: (found[0] is None, found[0] or 0, found[1])
    )


def _refusal(message: str, folder: str) -> ModelError:
    """With the checkpoints that a folder does hold, and how to name one."""
    found = list(_checkpoints(folder))
    steps = [step for step, _ in found if step is not None]
    others = [name for step, name in found if step is None]
    if steps:
        remedy = (
            f"; there are steps {_some(steps)}: set model.checkpoint to one of them (model.checkpoint: {steps[-1]})"
        )
    elif others:
        remedy = f"; there are {_some(others)}: set model.checkpoint to {files.join(folder, others[-1])}"
    else:
        remedy = "; it holds no checkpoint at all. Train first, or correct model.model_dir"
        if folder not in message:
            remedy = f"; {folder} holds no checkpoint at all"
    return ModelError(message + remedy)


def _some(values: list[Any]) -> str:
    """The last ten: of steps, the newest."""
    more = [f"{len(values) - 10} more"] if len(values) > 10 else []
    return ", ".join([*more, *map(str, values[-10:])])


def _names(folder: str) -> list[str]:
    return [files.base_name(info.path) for info in files.list_folder(folder)]


def _split(path: str) -> tuple[str, str]:
    folder, slash, base = path.rpartition("/")
    return (folder or "/" if slash else "."), base


def _numbered(name: str) -> int | None:
    found = re.search(r"-(\d+)$", name)
    return int(found[1]) if found else None
