"""Shards of no rows, of one, of one huge row, ten thousand of them, and shards with names of all kinds."""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bad_inputs
import pyarrow.parquet as pq
import pytest
from bad_inputs import Bench, Row, example, make_rows, tfrecord
from left_behind import OVERWRITE, assert_failed, assert_published, make_shards, shard_of
from test_bad_columnar import avro, parquet, table
from test_bad_text import csv, csv_line, json_line

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

ROWS = make_rows(4)
WRITE = {
    "tfrecord": shard_of,
    "parquet": lambda rows: parquet(table(ROWS).slice(0, 0) if not rows else table(rows)),
    "csv": lambda rows: csv(map(csv_line, rows)),
    "jsonl": lambda rows: b"".join(json_line(row) + b"\n" for row in rows),
    "avro": avro,
}
"""Rows as a shard of each format."""
NO_BYTES = {
    "tfrecord": None,
    "parquet": "the footer cannot be read: no Parquet file, or its end is lost",
    "csv": "the file has no header",
    "jsonl": None,
    "avro": "the header cannot be read: no Avro file, or damaged",
}
"""What a file of no bytes is broken for, where a format has something to say before the first row."""


@pytest.mark.fault("shard-of-no-bytes")
@pytest.mark.parametrize("format", WRITE)
def test_shard_of_no_bytes(format: str, bench: Bench) -> None:
    """A shard without rows where the format has no header; a broken one where the header is lost."""
    bench.format = format
    empty = bench.shard(b"", "a")
    bench.shard(WRITE[format](ROWS), "b")
    outcome = bench.score()
    reason = NO_BYTES[format]
    if reason is None:
        assert_published(bench, outcome, ROWS)
        assert outcome.states == {f"a.{format}": ("done", 0, 0), f"b.{format}": ("done", 4, 0)}
        return
    assert f"{empty} (unreadable: {reason})" in assert_failed(bench, outcome, 4, "publish", empty)
    bench.shard(WRITE[format]([]), "a")
    assert_published(bench, bench.score(), ROWS, resumed=1)


@pytest.mark.fault("shard-of-no-rows")
@pytest.mark.parametrize(
    ("format", "pack"),
    [*((format, bytes) for format in WRITE), *((format, gzip.compress) for format in ("tfrecord", "csv", "jsonl"))],
)
def test_shard_of_no_rows(format: str, pack: Callable[[bytes], bytes], bench: Bench) -> None:
    """A part without rows, in the schema of the others."""
    bench.format = format
    bench.shard(pack(WRITE[format]([])), "a")
    bench.shard(pack(WRITE[format](ROWS)), "b")
    outcome = bench.score()
    assert_published(bench, outcome, ROWS)
    assert outcome.states == {f"a.{format}": ("done", 0, 0), f"b.{format}": ("done", 4, 0)}
    empty, full = (pq.read_schema(path) for path in sorted(bench.output.glob("part-*.parquet")))
    assert empty == full


@pytest.mark.fault("shard-of-one-row")
@pytest.mark.parametrize("format", WRITE)
def test_shards_of_one_row(format: str, bench: Bench) -> None:
    bench.format = format
    for row in ROWS:
        bench.shard(WRITE[format]([row]), f"s{row['id']}")
    outcome = bench.score(batch={"rows": 2})
    assert_published(bench, outcome, ROWS)
    assert [pq.read_metadata(path).num_rows for path in sorted(bench.output.glob("part-*"))] == [1] * 4


HUGE = 50_000_000
PROBED = """
import sys
from pathlib import Path
from pipeline.commands import main
code = main(sys.argv[1:])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # ru_maxrss is also that of the parent
sys.exit(code)
"""


def peak_memory(bench: Bench) -> int:
    """Bytes that the command had in memory at most, which has to end well; the job is the one that was scored last."""
    command = ["score", "--quiet", "--config", str(bench.folder / "job.yaml")]
    done = subprocess.run([sys.executable, "-c", PROBED, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * 1024


def huge_row(number: int, in_passthrough: bool) -> Row:
    (row,) = make_rows(1, first=number)
    return {**row, "note": row["note"] + "y" * HUGE} if in_passthrough else {**row, "words": ["y" * HUGE]}


@pytest.mark.fault("huge-row")
@pytest.mark.parametrize("in_passthrough", [False, True], ids=["in a feature", "passed through"])
@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_row_of_50_megabytes(format: str, in_passthrough: bool, bench: Bench) -> None:
    """It is a batch of its own, larger than `batch.bytes`, and rows before and after it are scored as ever."""
    bench.format = format
    rows = [*make_rows(3), huge_row(3, in_passthrough), *make_rows(3, first=4)]
    bench.shard(WRITE[format](rows))
    outcome = bench.score(batch={"bytes": 1 << 20})
    assert_published(bench, outcome, rows)
    (part,) = bench.output.glob("part-*.parquet")
    notes = pq.read_table(part).column("note").to_pylist()
    assert [len(note) for note in notes] == [len(row["note"]) for row in rows]


@pytest.mark.fault("huge-row")
@pytest.mark.long
@pytest.mark.timeout(600)
def test_memory_of_many_rows_of_50_megabytes(bench: Bench) -> None:
    """However many there are, a few of them are in memory at one time."""
    bench.settings = {"batch": {"bytes": 1 << 20}, "output": OVERWRITE}
    peaks = []
    for count in (4, 16):
        bench.shard(shard_of([huge_row(number, in_passthrough=False) for number in range(count)]))
        assert bench.score("--set", "model.checkpoint=99").code == 6  # writes the job file
        peaks.append(peak_memory(bench))
    assert peaks[1] - peaks[0] < 3 * HUGE, peaks


NAMES = [
    "two words",
    "100%",
    "a%20b",
    "%s %d {0} {run}",
    "grüße",
    "日本語",
    "a'b\"c",
    "a+b&c=d#e",
    "-dash",
    "tab\there",
    "a;b$c",
]


@pytest.mark.fault("odd-shard-names")
def test_names_with_spaces_unicode_and_percent_signs(bench: Bench) -> None:
    rows = make_rows(2 * len(NAMES))
    shards = make_shards(bench, rows, *NAMES)
    broken = shards[1]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-3])
    error = assert_failed(bench, bench.score(), 4, "publish", broken)
    assert f"{broken} (tail_lost: record 1: the file ends inside it)" in error
    broken.write_bytes(whole)

    outcome = bench.score()

    in_order = [row for name in sorted(NAMES) for row in rows[2 * NAMES.index(name) :][:2]]
    assert_published(bench, outcome, rows, resumed=len(NAMES) - 1)
    assert list(outcome.scored) == [row["id"] for row in in_order]
    assert list(outcome.states) == sorted(path.name for path in shards)
    written = [
        path for part in sorted(bench.output.glob("part-*")) for path in pq.read_table(part)["_shard"].to_pylist()
    ]
    assert written == sorted(str(path) for path in shards for _ in range(2))


def one_row_each(bench: Bench, count: int) -> list[Row]:
    """So many shards of one row."""
    folder = bench.folder / "in"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = make_rows(count)
    for row in rows:
        Path(folder / f"s{row['id']:05d}.tfrecord").write_bytes(tfrecord([example(row)]))
    return rows


@pytest.mark.fault("many-tiny-shards")
def test_a_thousand_tiny_shards(bench: Bench) -> None:
    rows = one_row_each(bench, 1000)
    outcome = bench.score()
    assert_published(bench, outcome, rows)
    assert list(outcome.scored) == list(range(1000))


@pytest.mark.fault("many-tiny-shards")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_time_and_memory_of_ten_thousand_tiny_shards(bench: Bench) -> None:
    """Processor time, since other work on the machine says nothing of this; it is some 50 seconds."""
    bench.settings = {"output": OVERWRITE}
    peaks, seconds = [], []
    for count in (100, 10_000):
        one_row_each(bench, count)
        assert bench.score("--set", "model.checkpoint=99").code == 6  # writes the job file
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        peaks.append(peak_memory(bench))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert peaks[1] - peaks[0] < 200e6, peaks
    assert seconds[1] - seconds[0] < 90, seconds
    manifest = json.loads((bench.output / "_manifest.json").read_text())
    assert (len(manifest["shards"]), manifest["rows"]["scored"]) == (10_000, 10_000)
