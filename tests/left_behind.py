"""What a run leaves behind: for people, for readers of the output, and for the next run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bad_inputs import Bench, Outcome, Row, example, same, tfrecord

OVERWRITE = {"if_exists": "overwrite"}


def shard_of(rows: Sequence[Row]) -> bytes:
    """A TFRecord shard."""
    return tfrecord([example(row) for row in rows])


def make_shards(bench: Bench, rows: Sequence[Row], *names: str) -> list[Path]:
    """Shards of as many rows each."""
    each = len(rows) // len(names)
    return [bench.shard(shard_of(rows[each * place : each * (place + 1)]), name) for place, name in enumerate(names)]


def contents(folder: Path) -> dict[str, bytes]:
    """Path below a folder -> bytes, of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish_first(bench: Bench) -> dict[str, bytes]:
    """An earlier output of the bench's shards, which a later run is to replace; gives its files."""
    outcome = bench.score()
    same(outcome.code, 0, outcome.error)
    return contents(bench.output)


def assert_untouched(bench: Bench, before: dict[str, bytes]) -> None:
    """All files of an earlier output are as they were, and its manifest names every part that lies there."""
    after = contents(bench.output)
    same({path: after.get(path) for path in before}, before)
    same({path for path in after if path.startswith("part-")}, {path for path in before if path.startswith("part-")})


def failed(bench: Bench) -> dict[str, Any]:
    """What the last run left word of, `_FAILED.json`."""
    return json.loads((bench.output / "_FAILED.json").read_text())


def assert_failed(bench: Bench, outcome: Outcome, code: int, stage: str, shard: Path | None = None) -> str:
    """The run ended with this code, and left word of what it said on the terminal; gives what it said."""
    same(outcome.code, code, outcome.error)
    left = failed(bench)
    same((left["exit_code"], left["stage"], left["shard"]), (code, stage, shard and str(shard)), left["error"])
    same(f"error: {left['error']}\n", outcome.error)
    same((outcome.report["status"], outcome.report["exit_code"]), ("failed", code))
    return left["error"]


def assert_published(bench: Bench, outcome: Outcome, rows: Sequence[Row], resumed: int = 0) -> None:
    """The run ended well with these rows scored, and nothing of those before it is left."""
    same(outcome.code, 0, outcome.error)
    same(outcome.scored, bench.expected(rows))
    same(outcome.rows, (len(rows) + len(outcome.rejected), len(rows), len(outcome.rejected)))
    same(outcome.report["resumed_parts"], resumed)
    left = {path.name for path in bench.output.iterdir() if not path.name.startswith("part-")}
    same(left - {"_rejected"}, {"_SUCCESS", "_manifest.json"})
