"""What an unfinished run had chosen: a restart keeps its checkpoint and its transform, whatever production has by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Copies, Places, stage_assets, stage_model, stage_named, stage_transform
from pipeline.checkpoint import Checkpoint
from pipeline.errors import ModelError
from pipeline.exported_model import found_again
from pipeline.staging import Copy, DamagedError, Staged, fetch

if TYPE_CHECKING:
    from pipeline.job import Job


@dataclass(frozen=True)
class Pinned:
    """The choice of a run, and its copies.

    asks: what the job said of model and transform. asset_paths: of the files that the graph reads, those of `copies.assets`.
    """

    asks: Mapping[str, Any]
    checkpoint: Checkpoint
    copies: Copies
    asset_paths: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the plan."""
        return asdict(self)

    @classmethod
    def of_run(cls, plain: Mapping[str, Any], job: Job) -> Pinned | None:
        """What `to_json` gave for an unfinished run; None where it staged nothing, or the job asks for something else now."""
        if not plain or plain["asks"] != what_is_asked(job):
            return None
        checkpoint = dict(plain["checkpoint"])
        checkpoint["files"] = tuple((name, size) for name, size in checkpoint["files"])
        copies = {name: staged and Staged(**staged) for name, staged in plain["copies"].items()}
        return cls(plain["asks"], Checkpoint(**checkpoint), Copies(**copies), tuple(plain["asset_paths"]))

    def transform(self, job: Job, staging: str | None) -> Copy | None:
        """The copy of the transform. Raises ModelError: it is gone, and production has another one now."""
        staged, path = self.copies.transform, job.transform.path if job.transform else None
        if staged is None:
            return stage_transform(path, staging)
        try:
            return fetch(staged)
        except DamagedError as error:
            copy = stage_transform(path, staging)
            if copy is None or copy.staged.digest != staged.digest:
                raise _gone("transform", path, error) from error
            return copy

    def model(self, job: Job, model_dir: str | None, staging: str | None) -> tuple[Checkpoint, Copy | None]:
        """The checkpoint and its copy. Raises ModelError: it is gone, and production no longer has this checkpoint."""
        if self.copies.model is None:
            return stage_model(job, model_dir, staging, self._still_there)
        try:
            return self.checkpoint, fetch(self.copies.model)
        except DamagedError as error:
            try:
                return stage_model(job, model_dir, staging, self._still_there)
            except ModelError:
                raise _gone("checkpoint", self.checkpoint.path, error) from error

    def assets(self, paths: Sequence[str], places: Places, staging: str | None) -> Copy | None:
        """The copies of the files that the graph reads."""
        if self.copies.assets is not None and self.asset_paths == tuple(paths):
            try:
                return fetch(self.copies.assets)
            except DamagedError:
                pass  # other files are other settings: their parts are scored anew
        return stage_assets(paths, places, staging)

    def named(self, job: Job, staging: str | None) -> Copy | None:
        """The copies of the files of `model.assets`."""
        if self.copies.named is not None:
            try:
                return fetch(self.copies.named)
            except DamagedError:
                pass  # as above
        return stage_named(job.model.assets, staging)

    def _still_there(self) -> Checkpoint:
        found = found_again(self.checkpoint)
        if found.digest != self.checkpoint.digest:
            raise ModelError(f"{self.checkpoint.path} is another checkpoint by now")
        return self.checkpoint


def what_is_asked(job: Job) -> dict[str, Any]:
    """The keys of a job that choose checkpoint and transform."""
    settings = job.settings()
    model = {key: settings["model"].get(key) for key in ("estimator", "model_fn", "model_dir", "checkpoint")}
    for key in ("saved_model", "signature", "tags"):
        if key in settings["model"]:
            model[key] = settings["model"][key]
    if job.model.assets:
        model["assets"] = job.model.assets
    return {"model": model, "transform": settings.get("transform")}


def _gone(what: str, path: str | None, error: DamagedError) -> ModelError:
    return ModelError(
        f"the {what} of the unfinished run, {path}, is gone: its copy cannot be used ({error}), and production has another "
        "one by now. Start anew with --no_resume"
    )
