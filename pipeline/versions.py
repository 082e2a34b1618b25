"""Which versions scores rest on, and whether those of a worker are the launcher's."""

from __future__ import annotations

import platform
import re
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

_OF_BEAM = r"\S*_python(\d+\.\d+)_sdk:([\w.]+?)\.?"
_REFUSED_BY_BEAM = re.compile(rf"Submission environment: {_OF_BEAM}\s+Runtime environment: {_OF_BEAM}(?:\s|$)")


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


def refuse_what_beam_refused(trace: str) -> None:
    """Raise a JobError, as `refuse_other_versions` does, where a worker has failed for its version of Python or of Beam.

    Beam's worker looks at these two itself, before any code of this project runs there, and cannot say it but in a trace.
    """
    found = _REFUSED_BY_BEAM.search(trace)
    if found is not None:
        python, beam, other_python, other_beam = found.groups()
        refuse_other_versions(
            {"python": python, "apache-beam": beam}, {"python": other_python, "apache-beam": other_beam}
        )


def _minor(version: str | None) -> str | None:
    return None if version is None else ".".join(version.split(".")[:2])
