"""Keys for code as it is: `env` and `setup`, and of `model` `args`, `argv`, `params_as` and `assets`.

`{assets.NAME}` stands, in the texts of `FILLED`, for the path where a machine has the file. It is filled on each machine.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from pipeline.job.messages import KeyPath, MistakesError, did_you_mean
from pipeline.job.values import Text

if TYPE_CHECKING:
    from pipeline.job import Job

FILLED: tuple[KeyPath, ...] = (("env",), ("model", "params"), ("model", "args"), ("model", "argv"))
"""Where `{assets.NAME}` is filled."""
PARAMS_METHODS = ("get", "values")
"""What params have beside their attributes; see `pipeline.params`."""

_PLACEHOLDER = re.compile(r"(\{)?\{assets\.([^{}]+)\}(?(1)\})")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"(.*_)?(secret|password|passwd|token|credentials?|(api|access|private|secret|account)_?key(_id)?)", re.IGNORECASE
)
_READ_AT_START = re.compile(r"(PYTHON|LD_|DYLD_).*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_GIVEN = ("model_dir", "params", "config")
"""What a builder gets without `model.args`."""


def _variables(env: dict[str, str]) -> dict[str, str]:
    found: list[tuple[KeyPath, str]] = []
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            found.append(((name,), "is no name of a variable; it has letters, digits and '_'"))
        elif _SECRET.fullmatch(name):
            found.append(
                ((name,), "looks like a secret, and a job travels; set it where launcher and workers are started")
            )
        elif _READ_AT_START.fullmatch(name):
            found.append(((name,), "is read where a process starts; set it where launcher and workers are started"))
        elif "\0" in value:
            found.append(((name,), "holds a NUL character, which no variable can"))
    if found:
        raise MistakesError(found)
    return env


def _asset_names(assets: dict[str, str]) -> dict[str, str]:
    found: list[tuple[KeyPath, str]] = []
    for name in assets:
        if name.startswith("/"):
            if posixpath.normpath(name) != name or name == "/":
                found.append(((name,), f"is no plain path; write {posixpath.normpath(name)}"))
        elif not _NAME.fullmatch(name):
            found.append(((name,), "expected a name of letters, digits, '_', '-' and '.', or an absolute path"))
    if found:
        raise MistakesError(found)
    return assets


Variables = Annotated[dict[str, str], AfterValidator(_variables)]
Assets = Annotated[dict[str, Text], AfterValidator(_asset_names)]


def variable_digests(env: Mapping[str, str]) -> dict[str, str]:
    """Name -> digest of the value: what is written of variables, so that a change is seen and no value is."""
    return {name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()}" for name, value in env.items()}


def with_assets(value: Any, paths: Mapping[str, str]) -> Any:
    """Plain values with the paths of assets in their texts; `{{assets.NAME}}` stands for `{assets.NAME}` itself."""
    return _map_texts(
        value, lambda text: _PLACEHOLDER.sub(lambda match: match[0][1:-1] if match[1] else paths[match[2]], text)
    )


def code_mistakes(job: Job) -> Iterator[tuple[KeyPath, str]]:
    """Combinations of these keys that cannot work."""
    model = job.model
    if model.args and model.model_fn:
        yield ("model", "args"), "are of a builder (model.estimator); a model_fn gets its own by model.params"
    for name in model.args:
        if name in _GIVEN:
            yield ("model", "args", name), "is given anyway; leave it out"
    if model.params_as == "attributes":
        for name in model.params:
            if not name.isidentifier():
                yield ("model", "params", name), "cannot be an attribute, as model.params_as wants; rename it"
            elif name in PARAMS_METHODS:
                yield (
                    ("model", "params", name),
                    "is a method of params with attributes; rename it, or leave out params_as",
                )
    for place in FILLED:
        value = job.env if place == ("env",) else getattr(model, place[1])
        for name in _asked(value):
            if name not in model.assets:
                yield place, f"{{assets.{name}}} is no asset{did_you_mean(name, model.assets)}; name it in model.assets"
    for name in model.assets:
        for folder in (model.model_dir, job.transform.path if job.transform else None):
            if name.startswith("/") and folder and f"{name}/".startswith(f"{folder.rstrip('/')}/"):
                yield ("model", "assets", name), f"lies in {folder}, where nothing is written to"


def _asked(value: Any) -> list[str]:
    found: dict[str, None] = {}

    def look(text: str) -> str:
        found.update((match[2], None) for match in _PLACEHOLDER.finditer(text) if not match[1])
        return text

    _map_texts(value, look)
    return list(found)


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value
