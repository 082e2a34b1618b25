"""Reads a job file: YAML, `base`, `--set`, placeholders, paths. What it says is checked by `pipeline.job`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.job import yaml as job_yaml
from pipeline.job.layers import Layer, Places, close_name, is_url, merged, read_layers
from pipeline.job.messages import KeyPath, describe, dotted, explain
from pipeline.job.placeholders import Mistake, Placeholders, variables_of

if TYPE_CHECKING:
    from pipeline.job.fit import FitJob

_PATHS: set[KeyPath] = {
    ("code",),
    ("input", "pattern"),
    ("input", "history"),
    ("transform", "path"),
    ("model", "model_dir"),
    ("model", "saved_model"),
    ("model", "checkpoint"),
    ("model", "record"),
    ("model", "staging"),
    ("output", "path"),
    ("errors", "rejected_path"),
}

AnyJob = TypeVar("AnyJob", bound=BaseModel)


def load_job(
    path: str, run_date: str | None = None, overrides: Sequence[str] = (), variables: Sequence[str] = ()
) -> Job:
    """Read and check a job file, merged over those that it names under `base`.

    Args:
      path: the job file; relative paths start at the folder of the file that names them.
      run_date: fills `{run_date}`, YYYY-MM-DD.
      overrides: `section.key=value` each, the value in YAML; relative paths in them start at the current folder.
      variables: `name=value` each, fills `{name}`.

    Raises:
      JobError: with a line for each mistake: its place, what was found, what to write.
    """
    job, places = _load(Job, path, run_date, overrides, variables)
    folders: list[tuple[KeyPath, str | None]] = [
        (("model", key), getattr(job.model, key)) for key in ("model_dir", "saved_model")
    ]
    if job.transform:
        folders.append((("transform", "path"), job.transform.path))
    missing = [*_missing_paths(folders, job.code), *_missing_assets(job)]
    if missing:
        raise places.error(missing)
    return job


def load_fit_job(
    path: str, run_date: str | None = None, overrides: Sequence[str] = (), variables: Sequence[str] = ()
) -> FitJob:
    """Read and check a job file of the command `fit`; arguments and errors are those of `load_job`."""
    from pipeline.job.fit import FitJob

    job, places = _load(FitJob, path, run_date, overrides, variables)
    missing = list(_missing_paths([], job.code))
    if missing:
        raise places.error(missing)
    return job


def _load(
    model: type[AnyJob], path: str, run_date: str | None, overrides: Sequence[str], variables: Sequence[str]
) -> tuple[AnyJob, Places]:
    placeholders = Placeholders(run_date, variables_of(variables))
    layers = list(read_layers(path, placeholders))
    sets = [_override(text) for text in overrides]
    places = Places(layers, [key for key, _ in sets])
    settings = _filled_and_merged(layers, sets, placeholders, places)
    try:
        return model.model_validate(settings, context={"source": path}), places
    except ValidationError as error:
        mistakes = [mistake for details in error.errors() for mistake in explain(details, model)]
        raise places.error(_without_echoes(mistakes)) from error


def _override(text: str) -> tuple[KeyPath, Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise JobError(f"--set {text}: expected section.key=value, such as --set batch.rows=512")
    if path[0] == "base":
        raise JobError("--set base: stands in job files alone; write a job file with that base")
    return path, job_yaml.parse(value, f"--set {key.strip()}", path).value


def _filled_and_merged(
    layers: Sequence[Layer], sets: Sequence[tuple[KeyPath, Any]], placeholders: Placeholders, places: Places
) -> dict[str, Any]:
    """The settings of files and `--set` as one, without placeholders and relative paths."""
    settings = merged(layers)
    for key, value in sets:
        _put(settings, key, value)
    mistakes: list[Mistake] = []
    name = settings.get("name")
    if isinstance(name, str):
        placeholders.name = placeholders.fill(name, ("name",), [])

    def changed(text: str, key: KeyPath) -> str:
        filled = placeholders.fill(text, key, mistakes)
        is_path = _without_positions(key) in _PATHS or (key[:2] == ("model", "assets") and len(key) == 3)
        return _absolute(filled, key, places.folder(key)) if is_path else filled

    settings = _map_texts(settings, (), changed)
    if mistakes:
        raise places.error(mistakes)
    placeholders.check_used()
    if len(layers) > 1:
        settings["base"] = [os.path.abspath(layer.file) for layer in layers[:-1]]
    return settings


def _map_texts(value: Any, path: KeyPath, change: Callable[[str, KeyPath], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_texts(item, (*path, key), change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, (*path, number), change) for number, item in enumerate(value)]
    return change(value, path) if isinstance(value, str) else value


def _absolute(path: str, key: KeyPath, folder: str) -> str:
    is_name = key == ("model", "checkpoint") and (path in ("latest", "best") or path.isdecimal())
    if not path or is_name or is_url(path):
        return path
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))


def _put(settings: dict[str, Any], path: KeyPath, value: Any) -> None:
    for depth, key in enumerate(path[:-1], 1):
        inner = settings.setdefault(key, {})
        if not isinstance(inner, dict):
            whole = dotted(path[:depth])
            raise JobError(
                f"--set {dotted(path)}: {whole} is {describe(inner)}, not a mapping; set it whole: --set '{whole}=...'"
            )
        settings = inner
    settings[path[-1]] = value


def _without_positions(path: KeyPath) -> KeyPath:
    return tuple(key for key in path if not isinstance(key, int))


def _without_echoes(mistakes: list[Mistake]) -> list[Mistake]:
    """Leaves out "is missing" for a key that is there, mistyped: that was told already."""
    suggested = {
        (*path[:-1], match[1])
        for path, text in mistakes
        if (match := re.search(r"unknown key; did you mean '(\w+)'", text))
    }
    return [(path, text) for path, text in mistakes if path not in suggested or not text.startswith("is missing")]


def _missing_assets(job: Job) -> Iterator[Mistake]:
    for name, path in job.model.assets.items():
        if not is_url(path) and not Path(path).exists():
            yield ("model", "assets", name), f"no such file or folder: {path}{close_name(path)}"


def _missing_paths(folders: Iterable[tuple[KeyPath, str | None]], code: Sequence[str]) -> Iterator[Mistake]:
    """Local paths that have to exist and do not. What lies behind a URL is looked at when it is opened."""
    for key, path in folders:
        if path and not is_url(path) and not Path(path).is_dir():
            what = "is a file, a folder is wanted" if Path(path).exists() else "no such folder"
            yield key, f"{what}: {path}{close_name(path)}"
    for number, path in enumerate(code):
        if is_url(path):
            yield ("code", number), f"{path} is no local path; copy it beside the job file"
        elif not Path(path).exists():
            yield ("code", number), f"no such file or folder: {path}{close_name(path)}"
