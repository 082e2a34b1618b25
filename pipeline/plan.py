"""The plan of a run: which shards become which parts, frozen at launch, and all that the manifest will say of the job."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import files
from pipeline.errors import BrokenShard, InputError, JobError
from pipeline.rows import Part, Piece, Shard

if TYPE_CHECKING:
    from pipeline.job import Input

TEMPORARY = "_temporary"
REJECTED = "_rejected"
PLAN = "plan.json"
VERDICT = "verdict.json"
STARTED = "started"
"""Tells the launcher that a worker of a cluster runs; holds the run id."""

_NUMBERED = re.compile(r"(.*)-(\d+)-of-(\d+)(.*)", re.DOTALL)
_NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Plan:
    """What a run has set out to do. Workers and the publish step know the run from here alone.

    started: RFC 3339, UTC. schema: of the output files. features: raw features by name; optional: those that all rows
    may lack. model, transform, record, job, versions, settings, code: as they go into the manifest, plain JSON values.
    staged: the copies that the run scores with, for a restart of it. timings: seconds of what came before the plan.
    memory: processes with a copy of the model on one machine, bytes of its variables, and of the launcher at most so far.
    warnings: found at launch. limited: `shards`, and `rows` of each, that a trial run takes at most; None for a whole run.
    """

    run_id: str
    run_date: str | None
    name: str
    started: str
    parts: tuple[Part, ...]
    record_format: str
    schema: pa.Schema
    features: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    transform: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    staged: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    limited: Mapping[str, int | None] | None = None

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The input files, each once."""
        return tuple({piece.shard.path: piece.shard for part in self.parts for piece in part.pieces}.values())

    def to_json(self) -> str:
        """The plan as JSON text; the schema as it is serialized by Arrow, and in words."""
        plain = dict(vars(self))
        plain["schema"] = base64.b64encode(self.schema.serialize().to_pybytes()).decode()
        plain["schema_in_words"] = [f"{column.name}: {column.type}" for column in self.schema]
        return json.dumps(plain, default=vars)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote."""
        plain = json.loads(text)
        del plain["schema_in_words"]
        plain["schema"] = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(plain["schema"])))
        plain["parts"] = tuple(map(_part, plain["parts"]))
        return cls(**plain | {name: tuple(plain[name]) for name in ("features", "optional", "warnings")})


def _part(part: Mapping[str, Any]) -> Part:
    pieces = tuple(
        Piece(Shard(**piece["shard"]), tuple(piece["row_groups"]) if piece["row_groups"] else None, piece["first_row"])
        for piece in part["pieces"]
    )
    return Part(part["index"], part["key"], pieces, part.get("folder", ""))


def utc_now() -> str:
    """Now, RFC 3339 in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def temporary(output: str, *names: str) -> str:
    """A path under the folder of an output that is gone after success."""
    return files.join(output, TEMPORARY, *names)


def write_plan(output: str, plan: Plan) -> None:
    """Freeze the plan at `OUTPUT/_temporary/plan.json`."""
    files.write_bytes(temporary(output, PLAN), plan.to_json().encode())


def read_plan(output: str) -> Plan:
    """The frozen plan. Raises OSError if there is none."""
    return Plan.from_json(files.read_bytes(temporary(output, PLAN)).decode())


def part_name(index: int, count: int) -> str:
    """Name of the published file of a part: `part-00000-of-00008.parquet`."""
    return f"part-{index:05d}-of-{count:05d}.parquet"


def part_path(part: Part, count: int) -> str:
    """Path of the published file of a part, below the output. count: of the parts."""
    name = part_name(part.index, count)
    return files.join(part.folder, name) if part.folder else name


def match_shards(source: Input) -> list[Shard]:
    """The shards of `source.pattern` without `source.ignore`, each once, sorted by path.

    Raises:
      InputError: a pattern matches no file, one that cannot be looked at, or a name that is no Unicode text.
    """
    found: dict[str, Shard] = {}
    for pattern in source.pattern:
        try:
            matched = files.match(pattern, [*source.ignore, *filter(None, [source.ready])])
        except (FileNotFoundError, PermissionError) as error:
            raise InputError(f"input.pattern: {error.filename}: {error.strerror}") from error
        if not matched:
            raise InputError(_nothing_matches(pattern, source.ignore))
        for info in matched:
            try:
                info.path.encode()
            except UnicodeEncodeError:
                raise InputError(f"input.pattern: {info.path!a} is no UTF-8 name; rename the file") from None
            found[info.path] = Shard(*info)
    return [found[path] for path in sorted(found)]


def check_unchanged(shard: Shard) -> None:
    """Raise BrokenShard unless the file of a shard is the one that was planned, by size and etag or time."""
    info = files.info(shard.path)
    now = Shard(*info) if info is not None else None
    if now is None or (now.bytes, now.version) != (shard.bytes, shard.version):
        what = "was changed" if now else "went away"
        raise BrokenShard(f"the file {what} after the run was planned; run again, and it is scored as it is then")


def missing_numbers(shards: Sequence[Shard]) -> list[str]:
    """A warning for each set of shards named `*-NNNNN-of-MMMMM` of which some numbers are not there."""
    sets: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for shard in shards:
        named = _NUMBERED.fullmatch(shard.path)
        if named and f"/{REJECTED}/" not in shard.path:  # a part without bad rows has no file there
            before, number, count, after = named.groups()
            sets[before, count, after].add(int(number))
    warnings = []
    for (before, count, after), numbers in sorted(sets.items()):
        first = 1 if int(count) in numbers and 0 not in numbers else 0  # some writers count from 1
        missing = sorted(set(range(first, first + int(count))) - numbers) if int(count) < 10**7 else []
        if missing:
            named_few = ", ".join(f"{number:0{len(count)}d}" for number in missing[:_NAMED_AT_MOST])
            more = f" and {len(missing) - _NAMED_AT_MOST} more" if len(missing) > _NAMED_AT_MOST else ""
            warnings.append(
                f"{before}-*-of-{count}{after}: {len(missing)} of {int(count)} shards are not there: {named_few}{more}"
            )
    return warnings


def without_number(shards: Sequence[Shard]) -> list[str]:
    """Paths of shards whose names are not of the form `*-NNNNN-of-MMMMM`."""
    return [shard.path for shard in shards if not _NUMBERED.fullmatch(files.base_name(shard.path))]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of all that scores rest on beside the shard, as canonical JSON. Raises TypeError for other values."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def part_key(pieces: Sequence[Piece], digest: str) -> str:
    """Name of a part's folder under `_temporary/`: the same as long as its scores would be. `digest`: of the settings."""
    identity: list[Any] = []
    for piece in pieces:
        identity += [piece.shard.path, piece.shard.bytes, piece.shard.version]
        if piece.row_groups is not None:
            identity.append(piece.row_groups)
    text = json.dumps([*identity, digest], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_output_outside_input(patterns: Sequence[str], output: str) -> None:
    """Refuse an output that is at or under an input pattern, or whose files a next run would take for shards.

    Raises:
      JobError: naming the pattern.
    """
    if not files.is_local(output) and files.has_glob(output):
        raise JobError(f"output.path: {output} holds one of * ? [, which object stores take for a pattern; rename it")
    name = part_name(0, 1)
    folder = _resolved(output)
    written = [files.join(folder, name), files.join(folder, REJECTED, name), files.join(folder, TEMPORARY, "key", name)]
    for pattern in patterns:
        matches = files.matcher(_resolved(pattern))
        ancestor = folder
        while ancestor.strip("/") and not matches(ancestor):
            ancestor = ancestor.rpartition("/")[0]
        if ancestor.strip("/") or any(matches(path) for path in written):
            raise JobError(
                f"output.path: {output} is at or under input.pattern {pattern}, so scores would be read as shards; "
                "write to a folder that no pattern matches"
            )


def _resolved(path: str) -> str:
    """A local path without links and dots as far as it has no wildcards."""
    if not files.is_local(path):
        return path.rstrip("/")
    names = path.split("/")
    plain = next((place for place, name in enumerate(names) if files.has_glob(name)), len(names))
    return "/".join([str(Path("/".join(names[:plain]) or "/").resolve()).rstrip("/"), *names[plain:]])


def _nothing_matches(pattern: str, ignore: Sequence[str]) -> str:
    message = f"input.pattern: no file matches {pattern}"
    names = pattern.split("/")
    plain = next((place for place, name in enumerate(names) if files.has_glob(name)), len(names) - 1)
    folder = "/".join(names[:plain]) or "/"
    if files.is_local(pattern) and Path(pattern).is_dir():
        return f"{message}, which is a folder; write {files.join(pattern, '*')} for the files in it"
    if files.is_local(folder) and not Path(folder).is_dir():
        return f"{message}: there is no folder {folder}"
    lying = [files.base_name(info.path) for info in files.list_folder(folder)]
    left_out = f"; names like {', '.join(ignore)} are no shards (input.ignore)" if ignore else ""
    if not lying:
        return f"{message}: {folder} holds no files{left_out}"
    few = ", ".join(lying[:3]) + (", ..." if len(lying) > 3 else "")
    return f"{message}: {folder} holds {len(lying)} {'file' if len(lying) == 1 else 'files'} ({few}){left_out}"
