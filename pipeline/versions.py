"""Which versions scores rest on, and whether those of a worker are the launcher's."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

from pipeline.errors import JobError

VERSIONED = ("tensorflow", "tensorflow-estimator", "apache-beam", "pyarrow", "numpy", "estimator-score")

_COMPARED = {
    "python": "Python",
    "apache-beam": "Apache Beam",
    "tensorflow": "TensorFlow",
    "estimator-score": "estimator-score",
}
"""What has to be the same on both sides: what travels between them is pickled, and scores are to be the launcher's."""


def installed_versions() -> dict[str, str]:
    """Versions of what scores rest on: Python and the packages, those that are installed."""
    versions = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # run from a checkout, or a TensorFlow under another name
    return versions


def refuse_other_versions(launcher: Mapping[str, str], worker: Mapping[str, str]) -> None:
    """Raise a JobError that names every version which is not the same. Of Python, major and minor version count."""
    differing = []
    for name, in_words in _COMPARED.items():
        here, there = launcher.get(name), worker.get(name)
        if name == "python":
            here, there = _minor(here), _minor(there)
        if here is not None and there is not None and here != there:
            differing.append(f"{in_words} {here} here and {there} there")
    if differing:
        raise JobError(
            f"the workers have other versions than this launcher: {', '.join(differing)}; install the same on both "
            "(pip install -c with a file of constraints/)"
        )


def _minor(version: str | None) -> str | None:
    return None if version is None else ".".join(version.split(".")[:2])
