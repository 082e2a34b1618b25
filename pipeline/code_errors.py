"""Explains errors that the user's code raised: where in that code, what, and what to change."""

from __future__ import annotations

import importlib
import linecache
import re
import sys
import sysconfig
import traceback
from pathlib import Path

_OURS = str(Path(__file__).parent)
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_MODULE = r"(?P<module>(?:tensorflow|tensorflow_estimator|tf_keras|keras)(?:\.\w+)*)"
_NOT_FOUND = (
    re.compile(rf"module '{_MODULE}' has no attribute '(?P<name>\w+)'"),
    re.compile(rf"cannot import name '(?P<name>\w+)' from '{_MODULE}'"),
    re.compile(rf"No module named '{_MODULE}\.(?P<name>\w+)'"),
)


def explain_user_error(error: BaseException, place: str) -> str:
    """What went wrong in the user's code, with file and line, and the remedy where one is known.

    Args:
      error: what the code raised; its message is repeated.
      place: the job file's key, or what was being done.
    """
    file, line = _where(error)
    at = f"{file}:{line}: " if file else ""
    remedy = _remedy(error, linecache.getline(file, line).strip() if file else "")
    message = str(error.msg) if isinstance(error, SyntaxError) else str(error)
    return f"{place}: {at}{type(error).__name__}: {message}{remedy}"


def _where(error: BaseException) -> tuple[str, int]:
    """File and line of the innermost call that is the user's own."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 1
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", f"{_OURS}/")) and not _is_library(frame.filename)
    ]
    return (frames[-1].filename, frames[-1].lineno or 1) if frames else ("", 0)


def _is_library(file: str) -> bool:
    """Also what AutoGraph made of a library's code in a file of its own."""
    return file.startswith(_INSTALLED) or any(
        part in file for part in ("/site-packages/", "/dist-packages/", "/__autograph_generated_file")
    )


def _remedy(error: BaseException, source: str) -> str:
    if isinstance(error, SystemExit):
        return "; it ends the program when it is imported: put what runs under `if __name__ == '__main__':`"
    if type(error).__name__ == "UnparsedFlagAccessError":
        return (
            "; absl parses flags only where a program starts, and here the module is imported: "
            "write model.argv in the job file, such as [--units=8], or [] to have the defaults"
        )
    if type(error).__name__ == "UnrecognizedFlagError":
        return "; it parsed the flags of this command as its own: write its flags in model.argv, or [] to have the defaults"
    if re.search(r"No such file or directory|file\b.* does not exist", str(error)):
        return (
            "; name a file that the code opens under model.assets (NAME: PATH), and give the code its path by {assets.NAME} in "
            "model.params"
        )
    for pattern in _NOT_FOUND:
        match = pattern.search(str(error))
        if match:
            return _tensorflow_remedy(match["module"], match["name"], source)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"; pip install what has {error.name!r} where the job runs, or put its folder under code:"
    return ""


def _tensorflow_remedy(module: str, name: str, source: str) -> str:
    if "contrib" in (name, *module.split(".")):
        used = re.search(r"contrib(\.\w+)+", source)
        return (
            f"; tf.{used[0] if used else 'contrib'} was removed in TensorFlow 2: write its equivalent of "
            "tensorflow.compat.v1 (xavier_initializer is glorot_uniform_initializer, fully_connected is layers.dense, "
            "with other variable names), or export a SavedModel with the TensorFlow 1 that trained the model and score that: "
            "model.saved_model"
        )
    if name.startswith("BoostedTrees"):
        return (
            "; boosted trees were removed in TensorFlow 2.9, and no later one has their operations: score the model with "
            "TensorFlow 2.8 or older, or train it anew as a TensorFlow Decision Forest"
        )
    # TensorFlow's own name of the module, such as tensorflow._api.v2.train, or tf_keras.api._v2.keras.losses for tf.losses
    inner = re.sub(r"^(tensorflow|tensorflow_estimator|tf_keras|keras)\b(.*\b_?v2\b)?\.?", "", module)
    if "keras." not in source:
        inner = inner.removeprefix("keras.")
    path = [*filter(None, inner.split(".")), name]
    if path[0] != "compat" and _is_in_tensorflow1(path):
        return f"; tf.{'.'.join(path)} is a name of TensorFlow 1: write `import tensorflow.compat.v1 as tf`"
    return ""


def _is_in_tensorflow1(path: list[str]) -> bool:
    found = importlib.import_module("tensorflow.compat.v1") if "tensorflow" in sys.modules else None
    for part in path:
        found = getattr(found, part, None)
    return found is not None
