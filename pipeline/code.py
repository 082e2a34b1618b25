"""The user's code: put on `sys.path`, found by reference, called, and its errors explained."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.code_errors import explain_user_error
from pipeline.errors import JobError, ScoringError
from pipeline.job.messages import did_you_mean
from pipeline.keras_builder import first_import

__all__ = ["add_user_code", "call_with_known_arguments", "explain_user_error", "resolve", "source_files"]

_OUR_PACKAGES = ("pipeline", "transforms")
_NEVER_IMPORTED = ("setup", "conftest", "__init__", "__main__")


def add_user_code(code: Sequence[str]) -> None:
    """Make the modules of `code:` importable; calling it again changes nothing.

    They come last on `sys.path`, so that what lies beside a package folder hides no installed package.

    Args:
      code: folders with `__init__.py` (a package), other folders (on the path themselves), `.py` files, wheels.

    Raises:
      JobError: an entry is none of these, or has a module of a name that is taken.
    """
    for number, entry in enumerate(code):
        place = f"code[{number}]"
        folder, modules = _modules(Path(os.path.abspath(entry)), place)
        for name, path in modules.items():
            _refuse_taken_name(name, path, place)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    importlib.invalidate_caches()


def resolve(reference: str, key: str, needs_tensorflow: bool = False) -> Callable[..., Any]:
    """Import what a `module:function` reference names.

    Args:
      reference: module, a colon, and a name in it, dotted for an attribute of a class.
      key: the job file's key, for errors.
      needs_tensorflow: `tf.estimator` exists before the module is imported.

    Raises:
      JobError: no such module or attribute, not callable, or the module itself failed.
    """
    if needs_tensorflow:
        try:
            importlib.import_module("pipeline.tf_estimator")
        except ImportError as error:
            raise ScoringError(str(error)) from error
    module_name, _, attribute = reference.partition(":")
    try:
        with first_import(module_name):
            found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise JobError(f"{key}: cannot import {module_name!r}: {_no_module(module_name, error.name)}") from error
        raise JobError(explain_user_error(error, key)) from error
    except (Exception, SystemExit) as error:
        raise JobError(explain_user_error(error, key)) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            known = [public for public in dir(found) if not public.startswith("_") and callable(getattr(found, public))]
            where = getattr(found, "__file__", None) or found.__name__
            raise JobError(f"{key}: {where} has no {name!r}{_close(name, known)}")
        found = getattr(found, name)
    if not callable(found):
        raise JobError(f"{key}: {reference} is no function but a {type(found).__name__}; name a function or a class")
    return found


def call_with_known_arguments(function: Callable[..., Any], available: Mapping[str, Any]) -> Any:
    """Call `function` with those of the available arguments that its signature names, all of them for `**kwargs`.

    Raises:
      JobError: it requires an argument that is not available.
    """
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments = {**available}
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif parameter.kind is parameter.POSITIONAL_ONLY or parameter.name not in available:
            if parameter.default is parameter.empty:
                name = getattr(function, "__qualname__", type(function).__name__)
                raise JobError(
                    f"{getattr(function, '__module__', '')}:{name} requires the argument {parameter.name!r}; "
                    f"it can have {', '.join(available)} by name; write others under model.args, or give them a default"
                )
        else:
            arguments[parameter.name] = available[parameter.name]
    return function(**arguments)


def source_files(code: Sequence[str], callables: Iterable[Callable[..., Any]]) -> list[str]:
    """The files that scores rest on: all files of `code:`, and those that define the callables; sorted, each once.

    Hidden files and `__pycache__` are left out: a version control's or an editor's files change no score.
    """
    files = {path for entry in code for path in _files(Path(os.path.abspath(entry)))}
    for function in callables:
        while isinstance(function, functools.partial):
            function = function.func
        function = inspect.unwrap(function)
        module = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
        file = Path(getattr(module, "__file__", None) or "")
        if file.is_file():
            files.add(file.absolute())
    return sorted(str(file) for file in files)


def _files(entry: Path) -> Iterator[Path]:
    if entry.is_file():
        yield entry
        return
    for path in entry.rglob("*"):
        inner = path.relative_to(entry).parts
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in inner):
            yield path


def _modules(entry: Path, place: str) -> tuple[Path, dict[str, Path]]:
    """What goes on `sys.path` for an entry, and the top-level modules that count as the user's there."""
    if (entry / "__init__.py").is_file():
        return entry.parent, {_identifier(entry.name, entry, place): entry / "__init__.py"}
    if entry.is_dir():
        return entry, dict(_modules_in(entry))
    if entry.suffix == ".py" and entry.is_file():
        return entry.parent, {_identifier(entry.stem, entry, place): entry}
    if entry.suffix == ".whl" and entry.is_file():
        return entry, _modules_of_wheel(entry, place)
    if not entry.exists():
        raise JobError(f"{place}: no such file or folder: {entry}")
    raise JobError(f"{place}: {entry} is no folder, .py file or wheel (.whl)")


def _modules_in(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.stem not in _NEVER_IMPORTED:
            yield path.stem, path
        elif path.is_dir() and path.name.isidentifier() and any(path.glob("*.py")):
            yield path.name, path / "__init__.py"


def _modules_of_wheel(wheel: Path, place: str) -> dict[str, Path]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise JobError(f"{place}: {wheel} is no wheel: {error}") from error
    if any(name.endswith((".so", ".pyd", ".dylib")) for name in names):
        raise JobError(f"{place}: {wheel} has compiled parts, which cannot be imported from a wheel; pip install it")
    packages = {name.split("/")[0]: wheel / name for name in names if re.fullmatch(r"\w+/__init__\.py", name)}
    return packages | {name[:-3]: wheel / name for name in names if re.fullmatch(r"\w+\.py", name)}


def _identifier(name: str, entry: Path, place: str) -> str:
    if not name.isidentifier():
        raise JobError(f"{place}: {entry} cannot be imported: {name!r} is no Python name; rename it")
    return name


def _refuse_taken_name(name: str, path: Path, place: str) -> None:
    if name in sys.stdlib_module_names:
        raise JobError(f"{place}: {path} has the name of the standard library's module {name!r}; rename yours")
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module made by hand, without a spec
        return
    if spec is None or spec.origin is None or Path(spec.origin).resolve() == path.resolve():
        return
    raise JobError(
        f"{place}: {path} and {spec.origin} are both the module {name!r}; rename yours, "
        "or name under code: only the package that the job needs"
    )


def _no_module(module: str, missing: str) -> str:
    """Why `module` was not found: `missing` is the part of its dotted name that is not there."""
    parent, _, name = missing.rpartition(".")
    if parent:
        folder = importlib.import_module(parent)
        paths = [Path(path) for path in getattr(folder, "__path__", [])]
        known = [path.stem for folder in paths for path in folder.glob("*") if path.suffix == ".py" or path.is_dir()]
        return f"{parent} has no module {name!r}{_close(name, known)}"
    own = [Path(path or ".") for path in sys.path if not _is_installed(path)]
    for path in own:
        if path.name == name and "." in module:
            short = module.partition(".")[2]
            return f"the folder {path} has no __init__.py, so its modules go by their own names; write {short}:..."
        for inner in path.glob(f"*/{name}.py"):
            if (inner.parent / "__init__.py").is_file() and inner.parent.name not in _OUR_PACKAGES:
                return f"it is a module of a package; write {inner.parent.name}.{module}:..."
    return f"no module of that name on {', '.join(str(path) for path in own)}; put its folder under code:"


def _is_installed(path: str) -> bool:
    return path.startswith((sys.prefix, sys.base_prefix)) or path.endswith((".zip", "site-packages", "dist-packages"))


def _close(name: str, known: Iterable[str]) -> str:
    text = did_you_mean(name, known)
    return text if "did you mean" in text else ""
