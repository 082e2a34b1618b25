"""Where the files of an output lie below it: all in one folder, or each in that of its shards (`output.layout`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from pipeline import files
from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.patterns import has_glob
from pipeline.plan import check_output_outside_input
from pipeline.rows import Shard

_NAMES_OF_BUCKET = 3
"""Of a path in a store: its scheme, nothing, and the bucket."""


def folders_of(shards: Sequence[Shard], job: Job) -> dict[str, str]:
    """Path of a shard -> the folder of its file, below the output; "" is the output itself.

    With `layout: mirror` it is the folder of the shard, below the last one that all patterns share before their first
    wildcard.

    Raises:
      JobError: the patterns share no folder, or readers would not find the file, or a next run would take it for a shard.
    """
    if job.output.layout == "flat":
        return dict.fromkeys((shard.path for shard in shards), "")
    root = len(_root(job.input.pattern))
    folders = {shard.path: "/".join(_names(shard.path)[root:-1]) for shard in shards}
    for folder, path in {folder: path for path, folder in folders.items()}.items():
        hidden = next((name for name in folder.split("/") if name.startswith(("_", "."))), None)
        if hidden is not None:
            raise JobError(
                f"output.layout: mirror: {path} lies in {hidden!r}, and readers leave folders out whose names begin with "
                "_ or .; narrow input.pattern, or write layout: flat"
            )
        check_output_outside_input(
            job.input.pattern, files.join(job.output.path, folder) if folder else job.output.path
        )
    return folders


def _root(patterns: Sequence[str]) -> list[str]:
    """Names of the last folder that all patterns share."""
    fixed = []
    for pattern in patterns:
        names = _names(pattern)
        fixed.append(names[: next((place for place, name in enumerate(names[:-1]) if has_glob(name)), len(names) - 1)])
    root = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*fixed, strict=False))]
    if len(root) < (1 if files.is_local(patterns[0]) else _NAMES_OF_BUCKET):
        raise JobError(
            f"output.layout: mirror: {', '.join(patterns)} have no folder in common, below which those of the shards could "
            "be mirrored; score them in several runs, or write layout: flat"
        )
    return root


def _names(path: str) -> list[str]:
    """The names that a path is made of; a local one as shards have it, from the root."""
    if not files.is_local(path):
        return path.split("/")
    absolute = path if path.startswith("/") else f"{Path.cwd()}/{path}"
    return ["", *(name for name in absolute.split("/") if name not in ("", "."))]
