"""Files that a job names for the user's code (`model.assets`): what is copied of each, and where a machine has it.

In the copy an asset lies under its number, with its own base name: `002/words.txt`, or `002/folder/...`. The code gets the
path of the copy for `{assets.NAME}`. An asset whose name is an absolute path is laid at that very path as well.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import files
from pipeline.errors import ModelError
from pipeline.job.code import with_assets
from pipeline.staging import Copy, Source, file_digest, listed_digests

if TYPE_CHECKING:
    from pipeline.job import Job


def sources_of_assets(assets: Mapping[str, str]) -> dict[str, Source]:
    """Name in the copy -> file of production.

    Raises:
      ModelError: there is nothing at a path.
    """
    return {
        files.join(folder, name): Source(path, file_digest(path))
        for folder, asset in zip(_folders(assets), assets, strict=True)
        for name, path in _files(asset, assets[asset])
    }


def local_paths(assets: Mapping[str, str], copy: Copy | None) -> dict[str, str]:
    """Name of an asset -> where this machine has it: in the copy, or where the job says. Absolute names stand for themselves."""
    if copy is None:
        return dict(assets)
    places = zip(_folders(assets), assets.items(), strict=True)
    return {name: files.join(copy.folder, folder, files.base_name(path)) for folder, (name, path) in places}


def with_local_assets(job: Job, copy: Copy | None) -> Job:
    """The job with `{assets.NAME}` filled for this machine."""
    model = job.model
    if not model.assets:
        return job
    paths = local_paths(model.assets, copy)
    filled = {key: with_assets(getattr(model, key), paths) for key in ("params", "args", "argv")}
    return job.model_copy(update={"env": with_assets(job.env, paths), "model": model.model_copy(update=filled)})


def asset_digests(assets: Mapping[str, str], copy: Copy | None) -> dict[str, dict[str, str]]:
    """Name of an asset -> path of each of its files in production -> SHA-256, in hex."""
    if copy is None:
        return {name: {place: file_digest(place) for _, place in _files(name, path)} for name, path in assets.items()}
    found: dict[str, dict[str, str]] = {name: {} for name in assets}
    by_folder = dict(zip(_folders(assets), assets, strict=True))
    for listed, digest in listed_digests(copy.staged).items():
        folder, _, rest = listed.partition("/")
        name = by_folder[folder]
        parent = assets[name].rstrip("/").rpartition("/")[0]
        found[name][f"{parent}/{rest}"] = digest
    return found


def lay(assets: Mapping[str, str], copy: Copy | None) -> None:
    """Put the assets whose name is an absolute path there. What lies there already stays, if it is the same.

    Raises:
      ModelError: a file of another content lies there, or nothing can be written there.
    """
    for name, path in local_paths(assets, copy).items():
        if not name.startswith("/"):
            continue
        for inner, source in _files(name, path):
            target = name + inner[len(files.base_name(path)) :]
            try:
                is_there = _lay(source, target)
            except OSError as error:
                raise ModelError(
                    f"model.assets: {target} cannot be written on this machine ({error.strerror}). Give the asset a plain name "
                    "and the code its path, by {assets.NAME} in model.params"
                ) from error
            if not is_there:
                raise ModelError(
                    f"model.assets: {target} is on this machine already, and is not what {assets[name]} is. Delete it if nobody "
                    "needs it, or give the asset a plain name and the code its path, by {assets.NAME} in model.params"
                )


def _lay(source: str, target: str) -> bool:
    """Copy a file unless there is one; whether it is there now."""
    if not os.path.lexists(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{target}.{uuid.uuid4().hex}"
        try:
            with files.open_read(source) as reader, Path(temporary).open("xb") as writer:
                shutil.copyfileobj(reader, writer, 8 << 20)
            try:
                os.link(temporary, target)  # whole, and never over what another process has put there meanwhile
                return True
            except FileExistsError:
                pass
        finally:
            Path(temporary).unlink(missing_ok=True)
    return Path(target).is_file() and file_digest(target) == file_digest(source)


def _folders(assets: Mapping[str, str]) -> list[str]:
    return [f"{number:03d}" for number in range(len(assets))]


def _files(name: str, path: str) -> Iterator[tuple[str, str]]:
    """Base name of a file, or of its folder with what stands below, and its path."""
    path = path.rstrip("/")
    if files.info(path) is not None:
        yield files.base_name(path), path
        return
    below = files.match(files.join(path, "**"))
    if not below:
        raise ModelError(
            f"model.assets: {name}: there is no file at {path}, and no folder with files; correct the path"
        )
    for info in below:
        yield files.base_name(path) + info.path[len(path) :], info.path
