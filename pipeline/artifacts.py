"""What a run takes from production, and where this machine reads it: the checkpoint, the transform, the graph's files.

Staged of the model: the index and the data files of the checkpoint, a state file `checkpoint` that names it, the parity
record, the event files of evaluations where they chose it, and what user code may open below model_dir: the files that
lie directly in it or below `assets` there, of at most `EXTRA_BYTES` each. The builder gets this copy as `model_dir`. An
Estimator whose builder knows its model_dir by itself (`model.model_dir` left out) keeps that; its checkpoint is staged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline import files
from pipeline.assets import local_paths, sources_of_assets, with_local_assets
from pipeline.checkpoint import Checkpoint, data_file, read_bundle
from pipeline.errors import ModelError, ScoringError
from pipeline.exported_model import folder_of, found_again, name_in_copy, sources_of
from pipeline.graph_files import refuse_missing
from pipeline.job import Best
from pipeline.machine_cache import machine_cache
from pipeline.plan import temporary
from pipeline.record.file import FOLDER as RECORD
from pipeline.record.file import TRANSFORM, sample_path
from pipeline.staging import (
    ChangedError,
    Copy,
    Source,
    Staged,
    file_digest,
    stage,
)
from pipeline.tensor_bundle import EMPTY_BUNDLE, damaged_tensor

if TYPE_CHECKING:
    from pipeline.job import Job

Result = TypeVar("Result")

STAGING = "staging"
EXTRA_BYTES = 64 << 20
"""A file of model_dir that is larger is data, and no file that a model_fn opens."""
_ATTEMPTS = 3
_STATE_FILE = "checkpoint"
_NOT_COPIED = re.compile(r"\..*|_.*|checkpoint|graph\.pbtxt|.*tfevents.*|.*\.(index|meta|data-\d{5}-of-\d{5})")
"""Base names in a model_dir that are of training, or that we write ourselves."""
_SAVED_MODEL = re.compile(
    r"(transform_fn/|)(saved_model\.pb|fingerprint\.pb|keras_metadata\.pb|(assets|assets\.extra|variables)/.*)"
    r"|transformed_metadata/.*"
)
"""The files of a transform, of a TensorFlow Transform output folder and of a SavedModel."""


@dataclass(frozen=True)
class Copies:
    """What was staged, for the workers. None where production is read in place.

    assets: that the graph reads. named: those of `model.assets`.
    """

    model: Staged | None = None
    transform: Staged | None = None
    assets: Staged | None = None
    named: Staged | None = None


@dataclass(frozen=True)
class Places:
    """Where this machine reads what a job names, and how messages call it.

    job: the job as written. checkpoint: as production has it.
    """

    job: Job
    checkpoint: Checkpoint | None = None
    model: Copy | None = None
    transform: Copy | None = None
    named: Copy | None = None

    @property
    def local_job(self) -> Job:
        """The job with the paths of the copies."""
        job = with_local_assets(self.job, self.named)
        if job.model.saved_model and self.checkpoint is not None:
            folder = self.model.folder if self.model is not None else folder_of(self.checkpoint)
            update = {
                "saved_model": folder,
                "allow_unused": ["*"],
            }  # the graph is its own, whatever one signature reads
            job = job.model_copy(update={"model": job.model.model_copy(update=update)})
        if self.model is not None and job.model.model_dir:
            job = job.model_copy(update={"model": job.model.model_copy(update={"model_dir": self.model.folder})})
        if self.transform is not None and job.transform is not None:
            transform = job.transform.model_copy(update={"path": self.transform.folder})
            job = job.model_copy(update={"transform": transform})
        return job

    @property
    def local_checkpoint(self) -> Checkpoint:
        """The checkpoint with the path of its copy."""
        if self.model is None:
            return self.chosen
        return replace(self.chosen, path=files.join(self.model.folder, name_in_copy(self.chosen)))

    @property
    def chosen(self) -> Checkpoint:
        """The checkpoint as production has it, once it was chosen."""
        assert self.checkpoint is not None
        return self.checkpoint

    def original(self, text: str) -> str:
        """A path, or a text with paths, as the user knows it."""
        for local, path in self._names():
            text = text.replace(local, path)
        return text

    def is_copied(self, path: str) -> bool:
        """Whether a path lies in a copy."""
        return any(
            path.startswith(f"{copy.folder}/") for copy in (self.model, self.transform, self.named) if copy is not None
        )

    @contextmanager
    def named_as_in_job(self) -> Iterator[None]:
        """Errors name paths of production, not those of copies."""
        try:
            yield
        except ScoringError as error:
            text = self.original(str(error))
            if self.model is not None and f"{self.model.folder}/" in str(error) and "No such file" in text:
                text += (
                    ". The run works on a copy of model_dir, with the files directly in it and those below assets/, up to "
                    f"{EXTRA_BYTES >> 20} MiB each; give other files by an absolute path in model.params"
                )
            error.args = (text, *error.args[1:])
            raise

    def _names(self) -> Iterator[tuple[str, str]]:
        if self.model is not None and self.checkpoint is not None:
            yield self.local_checkpoint.path, self.checkpoint.path
            folder = (
                folder_of(self.checkpoint) if self.checkpoint.saved_model else self.checkpoint.path.rpartition("/")[0]
            )
            yield self.model.folder, self.job.model.model_dir or folder
        if self.transform is not None and self.job.transform is not None:
            yield self.transform.folder, self.job.transform.path or ""
        if self.named is not None:
            local = local_paths(self.job.model.assets, self.named)
            yield from ((local[name], path) for name, path in self.job.model.assets.items())


def staging_folder(job: Job) -> str:
    """Where a run stages: `model.staging`, or a folder that goes with the temporary files of its output."""
    return job.model.staging or temporary(job.output.path, STAGING)


def stage_transform(path: str | None, staging: str | None) -> Copy | None:
    """Copy the folder of a transform; None where there is none, or it can be read in place.

    Args:
      path: the folder.
      staging: the staging folder; None: read local folders in place, and fetch others to the cache of this machine.

    Raises:
      ModelError: there is nothing to copy.
    """
    target = _target(staging, path)
    if path is None or target is None:
        return None
    folder = path.rstrip("/")

    def copy() -> Copy | None:
        wanted = _transform_files(folder)
        if not any(files.base_name(name) == "saved_model.pb" for name in wanted):
            if files.is_local(folder):
                return None  # `transforms.load` tells what is there instead
            raise ModelError(f"transform {path} does not exist, or holds no saved_model.pb: correct transform.path")
        return stage(target, {name: Source(place, file_digest(place)) for name, place in wanted.items()})

    return _again_if_changed(copy, f"transform {path}")


def transform_digests(folder: str) -> dict[str, str]:
    """Name below a transform's folder -> SHA-256, in hex, of each file that makes the transform."""
    return {name: file_digest(place) for name, place in _transform_files(folder).items()}


def _transform_files(folder: str) -> dict[str, str]:
    found = {info.path[len(folder) + 1 :]: info.path for info in files.match(files.join(folder, "**"))}
    return {name: place for name, place in found.items() if _SAVED_MODEL.fullmatch(name)}


def stage_named(assets: Mapping[str, str], staging: str | None) -> Copy | None:
    """Copy the files of `model.assets`; None where there are none, or all can be read in place. staging: as above."""
    target = _target(staging, *assets.values())
    if not assets or target is None:
        return None
    return _again_if_changed(lambda: stage(target, sources_of_assets(assets)), "a file of model.assets")


def stage_model(
    job: Job, model_dir: str | None, staging: str | None, choose: Callable[[], Checkpoint]
) -> tuple[Checkpoint, Copy | None]:
    """Choose a checkpoint and copy it, with what stands around it; choose again where it changes meanwhile.

    Args:
      job: names the record, and what the checkpoint is chosen by.
      model_dir: that of the job, or the Estimator's own.
      staging: as for `stage_transform`.
      choose: finds the checkpoint and proves it complete.
    """

    def copy() -> tuple[Checkpoint, Copy | None]:
        checkpoint = choose()
        target = _target(staging, checkpoint.path, job.model.model_dir)
        if target is None:
            return checkpoint, None
        sources = _sources_of_model(job, model_dir, checkpoint)
        return checkpoint, stage(target, sources, checkpoint.digest, lambda folder: _prove(checkpoint, folder))

    return _again_if_changed(copy, "the checkpoint")


def stage_assets(paths: Sequence[str], places: Places, staging: str | None) -> Copy | None:
    """Copy the files that the graph reads and that lie in no copy; None where there are none, or all can be read in place."""
    paths = _outside(paths, places)
    target = _target(staging, *paths)
    if not paths or target is None:
        return None
    refuse_missing(paths)
    sources = {name: Source(path, file_digest(path)) for name, path in zip(_asset_names(paths), paths, strict=True)}
    return _again_if_changed(lambda: stage(target, sources), "a file that the graph reads")


def local_assets(paths: Sequence[str], places: Places, copy: Copy | None) -> dict[str, str]:
    """Path of a file that the graph reads -> its copy.

    Raises:
      ModelError: the graph of this machine reads other files than the one of the launch.
    """
    if copy is None:
        return {}
    paths = _outside(paths, places)
    copies = [files.join(copy.folder, name) for name in _asset_names(paths)]
    if len(list(Path(copy.folder).iterdir())) != len(paths) or not all(map(files.exists, copies)):
        raise ModelError(
            f"the graph reads {', '.join(paths) or 'no file'}, and at launch it read files of other names: the user's code or "
            "its environment is not the same on every machine"
        )
    return dict(zip(paths, copies, strict=True))


def _outside(paths: Sequence[str], places: Places) -> list[str]:
    return [path for path in dict.fromkeys(paths) if not places.is_copied(path)]


def _asset_names(paths: Sequence[str]) -> list[str]:
    """By their order in the graph: on another machine the folders may be others."""
    return [f"{number:03d}/{files.base_name(path)}" for number, path in enumerate(paths)]


def fetched_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose files this machine can open: itself, or its copy in the cache of this machine."""
    target = _target(None, checkpoint.path)
    if target is None:
        return checkpoint
    sources = _sources_of_checkpoint(checkpoint)
    copy = stage(target, sources, checkpoint.digest, lambda folder: _prove(checkpoint, folder))
    return replace(checkpoint, path=files.join(copy.folder, files.base_name(checkpoint.path)))


def _sources_of_checkpoint(checkpoint: Checkpoint) -> dict[str, Source | bytes]:
    if checkpoint.saved_model:
        return {**sources_of(checkpoint)}
    folder, _, base = checkpoint.path.rpartition("/")
    state = f'model_checkpoint_path: "{base}"\nall_model_checkpoint_paths: "{base}"\n'
    return {_STATE_FILE: state.encode(), **{name: Source(files.join(folder, name)) for name, _ in checkpoint.files}}


def _sources_of_model(job: Job, model_dir: str | None, checkpoint: Checkpoint) -> dict[str, Source | bytes]:
    small: dict[str, str] = {}
    if job.model.model_dir:
        small |= _extras(job.model.model_dir.rstrip("/"))
        if isinstance(job.model.checkpoint, Best):
            events = files.match(files.join(job.model.model_dir, "eval*", "*.tfevents.*"))
            small |= {"/".join(info.path.split("/")[-2:]): info.path for info in events}
    if checkpoint.saved_model:
        model_dir = folder_of(checkpoint)
    record = job.model.record or (files.join(model_dir, RECORD) if model_dir else "")
    for path in (files.join(record, TRANSFORM), sample_path(record, checkpoint.digest)):
        if record and files.exists(path):
            small[f"{RECORD}/{files.base_name(path)}"] = path
    sources = _sources_of_checkpoint(checkpoint)
    for name, path in small.items():
        try:
            sources[name] = files.read_bytes(path)
        except PermissionError:
            continue  # whoever trained may read it; if the model_fn opens it, that says so
    return sources


def _extras(model_dir: str) -> dict[str, str]:
    below = files.match(files.join(model_dir, "assets", "**"))
    found = [info for info in (*files.list_folder(model_dir), *below) if info.bytes <= EXTRA_BYTES]
    return {
        info.path[len(model_dir) + 1 :]: info.path
        for info in found
        if not _NOT_COPIED.fullmatch(files.base_name(info.path))
    }


def _prove(checkpoint: Checkpoint, folder: str) -> None:
    """The copy is the checkpoint that was chosen, and its tensors are those that its index was written for."""
    path = files.join(folder, name_in_copy(checkpoint))
    try:
        found = found_again(checkpoint, folder)
        if found.digest != checkpoint.digest:
            raise ChangedError(f"the files of {checkpoint.path} were replaced")
        bundle = read_bundle(path) if checkpoint.files else EMPTY_BUNDLE
        damaged = damaged_tensor(bundle, lambda shard: files.open_read(data_file(path, shard, bundle)))
    except ModelError as error:
        raise ChangedError(str(error).replace(path, checkpoint.path)) from error
    if damaged is not None:
        raise ChangedError(f"{checkpoint.path}: the bytes of {damaged!r} are not those that its index was written for")


def _again_if_changed(copy: Callable[[], Result], what: str) -> Result:
    attempt = 1
    while True:
        try:
            return copy()
        except (ChangedError, FileNotFoundError) as error:
            if attempt == _ATTEMPTS:
                raise ModelError(
                    f"{what} cannot be copied as a whole: {error}. A program writes there, or a file is damaged: start "
                    "again when training is done, or choose another one"
                ) from error
        time.sleep(attempt)
        attempt += 1


def _target(staging: str | None, *paths: str | None) -> str | None:
    if staging is not None:
        return staging
    return machine_cache() if any(path and not files.is_local(path) for path in paths) else None
