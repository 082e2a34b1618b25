"""Reads a job file: YAML, `--set`, placeholders, paths. What it says is checked by `pipeline.job`."""

from __future__ import annotations

import datetime
import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.job import yaml as job_yaml
from pipeline.job.messages import KeyPath, describe, dotted, explain

if TYPE_CHECKING:
    from pipeline.job.fit import FitJob

_PATHS: set[KeyPath] = {
    ("code",),
    ("input", "pattern"),
    ("transform", "path"),
    ("model", "model_dir"),
    ("model", "checkpoint"),
    ("model", "record"),
    ("model", "staging"),
    ("output", "path"),
    ("errors", "rejected_path"),
}
_PLACEHOLDER = re.compile(r"\{(\{[A-Za-z_]\w*\})\}|\{([A-Za-z_]\w*)\}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

Mistake = tuple[KeyPath, str]
AnyJob = TypeVar("AnyJob", bound=BaseModel)


def load_job(path: str, run_date: str | None = None, overrides: Sequence[str] = ()) -> Job:
    """Read and check a job file.

    Args:
      path: the job file; relative paths in it start at its folder.
      run_date: fills `{run_date}`, YYYY-MM-DD.
      overrides: `section.key=value` each, the value in YAML; relative paths in them start at the current folder.

    Raises:
      JobError: with a line for each mistake: its place, what was found, what to write.
    """
    job, places = _load(Job, path, run_date, overrides)
    folders: list[tuple[KeyPath, str | None]] = [(("model", "model_dir"), job.model.model_dir)]
    if job.transform:
        folders.append((("transform", "path"), job.transform.path))
    missing = list(_missing_paths(folders, job.code))
    if missing:
        raise places.error(missing)
    return job


def load_fit_job(path: str, run_date: str | None = None, overrides: Sequence[str] = ()) -> FitJob:
    """Read and check a job file of the command `fit`; arguments and errors are those of `load_job`."""
    from pipeline.job.fit import FitJob

    job, places = _load(FitJob, path, run_date, overrides)
    missing = list(_missing_paths([], job.code))
    if missing:
        raise places.error(missing)
    return job


def _load(model: type[AnyJob], path: str, run_date: str | None, overrides: Sequence[str]) -> tuple[AnyJob, _Places]:
    _check_run_date(run_date)
    document = job_yaml.parse(_read(path), path)
    if not isinstance(document.value, dict):
        got = "is empty" if document.value is None else f"holds {describe(document.value)}"
        raise JobError(f"{path}: {got}; a job file is a mapping that starts with 'name: ...'")
    sets = [_override(text) for text in overrides]
    places = _Places(path, document.lines, [key for key, _ in sets])
    settings = _filled_and_merged(document.value, sets, path, run_date, places)
    try:
        return model.model_validate(settings, context={"source": path}), places
    except ValidationError as error:
        mistakes = [mistake for details in error.errors() for mistake in explain(details, model)]
        raise places.error(_without_echoes(mistakes)) from error


class _Places:
    """Where each key was written: the file and its line, or a `--set`."""

    def __init__(self, file: str, lines: dict[KeyPath, int], sets: list[KeyPath]):
        self.file = file
        self.lines = lines
        self.sets = sets

    def error(self, mistakes: Iterable[Mistake]) -> JobError:
        """All mistakes as one error, a line each, in the order of the file."""
        ordered = sorted(mistakes, key=lambda mistake: self.line(mistake[0]) or 0)
        return JobError("\n".join(dict.fromkeys(self.message(path, text) for path, text in ordered)))

    def message(self, path: KeyPath, text: str) -> str:
        for key in reversed(self.sets):
            if path[: len(key)] == key or (key[: len(path)] == path and path not in self.lines):
                inner = "" if path == key else f"{dotted(path)}: "
                return f"--set {dotted(key)}: {inner}{text}"
        line = self.line(path)
        return f"{self.file}{f':{line}' if line else ''}: {dotted(path)}: {text}"

    def line(self, path: KeyPath) -> int | None:
        """The line of the key, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines[path] if path else None


def _read(path: str) -> str:
    file = Path(path)
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise JobError(f"{path}: no such file{_close_name(path)}") from None
    except IsADirectoryError:
        raise JobError(f"{path}: is a folder; name the job file in it") from None
    except UnicodeDecodeError:
        raise JobError(f"{path}: is no text in UTF-8; a job file is YAML") from None
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from error


def _check_run_date(run_date: str | None) -> None:
    if run_date is None:
        return
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", run_date):
            raise ValueError
        datetime.date.fromisoformat(run_date)
    except ValueError:
        raise JobError(f"--run_date: {run_date!r} is no date of the form YYYY-MM-DD") from None


def _override(text: str) -> tuple[KeyPath, Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise JobError(f"--set {text}: expected section.key=value, such as --set batch.rows=512")
    return path, job_yaml.parse(value, f"--set {key.strip()}", path).value


def _filled_and_merged(
    settings: dict[str, Any], sets: list[tuple[KeyPath, Any]], path: str, run_date: str | None, places: _Places
) -> dict[str, Any]:
    """The settings of file and `--set` as one, without placeholders and relative paths."""
    mistakes: list[Mistake] = []
    names = [settings.get("name"), *(value for key, value in sets if key == ("name",))]
    known = {"run_date": run_date}
    if isinstance(names[-1], str):
        known["name"] = _fill(names[-1], ("name",), known, [])

    def change(folder: str) -> Callable[[str, KeyPath], str]:
        def changed(text: str, key: KeyPath) -> str:
            filled = _fill(text, key, known, mistakes)
            return _absolute(filled, key, folder) if _without_positions(key) in _PATHS else filled

        return changed

    settings = _map_texts(settings, (), change(str(Path(path).absolute().parent)))
    for key, value in sets:
        _put(settings, key, _map_texts(value, key, change(str(Path.cwd()))))
    if mistakes:
        raise places.error(mistakes)
    return settings


def _map_texts(value: Any, path: KeyPath, change: Callable[[str, KeyPath], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_texts(item, (*path, key), change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, (*path, number), change) for number, item in enumerate(value)]
    return change(value, path) if isinstance(value, str) else value


def _fill(text: str, path: KeyPath, known: dict[str, str | None], mistakes: list[Mistake]) -> str:
    """Put values in place of `{run_date}` and `{name}`; `{{name}}` stands for `{name}` itself."""

    def value(match: re.Match[str]) -> str:
        escaped, name = match.groups()
        if escaped:
            return escaped
        if path == ("name",) and name == "name":
            mistakes.append((path, "{name} is this key's own value; leave it out"))
        elif name == "run_date" and known["run_date"] is None:
            mistakes.append((path, "{run_date} has no value; give it with --run_date YYYY-MM-DD"))
        elif name not in ("run_date", "name"):
            close = difflib.get_close_matches(name, ("run_date", "name"), 1)
            remedy = f"did you mean {{{close[0]}}}?" if close else f"for the braces themselves write {{{{{name}}}}}"
            mistakes.append((path, f"{{{name}}} is no placeholder; {remedy}"))
        return known.get(name) or match[0]  # without a name that is the mistake to tell

    return _PLACEHOLDER.sub(value, text)


def _absolute(path: str, key: KeyPath, folder: str) -> str:
    is_name = key == ("model", "checkpoint") and (path in ("latest", "best") or path.isdecimal())
    if not path or is_name or _URL.match(path):
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


def _missing_paths(folders: Iterable[tuple[KeyPath, str | None]], code: Sequence[str]) -> Iterator[Mistake]:
    """Local paths that have to exist and do not. What lies behind a URL is looked at when it is opened."""
    for key, path in folders:
        if path and not _URL.match(path) and not Path(path).is_dir():
            what = "is a file, a folder is wanted" if Path(path).exists() else "no such folder"
            yield key, f"{what}: {path}{_close_name(path)}"
    for number, path in enumerate(code):
        if _URL.match(path):
            yield ("code", number), f"{path} is no local path; copy it beside the job file"
        elif not Path(path).exists():
            yield ("code", number), f"no such file or folder: {path}{_close_name(path)}"


def _close_name(path: str) -> str:
    """`; did you mean ...?` with a name that is there, or nothing."""
    file = Path(path).absolute()
    try:
        close = difflib.get_close_matches(file.name, os.listdir(file.parent), 1)
    except OSError:
        return f"; there is no folder {file.parent} either"
    return f"; did you mean {close[0]!r}?" if close else ""
