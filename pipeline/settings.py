"""What scores rest on beside the shard: one digest a component, and the key that all of them make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.plan import settings_digest

if TYPE_CHECKING:
    from pipeline.scoring import ScoringSpec

_WHICH_MODEL = ("saved_model", "model_dir", "checkpoint", "record", "require_record", "staging", "assets")
"""Keys of `model` that no score depends on once the checkpoint is resolved."""
_WHICH_SHARDS = (
    "pattern", "ignore", "split_bytes", "ready", "min_shards", "require_complete", "wait", "only_new", "history",
)  # fmt: skip
"""Keys of `input` that choose what is read, and when, and cut it into parts: each part has a digest of its own shards."""
_VERSIONS = ("tensorflow", "tensorflow-estimator", "estimator-score")
"""Packages of which another version may give other scores."""


def settings_components(
    spec: ScoringSpec,
    fingerprint: str | None,
    assets: Iterable[str],
    code: Mapping[str, str],
    versions: Mapping[str, str],
    named: Mapping[str, Mapping[str, str]],
) -> dict[str, str]:
    """Name -> digest of each component, in an order fit for people.

    No component tells where a file of the model lies: a model_dir or a transform may move, and be staged.

    Args:
      spec: what workers get.
      fingerprint: of the transform, None without one.
      assets: digests of the files that the graph reads, in the order of the graph.
      code: path -> digest of every source file that counts.
      versions: package -> version.
      named: asset of `model.assets` -> path of each of its files -> digest.
    """
    settings = spec.job.settings()
    components: dict[str, Any] = {
        "checkpoint": spec.checkpoint.digest,
        "transform": fingerprint,
        "code": dict(code),
        "assets": list(assets),
        "versions": {name: versions.get(name) for name in _VERSIONS},
        "columns": repr(spec.columns),
        "model": {key: value for key, value in settings["model"].items() if key not in _WHICH_MODEL},
        "input": {key: value for key, value in settings["input"].items() if key not in _WHICH_SHARDS},
        "output": {key: settings["output"].get(key) for key in ("passthrough", "predictions", "types", "row_ids")},
        "batch": settings["batch"],
        "errors": {key: settings["errors"].get(key) for key in ("non_finite", "keep_record")},
    }
    # Those below are left out where a job has none of it: outputs of older versions do not know of them.
    if environment := {key: settings[key] for key in ("env", "setup") if key in settings}:
        components["environment"] = environment
    if named:
        where = {name: path.rstrip("/") for name, path in spec.job.model.assets.items()}
        components["files"] = {
            name: {path[len(where[name]) :]: digest for path, digest in found.items()} for name, found in named.items()
        }
    return {name: settings_digest({name: value}) for name, value in components.items()}
