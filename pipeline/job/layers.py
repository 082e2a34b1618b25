"""Job files that are merged into one: a file, those that it names under `base`, and `--set` above all of them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import JobError
from pipeline.job import yaml as job_yaml
from pipeline.job.messages import KeyPath, describe, dotted
from pipeline.job.placeholders import Mistake, Placeholders

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Layer:
    """What one job file says, without `base`. lines: the line that each key or list item stands on."""

    file: str
    settings: Mapping[str, Any]
    lines: Mapping[KeyPath, int]


def read_layers(file: str, placeholders: Placeholders, above: tuple[str, ...] = ()) -> Iterator[Layer]:
    """A job file and those that it is merged over, the lowest first.

    Args:
      file: path of the job file.
      placeholders: fill the names under `base`.
      above: the files that led here.

    Raises:
      JobError: one that cannot be read, is no mapping, or is a base of itself.
    """
    document = job_yaml.parse(_read(file), file)
    if not isinstance(document.value, dict):
        got = "is empty" if document.value is None else f"holds {describe(document.value)}"
        raise JobError(f"{file}: {got}; a job file is a mapping that starts with 'name: ...'")
    above = (*above, file)
    for base in _bases(file, document, placeholders):
        if any(os.path.realpath(base) == os.path.realpath(other) for other in above):
            raise JobError(f"{_place(file, document)}: goes in a circle: {' -> '.join([*above, base])}; leave one out")
        if not Path(base).is_file():
            what = "is a folder; name the job file in it" if Path(base).is_dir() else f"no such file{close_name(base)}"
            raise JobError(f"{_place(file, document)}: {base}: {what}")
        yield from read_layers(base, placeholders, above)
    yield Layer(file, {key: value for key, value in document.value.items() if key != "base"}, document.lines)


def merged(layers: Iterable[Layer]) -> dict[str, Any]:
    """The settings of all layers as one: mappings key by key, anything else is that of the highest layer."""
    settings: dict[str, Any] = {}
    for layer in layers:
        settings = _over(settings, layer.settings)
    return settings


class Places:
    """Where each key was written: a file and its line, or a `--set`."""

    def __init__(self, layers: Sequence[Layer], sets: Sequence[KeyPath]):
        self.layers = layers
        self.sets = sets

    def folder(self, path: KeyPath) -> str:
        """Where relative paths of a key start: the folder of its file, for `--set` the current one."""
        if any(path[: len(key)] == key for key in self.sets):
            return os.getcwd()
        return str(Path(self._layer(path)[0].file).absolute().parent)

    def error(self, mistakes: Iterable[Mistake]) -> JobError:
        """All mistakes as one error, a line each, in the order of the files."""
        ordered = sorted(mistakes, key=lambda mistake: self._order(mistake[0]))
        return JobError("\n".join(dict.fromkeys(self.message(path, text) for path, text in ordered)))

    def message(self, path: KeyPath, text: str) -> str:
        """A mistake with the place of its key."""
        layer, line = self._layer(path)
        for key in reversed(self.sets):
            if path[: len(key)] == key or (key[: len(path)] == path and path not in layer.lines):
                inner = "" if path == key else f"{dotted(path)}: "
                return f"--set {dotted(key)}: {inner}{text}"
        return f"{layer.file}{f':{line}' if line else ''}: {dotted(path)}: {text}"

    def _layer(self, path: KeyPath) -> tuple[Layer, int | None]:
        """The highest layer that has the key, or the nearest one around it, and the line there."""
        while path:
            for layer in reversed(self.layers):
                if path in layer.lines:
                    return layer, layer.lines[path]
            path = path[:-1]
        return self.layers[-1], None

    def _order(self, path: KeyPath) -> tuple[int, int]:
        layer, line = self._layer(path)
        return self.layers.index(layer), line or 0


def close_name(path: str) -> str:
    """`; did you mean ...?` with a name that is there, or nothing."""
    file = Path(path).absolute()
    try:
        close = difflib.get_close_matches(file.name, os.listdir(file.parent), 1)
    except OSError:
        return f"; there is no folder {file.parent} either"
    return f"; did you mean {close[0]!r}?" if close else ""


def is_url(path: str) -> bool:
    """Whether a path has a scheme."""
    return _URL.match(path) is not None


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(lower)
    for key, value in upper.items():
        below = result.get(key)
        result[key] = _over(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return result


def _bases(file: str, document: job_yaml.Document, placeholders: Placeholders) -> Iterator[str]:
    """Paths of the files that one names under `base`, as they are told of."""
    named = document.value.get("base", [])
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise JobError(f"{_place(file, document)}: expected a job file or a list of them, got {describe(named)}")
    for name in names:
        mistakes: list[Mistake] = []
        name = placeholders.fill(name, ("base",), mistakes)
        if mistakes:
            raise JobError(f"{_place(file, document)}: {mistakes[0][1]}")
        if is_url(name):
            raise JobError(f"{_place(file, document)}: {name} is no local path; copy it beside the job file")
        yield os.path.normpath(os.path.join(os.path.dirname(file), os.path.expanduser(name)))


def _place(file: str, document: job_yaml.Document) -> str:
    return f"{file}:{document.lines[('base',)]}: base"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise JobError(f"{path}: no such file{close_name(path)}") from None
    except IsADirectoryError:
        raise JobError(f"{path}: is a folder; name the job file in it") from None
    except UnicodeDecodeError:
        raise JobError(f"{path}: is no text in UTF-8; a job file is YAML") from None
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror}") from error
