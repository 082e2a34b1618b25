"""What an output folder holds, by its manifest; whether all of it is there, by its listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyarrow import ArrowException

from pipeline import files
from pipeline.errors import InputError
from pipeline.manifest import MANIFEST, read_manifest
from pipeline.plan import PLAN, read_plan, temporary
from pipeline.publish import SUCCESS
from pipeline.text import LISTED, counted, facts, table

Manifest = Mapping[str, Any]


def is_output(folder: str) -> bool:
    """Whether a run has published to a folder, or has begun to."""
    return any(
        files.exists(path)
        for path in (files.join(folder, MANIFEST), files.join(folder, SUCCESS), temporary(folder, PLAN))
    )


def inspect_output(folder: str) -> str:
    """State, counts, schema, model and files of an output folder.

    Raises:
      OutputError: there is a `_manifest.json` of another program.
      InputError: the manifest or the plan is damaged.
    """
    with _damage_told(files.join(folder, MANIFEST)):
        manifest = read_manifest(folder)
        lines = _unpublished(folder) if manifest is None else _published(folder, manifest)
    with _damage_told(temporary(folder, PLAN)):
        return "\n".join([*lines, *_in_progress(folder)])


@contextmanager
def _damage_told(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArrowException) as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}); score again with output.if_exists: overwrite"
        ) from error


def _published(folder: str, manifest: Manifest) -> list[str]:
    rows, model, transform = manifest["rows"], manifest["model"], manifest["transform"]
    own, rejected = manifest["files"], manifest.get("rejected_files", [])
    step = f", step {model['step']}" if model.get("step") is not None else ""
    difference = manifest["record"].get("max_difference")
    lines = facts(
        [
            ("output", folder),
            ("state", _state(folder, manifest)),
            ("run", manifest["run_id"]),
            ("name", manifest["name"]),
            ("run date", manifest["run_date"] or "none"),
            ("finished", manifest["finished"]),
            ("rows", f"{rows['read']:,} read, {rows['scored']:,} scored, {rows['rejected']:,} rejected"),
            ("files", f"{len(own):,}, {counted(sum(file['bytes'] for file in own), 'byte')}"),
            *([("rejected", f"{counted(len(rejected), 'file')}")] if rejected else []),
            ("checkpoint", f"{model.get('checkpoint')}{step}"),
            ("digest", f"{model.get('digest')}"),
            ("transform", transform["path"] if transform else "none"),
            *([("fingerprint", f"{transform['fingerprint']}")] if transform else []),
            (
                "record",
                f"{manifest['record'].get('state')}"
                + (f", max. difference {difference:g}" if difference is not None else ""),
            ),
        ]
    )
    broken = [shard for shard in manifest["shards"] if shard["state"] != "done"]
    features = manifest["features"].items()
    return [
        *lines,
        *table("files of the model", _model_files(model), ("path", "sha256"), LISTED),
        *table("schema", [(column["name"], column["type"]) for column in manifest["schema"]]),
        *table("files", [_file_row(file) for file in own + rejected], ("name", "rows", "bytes"), LISTED),
        *table(
            "features",
            [(name, f"{counts['present']:,}", f"{counts['missing']:,}") for name, counts in features],
            ("name", "present", "missing"),
        ),
        *table("broken shards", [_broken_row(shard) for shard in broken], ("path", "state", "read", "lost"), LISTED),
        *table("warnings", [(warning,) for warning in manifest.get("warnings", [])]),
    ]


def _state(folder: str, manifest: Manifest) -> str:
    path = files.join(folder, SUCCESS)
    if not files.exists(path):
        return f"not complete: there is no {SUCCESS}; start the job again, and the publish is finished"
    run = files.read_bytes(path).decode(errors="replace").strip()
    if run != manifest["run_id"]:
        return f"not complete: {SUCCESS} is of the run {run}, {MANIFEST} of another"
    paths = {file["path"]: files.join(folder, file["path"]) for file in manifest["files"]}
    found = {info.path: info.bytes for inner in _folders(paths.values()) for info in files.list_folder(inner)}
    wrong = [file["path"] for file in manifest["files"] if found.get(paths[file["path"]]) != file["bytes"]]
    if wrong:
        few = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        return (
            f"not complete: {len(wrong)} of {counted(len(manifest['files']), 'file')} missing or of another size: {few}"
        )
    return f"complete ({SUCCESS} and {MANIFEST} are of one run, all files are there)"


def _model_files(model: Manifest) -> list[tuple[str, str]]:
    """What the graph opened, and what the job named for the user's code."""
    return [*{**model.get("assets", {}), **model.get("files", {})}.items()]


def _folders(paths: Iterable[str]) -> set[str]:
    return {path.rpartition("/")[0] for path in paths}


def _unpublished(folder: str) -> list[str]:
    """No manifest: a run that has not published yet, or files of another writer, many of which leave a `_SUCCESS` too."""
    state = f"not complete: nothing was published, there is no {MANIFEST}"
    if files.exists(files.join(folder, SUCCESS)):
        state = f"unknown: {SUCCESS} without {MANIFEST}; another program wrote it, or the manifest was deleted"
    lying = [info for info in files.list_folder(folder) if not files.base_name(info.path).startswith(("_", "."))]
    total = sum(info.bytes for info in lying)
    return [
        *facts([("output", folder), ("state", state), ("files", f"{len(lying):,}, {counted(total, 'byte')}")]),
        *table("files", [(files.base_name(info.path), f"{info.bytes:,}") for info in lying], ("name", "bytes"), LISTED),
    ]


def _in_progress(folder: str) -> Sequence[str]:
    if not files.exists(temporary(folder, PLAN)):
        return []
    plan = read_plan(folder)
    run = [
        ("run", plan.run_id),
        ("name", plan.name),
        ("run date", plan.run_date or "none"),
        ("started", plan.started),
        ("shards", f"{len(plan.shards):,}"),
        ("checkpoint", f"{plan.model.get('checkpoint')}"),
    ]
    return table("a run that is not finished: at work, or stopped", [(line,) for line in facts(run)])


def _file_row(file: Mapping[str, Any]) -> tuple[str, str, str]:
    return file["path"], f"{file['rows']:,}", f"{file['bytes']:,}"


def _broken_row(shard: Mapping[str, Any]) -> tuple[str, str, str, str]:
    lost = "unknown" if shard["rows_lost"] is None else f"{shard['rows_lost']:,}"
    return shard["path"], shard["state"], f"{shard['read']:,}", lost
