"""The transform that a model was trained with, as its record tells of it, and how that of a job differs.

`transform.json` holds where it lay, its fingerprint, and of each of its files a few digests: enough to say that a
vocabulary has a word more, or has its words in another order, and not which words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline import files
from pipeline.errors import ModelError
from pipeline.record.file import FORMAT_VERSION, TRANSFORM, check_version, damaged
from transforms.fingerprint import Content


class RecordedTransform(NamedTuple):
    """The transform of a model_dir.

    path: None for a function. fingerprint: None where it has none. files: name -> content; none in an older record.
    """

    path: str | None
    fingerprint: str | None
    files: Mapping[str, Content]


def recorded_transform(transform: Any) -> RecordedTransform | None:
    """What is recorded of a transform, None for none."""
    if transform is None:
        return None
    return RecordedTransform(getattr(transform, "path", None), transform.fingerprint, transform.contents())


def compare_transforms(recorded: RecordedTransform | None, transform: Any, folder: str) -> None:
    """Refuse another transform than that of training.

    Args:
      recorded: what training had, None for none.
      transform: what the job has, None for none. Without a fingerprint (a function whose sources are not known) it is
        left to the replay.
      folder: of the record.

    Raises:
      ModelError: names both, and the files that differ.
    """
    if recorded is not None and transform is not None:
        if transform.fingerprint == recorded.fingerprint or None in (transform.fingerprint, recorded.fingerprint):
            return
    elif recorded is None and transform is None:
        return
    given = recorded_transform(transform)
    raise ModelError(
        f"the model was trained with {_described(recorded)}, and the job has {_described(given)}, so its scores would "
        f"not be those of training{_differences(recorded, given)}. Name the transform of training under transform (a copy "
        f"of it will do); if the model was trained anew with that of the job, delete {folder} and record it again"
    )


def write_transform(folder: str, transform: RecordedTransform | None) -> None:
    """Write what a model_dir was trained with, None for no transform; what was written before has to say the same.

    Raises:
      ModelError: the model_dir was recorded with another transform.
    """
    path = files.join(folder, TRANSFORM)
    known, before = read_transform(folder)
    if known:
        if (before and before.fingerprint) == (transform and transform.fingerprint) and bool(before) == bool(transform):
            return
        raise ModelError(
            f"{path}: this model was recorded with {_described(before)}, and is now to be recorded with "
            f"{_described(transform)}{_differences(before, transform)}. A model has one transform: use that of training, or "
            f"delete {folder} if the model was trained anew"
        )
    plain: dict[str, Any] = {"format_version": FORMAT_VERSION, "transform": None}
    if transform:
        contents = {name: content._asdict() for name, content in transform.files.items()}
        plain["transform"] = {**transform._asdict(), "files": contents}
    files.write_bytes(path, json.dumps(plain, indent=1).encode())


def read_transform(folder: str) -> tuple[bool, RecordedTransform | None]:
    """Whether a record folder tells of a transform, and which: None where training had none.

    Raises:
      ModelError: the file is damaged, or was written by a newer version of this project.
    """
    path = files.join(folder, TRANSFORM)
    if not files.exists(path):
        return False, None
    try:
        plain = json.loads(files.read_bytes(path))
        check_version(path, plain)
        transform = plain["transform"]
        if not transform:
            return True, None
        contents = {name: Content(**content) for name, content in transform.get("files", {}).items()}
        return True, RecordedTransform(transform["path"], transform["fingerprint"], contents)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, error) from error


def _described(transform: RecordedTransform | None) -> str:
    if transform is None:
        return "no transform"
    what = transform.path or "a Python function"
    return f"the transform {what} (fingerprint {transform.fingerprint or 'unknown'})"


def _differences(then: RecordedTransform | None, now: RecordedTransform | None) -> str:
    """How the files differ, in words, or ""."""
    if then is None or now is None or not then.files:
        return ""
    found = [f"{name} is missing" for name in then.files if name not in now.files]
    found += [f"{name} is new" for name in now.files if name not in then.files]
    for name, before in then.files.items():
        after = now.files.get(name, before)
        if after != before:
            found.append(f"{name} {_change(name, before, after)}")
    return f": {'; '.join(found)}"


def _change(name: str, before: Content, after: Content) -> str:
    if name == "saved_model.pb":
        return "has another graph, or another mean, range or other constant in it"
    if name.startswith("variables/"):
        return "has other values, such as another mean"
    if before.lines != after.lines:
        more = after.lines - before.lines
        return f"has {after.lines:,} lines, {abs(more):,} {'more' if more > 0 else 'less'} than in training"
    if before.unordered == after.unordered:
        return "has the lines of training in another order"
    return "has other lines"
