"""What checkpoints hold: which there are, whether they are complete, their variables, and how they were evaluated."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping

from pipeline import files
from pipeline.checkpoint import Checkpoint, read_bundle, resolve
from pipeline.errors import ModelError
from pipeline.evaluations import read_metrics
from pipeline.optimizer_names import is_optimizer_state, is_slot
from pipeline.record.file import FOLDER, read_record
from pipeline.tensor_bundle import Bundle
from pipeline.text import counted, facts, table

_PIECE = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_NO_MODEL = ("global_step", "_CHECKPOINTABLE_OBJECT_GRAPH")


def prefix_of(path: str) -> str | None:
    """The prefix of the checkpoint that `path` is, or is a file of; None if it is none."""
    if _PIECE.search(path) and files.exists(path):
        return _PIECE.sub("", path)
    return path if not path.endswith("/") and files.exists(f"{path}.index") else None


def is_model_dir(folder: str) -> bool:
    """Whether checkpoints lie in a folder, or a state file that names them."""
    names = [files.base_name(info.path) for info in files.list_folder(folder)]
    return "checkpoint" in names or any(name.endswith(".index") for name in names)


def inspect_checkpoint(prefix: str) -> str:
    """Step, size, digest and variables of one checkpoint.

    Raises:
      ModelError: it is damaged or not complete.
    """
    checkpoint = resolve(None, prefix)
    recorded = _recorded_files(prefix.rpartition("/")[0] or ".", checkpoint)
    return "\n".join([*facts(_facts(checkpoint)), *recorded, *_variables(checkpoint)])


def inspect_model_dir(folder: str) -> str:
    """The checkpoints of a folder, its evaluations, and the variables of the latest checkpoint.

    A checkpoint that is not whole is told of, and so is a `latest` that is not there.

    Raises:
      ModelError: an event file is damaged.
    """
    found: dict[str, Checkpoint] = {}
    refused: dict[str, str] = {}
    prefixes = _prefixes(folder)
    for prefix in prefixes:
        try:
            found[prefix] = resolve(None, prefix)
        except ModelError as error:
            refused[prefix] = str(error)
    shown, latest = _latest(folder, found)
    lines = facts([("model_dir", folder), ("latest", latest)])
    lines += table(
        "checkpoints",
        [_row(prefix, found.get(prefix), prefixes[prefix]) for prefix in prefixes],
        ("name", "step", "bytes", "state"),
    )
    lines += table("not to be scored with", [(reason,) for reason in refused.values()])
    lines += _evaluations(folder, {checkpoint.step for checkpoint in found.values()})
    if shown is not None:
        lines += table(files.base_name(shown.path), [(line,) for line in facts(_facts(shown))])
        lines += _recorded_files(folder, shown)
        lines += _variables(shown)
    return "\n".join(lines)


def _latest(folder: str, found: Mapping[str, Checkpoint]) -> tuple[Checkpoint | None, str]:
    """What `model.checkpoint: latest` chooses, or the newest one to show instead, and what to say of it."""
    try:
        latest = resolve(folder, "latest")
        return latest, files.base_name(latest.path)
    except ModelError as error:
        return max(found.values(), key=lambda checkpoint: _by_step(checkpoint.path), default=None), f"refused: {error}"


def _prefixes(folder: str) -> dict[str, int]:
    """Prefix -> bytes of its files, by step."""
    sizes: dict[str, int] = defaultdict(int)
    for info in files.list_folder(folder):
        piece = _PIECE.search(info.path)
        if piece and piece[1] != "meta":
            sizes[_PIECE.sub("", info.path)] += info.bytes
    return {prefix: sizes[prefix] for prefix in sorted(sizes, key=_by_step)}


def _by_step(prefix: str) -> tuple[int, str]:
    number = re.search(r"-(\d+)$", prefix)
    return int(number[1]) if number else -1, prefix


def _row(prefix: str, checkpoint: Checkpoint | None, size: int) -> tuple[str, str, str, str]:
    step = checkpoint.step if checkpoint else max(_by_step(prefix)[0], 0) or None
    shown = "unknown" if step is None else str(step)
    return files.base_name(prefix), shown, f"{size:,}", "complete" if checkpoint else "incomplete or damaged"


def _facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    return [
        ("checkpoint", checkpoint.path),
        ("step", "unknown" if checkpoint.step is None else str(checkpoint.step)),
        ("bytes", f"{sum(size for _, size in checkpoint.files):,}"),
        ("state", "complete"),
        ("digest", checkpoint.digest),
    ]


def _recorded_files(folder: str, checkpoint: Checkpoint) -> list[str]:
    """The files that the model's graph opened, where a parity record in its model_dir tells."""
    record = read_record(files.join(folder, FOLDER), checkpoint.digest)
    if record is None or not record.files:
        return []
    return table("files that the graph opened when the record was made", list(record.files), ("name", "sha256"))


def _variables(checkpoint: Checkpoint) -> list[str]:
    bundle = read_bundle(checkpoint.path)
    optimizer = _optimizer_tensors(bundle)
    rows, parameters = [], 0
    for name, entry in sorted(bundle.entries.items()):
        if name in optimizer:
            continue
        if name not in _NO_MODEL and entry.dtype != "string":
            parameters += math.prod(entry.shape)
        parts = f"in {len(entry.slices)} parts" if entry.slices else ""
        rows.append((name, entry.dtype, str(list(entry.shape)), parts))
    values = sum(math.prod(bundle.entries[name].shape) for name in optimizer)
    title = f"variables: {counted(parameters, 'parameter')}"
    if optimizer:
        title += (
            f"; beside them {counted(len(optimizer), 'tensor')} of optimizers and averages, {counted(values, 'value')}"
        )
    return table(title, rows, ("name", "dtype", "shape", ""))


def _optimizer_tensors(bundle: Bundle) -> set[str]:
    """Slots, averages and settings of optimizers, by their names: no graph tells here what belongs to what."""
    shapes = {name: entry.shape for name, entry in bundle.entries.items() if name not in _NO_MODEL}
    return {name for name, shape in shapes.items() if is_optimizer_state(name, shape) or is_slot(name, shape, shapes)}


def _evaluations(model_dir: str, steps: set[int | None]) -> list[str]:
    """Where each metric is best among `steps`, those of the checkpoints that are whole."""
    metrics = read_metrics(model_dir)
    folders = {folder for folder, _ in metrics}
    rows = []
    for (folder, name), values in sorted(metrics.items()):
        numbers = {step: value for step, value in values.items() if step in steps and not math.isnan(value)}
        if not numbers:
            continue
        # Of equal values the newest, as model.checkpoint: {best: ...} chooses.
        highest = max(numbers, key=lambda step: (numbers[step], step))
        lowest = max(numbers, key=lambda step: (-numbers[step], step))
        rows.append(
            (
                f"{folder}/{name}" if len(folders) > 1 else name,
                f"{len(numbers):,}",
                *(cell for step in (highest, lowest) for cell in (str(step), f"{numbers[step]:.6g}")),
            )
        )
    header = ("metric", "evaluations", "max at step", "max", "min at step", "min")
    return table(
        "evaluations of these checkpoints, for model.checkpoint: {best: {metric: ..., mode: max or min}}", rows, header
    )
