"""This project as a wheel, out of the very files that run here: for workers of an image that lacks it."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pipeline
import transforms
from pipeline.versions import installed_versions

NAME = "estimator-score"
_PINNED = ("tensorflow", "pyarrow", "numpy")
"""What a worker is to install as the launcher has it; the rest of what the project needs goes by its own bounds."""


def write_wheel(folder: str) -> str:
    """Write the wheel into a folder, the same bytes for the same files; gives its path."""
    version = installed_versions().get(NAME, "0")
    stem = f"{NAME.replace('-', '_')}-{version}"
    members = dict(_sources())
    members |= {
        f"{stem}.dist-info/METADATA": _metadata(version),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: estimator-score\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in members.items()]
    members[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    path = Path(folder, f"{stem}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return str(path)


def _sources() -> Iterator[tuple[str, bytes]]:
    for package in (pipeline, transforms):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix == ".py" or path.name == "py.typed":
                yield path.relative_to(folder.parent).as_posix(), path.read_bytes()


def _metadata(version: str) -> bytes:
    here = installed_versions()
    needed = [f"{name}=={here[name]}" for name in _PINNED if name in here]
    with suppress(metadata.PackageNotFoundError):  # run from a checkout
        needed += [requirement for requirement in metadata.requires(NAME) or () if "extra ==" not in requirement]
    lines = ["Metadata-Version: 2.1", f"Name: {NAME}", f"Version: {version}"]
    return "\n".join([*lines, *(f"Requires-Dist: {requirement}" for requirement in needed), ""]).encode()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
