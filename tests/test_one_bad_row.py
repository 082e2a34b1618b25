"""What one bad row, one prediction that is not finite, and one broken shard cost a run of many."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import bad_inputs
import pyarrow.parquet as pq
import pytest
from bad_inputs import Bench, Row, example, make_rows, tfrecord
from left_behind import (
    OVERWRITE,
    assert_failed,
    assert_published,
    assert_untouched,
    make_shards,
    publish_first,
    shard_of,
)

from pipeline.model import Model
from pipeline.plan import write_plan

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

IN_GRAPH: dict[str, Any] = {"model": {"params": {"raw_ids": True}}}
"""The model then looks `n` up in a table of ten rows, and fails for any other number."""


def lookup_rows(count: int) -> list[Row]:
    return [{**row, "n": row["id"] % 10} for row in make_rows(count)]


BAD_RECORDS = {
    "unparsable": lambda row: b"\xff" + example(row),
    "fails in the graph": lambda row: example({**row, "n": 31}),
}
STAGES = {"unparsable": "read", "fails in the graph": "predict"}


@pytest.mark.fault("one-bad-row")
@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_one_bad_row_of_20_thousand(kind: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding it costs two batches at most beside those of the run."""
    rows = lookup_rows(20_000)
    bad = 13_579
    bench.shard(tfrecord([BAD_RECORDS[kind](row) if row["id"] == bad else example(row) for row in rows]))
    sizes: list[int] = []

    def run(model: Model, batch: Any, keys: Any) -> Any:
        sizes.append(batch.num_rows)
        return real(model, batch, keys)

    real = Model.run
    monkeypatch.setattr(Model, "run", run)
    monkeypatch.setattr("pipeline.run.write_plan", lambda *plan: sizes.clear() or write_plan(*plan))
    outcome = bench.score(**IN_GRAPH, errors={"max_bad_rows": 1})

    assert outcome.rows == (20_000, 19_999, 1)
    assert [reason[:3] for reason in outcome.reasons] == [("a.tfrecord", bad, STAGES[kind])]
    assert outcome.scored == bench.expected(row for row in rows if row["id"] != bad)
    assert 20_000 < sum(sizes) <= 20_000 + 2 * 4096
    assert len(sizes) <= 5 + 2 * 12


RUN = """
import resource, sys
import pipeline.run
from pipeline.commands import main

def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def timed(*arguments):
    before = processor_seconds()
    run_pipeline(*arguments)
    print("seconds", processor_seconds() - before)

run_pipeline, pipeline.run.run_pipeline = pipeline.run.run_pipeline, timed
sys.exit(main(sys.argv[1:]))
"""


def seconds_of_run(bench: Bench, pattern: str) -> float:
    """Processor time of the run step, without the launch, in a process of its own."""
    job = ["score", "--quiet", "--config", str(bench.folder / "job.yaml"), "--set", "output.if_exists=overwrite"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *job, "--set", f"input.pattern={bench.folder}/{pattern}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("seconds ")[1].split()[0])


@pytest.mark.fault("one-bad-row")
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_one_bad_row_in_a_million(bench: Bench) -> None:
    """It costs less than a twentieth more time than none."""
    block = [example(row) for row in lookup_rows(10_000)]
    framed = tfrecord(block)
    bench.shard(framed * 100, "none")
    for kind, spoil in BAD_RECORDS.items():
        spoiled = [spoil(lookup_rows(6_001)[6_000]), *block[6_001:]]
        bench.shard(framed * 50 + tfrecord(block[:6_000]) + tfrecord(spoiled) + framed * 49, kind.replace(" ", "_"))
    bench.settings = {**IN_GRAPH, "errors": {"max_bad_rows": 1}}
    assert bench.score("--set", "model.checkpoint=99").code == 6  # writes the job file

    seconds: dict[str, list[float]] = {kind: [] for kind in ("none", *BAD_RECORDS)}
    for _ in range(5):  # one after the other, and the least of each: other work on the machine only adds
        for kind, found in seconds.items():
            found.append(seconds_of_run(bench, f"in/{kind.replace(' ', '_')}.tfrecord"))
            bad = [] if kind == "none" else [506_000]
            rows = json.loads((bench.output / "_manifest.json").read_text())["rows"]
            assert rows == {"read": 1_000_000, "scored": 1_000_000 - len(bad), "rejected": len(bad)}
            rejected = sorted((bench.output / "_rejected").glob("*.parquet"))
            assert [pq.read_table(path).column("_row").to_pylist() for path in rejected] == [[row] for row in bad]
    print({kind: [round(each, 1) for each in found] for kind, found in seconds.items()})
    ratios = {kind: min(seconds[kind]) / min(seconds["none"]) for kind in BAD_RECORDS}
    assert max(ratios.values()) < 1.05, ratios


@pytest.mark.fault("one-broken-shard")
def test_one_broken_shard_of_eight_under_a_row_budget(bench: Bench) -> None:
    """Nobody knows how many rows were lost, so no budget of rows covers it; the rerun scores that shard alone."""
    rows = make_rows(80)
    shards = make_shards(bench, rows, *"abcdefgh")
    before = publish_first(bench)
    whole = shards[4].read_bytes()
    shards[4].write_bytes(whole[:-3])
    bench.settings = {"errors": {"max_bad_rows": 0.1}, "output": OVERWRITE}

    refused = bench.score()

    error = assert_failed(bench, refused, 4, "publish", shards[4])
    assert error.startswith("1 of 8 shards are broken, more than errors.max_broken_shards: 0 allows: ")
    assert f"{shards[4]} (tail_lost: record 9: the file ends inside it)" in error
    assert "rejected" not in error
    assert_untouched(bench, before)
    kept = {path.stat().st_ino for path in bench.output.glob("_temporary/*/*.parquet")}

    shards[4].write_bytes(whole)
    outcome = bench.score()

    assert_published(bench, outcome, rows, resumed=7)
    assert outcome.report["not_kept"] == {"the shard was changed": 1}
    moved = [path.stat().st_ino in kept for path in sorted(bench.output.glob("part-*.parquet"))]
    assert moved == [True] * 4 + [False] + [True] * 3


@pytest.mark.fault("too-many-bad-rows")
def test_all_parts_are_finished_before_a_budget_refuses(bench: Bench) -> None:
    """The rejected rows of a refused run stay to be looked at, and where is the last line that is printed."""
    rows = make_rows(12)
    first = bench.shard(tfrecord([b"\xff", *map(example, rows[1:4])]), "a")
    bench.shard(shard_of(rows[4:8]), "b")
    bench.shard(tfrecord([*map(example, rows[8:11]), b"\xff"]), "c")

    refused = bench.score(errors={"max_bad_rows": 1})

    error = assert_failed(bench, refused, 4, "publish", first)
    assert error.splitlines()[0] == "2 of 12 rows were rejected, more than errors.max_bad_rows: 1 allows"
    assert refused.error.splitlines()[-1] == f"rejected rows: {bench.output}/_rejected"
    assert [reason[:3] for reason in refused.reasons] == [("a.tfrecord", 0, "read"), ("c.tfrecord", 3, "read")]
    assert (refused.success, refused.scored) == (False, {})
    assert len(list(bench.output.glob("_temporary/*/result.json"))) == 3
    assert_published(bench, bench.score(errors={"max_bad_rows": 2}), rows[1:11], resumed=3)


def with_infinity(rows: list[Row], place: int) -> list[Row]:
    return [{**row, "x": float("inf")} if row["id"] == place else row for row in rows]


@pytest.mark.fault("prediction-not-finite")
@pytest.mark.parametrize(("shard", "row"), [("a", 2), ("c", 1)], ids=["found at launch", "found later"])
def test_word_of_a_prediction_that_is_not_finite(shard: str, row: int, bench: Bench) -> None:
    rows = make_rows(12)
    place = 4 * "abc".index(shard) + row
    make_shards(bench, rows, "a", "b", "c")
    before = publish_first(bench)
    make_shards(bench, with_infinity(rows, place), "a", "b", "c")

    refused = bench.score(output=OVERWRITE)

    path = bench.folder / "in" / f"{shard}.tfrecord"
    error = assert_failed(bench, refused, 4, "predict", path)
    assert json.loads((bench.output / "_FAILED.json").read_text())["row"] == row
    assert f"in 1 of 4 rows of a batch, first in row {row}; write errors.non_finite: reject" in error
    assert_untouched(bench, before)

    rejected = bench.score(output=OVERWRITE, errors={"non_finite": "reject"})
    assert_failed(bench, rejected, 4, "publish", path)
    assert rejected.error.splitlines()[-1].startswith(f"rejected rows: {bench.output}/_rejected")
    allowed = bench.score(output=OVERWRITE, errors={"non_finite": "reject", "max_bad_rows": 1})
    assert_published(bench, allowed, [each for each in rows if each["id"] != place], resumed=3)
    assert allowed.reasons == [(f"{shard}.tfrecord", row, "predict", "prediction 'score' is not finite")]
    kept = bench.score(output=OVERWRITE, errors={"non_finite": "keep"})
    assert kept.rows == (12, 12, 0)
    assert abs(kept.scored[place]) == float("inf")
