"""Small shards joined into one part (`output.rows_per_file`): the same rows in fewer files, and each shard for itself."""

from __future__ import annotations

import csv
import io
import resource
from pathlib import Path
from typing import Any

import bad_inputs
import pyarrow.parquet as pq
import pytest
from bad_inputs import Bench, Outcome, example, make_rows, tfrecord
from left_behind import OVERWRITE, assert_failed, failed, make_shards, shard_of
from test_rescore import MENDED, STRICT, WRITERS, again, read, rejecting_run, rows_of, undisturbed
from test_shard_sizes import peak_memory

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

JOINED = "output.rows_per_file=11"
"""Two shards of five rows."""


def files_of(folder: Path) -> list[int]:
    """Rows of each part."""
    return [pq.read_metadata(path).num_rows for path in sorted(folder.glob("part-*.parquet"))]


def manifest_of(outcome: Outcome, *names: str) -> dict[str, Any]:
    assert outcome.manifest is not None
    return {name: outcome.manifest[name] for name in names}


def five_shards(bench: Bench, format: str) -> list[Path]:
    """Five shards of five rows, three of which are rejected; the job is written."""
    bench.format, bench.settings = format, {**STRICT, "batch": {"rows": 4}}
    return [bench.shard(WRITERS[format](rows_of(10 * number)), f"s{number}") for number in range(5)]


@pytest.mark.parametrize("format", WRITERS)
def test_rows_are_those_of_a_run_that_joins_nothing(format: str, bench: Bench) -> None:
    shards = five_shards(bench, format)
    apart = bench.score()
    assert (apart.code, files_of(bench.output)) == (0, [2] * 5), apart.error
    rows, rejected = read(bench.output), read(bench.output / "_rejected")

    together = bench.score(output={"rows_per_file": 11, **OVERWRITE})

    assert (together.code, files_of(bench.output)) == (0, [4, 4, 2]), together.error
    assert read(bench.output) == rows
    assert read(bench.output / "_rejected") == rejected
    assert [(row["_shard"], row["_row"]) for row in rows] == [(str(shard), row) for shard in shards for row in (0, 3)]
    kept = ("shards", "rows", "features", "schema")
    assert manifest_of(together, *kept) == manifest_of(apart, *kept)
    assert [shard["path"] for shard in manifest_of(together, "shards")["shards"]] == list(map(str, shards))
    assert together.report["shards"] == 5


def test_without_row_ids(bench: Bench) -> None:
    five_shards(bench, "jsonl")
    outcome = bench.score(output={"rows_per_file": 100, "row_ids": False})
    assert (outcome.code, files_of(bench.output)) == (0, [10])
    assert list(outcome.scored) == [row["id"] for number in range(5) for row in rows_of(10 * number)[::3]]
    assert [shard["scored"] for shard in manifest_of(outcome, "shards")["shards"]] == [2] * 5
    assert [row["_row"] for row in outcome.rejected] == [1, 2, 4] * 5


@pytest.mark.parametrize("format", ["csv", "parquet", "tfrecord"])
def test_files_of_rejected_rows_are_joined_with_shards(format: str, bench: Bench) -> None:
    rejecting_run(bench, format)
    alone = again(bench, *MENDED)
    assert (alone.code, files_of(bench.folder / "again")) == (0, [3, 3]), alone.error
    expected = read(bench.folder / "again")
    joined = again(bench, *MENDED, JOINED, output="joined")
    assert (joined.code, files_of(bench.folder / "joined")) == (0, [6]), joined.error
    assert read(bench.folder / "joined") == expected

    rejected = sorted((bench.output / "_rejected").iterdir())
    (bench.folder / "in" / f"b.{format}").unlink()
    for path, name in zip(rejected, ("0", "z"), strict=True):  # one before a shard and one behind it
        (bench.folder / "in" / f"{name}.{format}").write_bytes(path.read_bytes())
    half = again(bench, JOINED, "output.rows_per_file=100", pattern=f"in/*.{format}", output="half")
    assert (half.code, files_of(bench.folder / "half")) == (0, [2]), half.error
    again_rejected = read(bench.folder / "half" / "_rejected")
    first = [row for path in rejected[:1] for row in pq.read_table(path).to_pylist()]
    last = [row for path in rejected[1:] for row in pq.read_table(path).to_pylist()]
    assert again_rejected == first + first + last


def test_csv_shards_with_other_headers_share_no_batch(bench: Bench) -> None:
    """A rejected row keeps the header of its own shard."""
    shards = five_shards(bench, "csv")
    lines = csv.reader(io.StringIO(shards[1].read_text(), newline=""))
    turned = io.StringIO(newline="")
    csv.writer(turned).writerows(reversed(line) for line in lines)
    shards[1].write_text(turned.getvalue(), newline="")
    assert bench.score(output={"rows_per_file": 100}).code == 0
    assert files_of(bench.output) == [10]
    mended = again(bench, *MENDED, JOINED)
    assert mended.code == 0, mended.error
    assert read(bench.folder / "again") == undisturbed(bench, shards)


ROWS = make_rows(24)


@pytest.mark.fault("one-broken-shard")
def test_a_broken_shard_costs_its_own_tail(bench: Bench) -> None:
    bench.settings = {"output": {"rows_per_file": 9}}
    shards = make_shards(bench, ROWS, *"abcdef")
    whole = shards[2].read_bytes()
    shards[2].write_bytes(whole[:-3])
    error = assert_failed(bench, bench.score(), 4, "publish", shards[2])
    assert error.startswith(
        f"1 of 6 shards are broken, more than errors.max_broken_shards: 0 allows: {shards[2]} (tail_lost"
    )

    outcome = bench.score(errors={"max_broken_shards": 1})

    assert (outcome.code, files_of(bench.output)) == (0, [8, 7, 8])
    assert outcome.scored == bench.expected([row for row in ROWS if row["id"] != 11])
    assert outcome.states == {
        f"{name}.tfrecord": ("tail_lost", 3, None) if name == "c" else ("done", 4, 0) for name in "abcdef"
    }
    assert outcome.report["warnings"] == [f"{shards[2]}: tail_lost: record 3: the file ends inside it"]
    assert outcome.report["resumed_parts"] == 2


def test_a_mended_shard_costs_the_part_that_holds_it(bench: Bench) -> None:
    """The broken one was much smaller, yet the other parts are those of the run before."""
    bench.settings = {"output": {"rows_per_file": 9}}
    shards = make_shards(bench, ROWS, *"abcdef")
    whole = shards[3].read_bytes()
    shards[3].write_bytes(whole[:7])
    assert_failed(bench, bench.score(), 4, "publish", shards[3])
    assert f"{shards[3]} (unreadable: record 0: the file ends inside its length)" in failed(bench)["error"]
    shards[3].write_bytes(whole)

    outcome = bench.score()

    assert (outcome.code, outcome.scored) == (0, bench.expected(ROWS))
    assert outcome.report["resumed_parts"] == len(files_of(bench.output)) - 1
    assert outcome.report["not_kept"] == {"a shard was changed": 1}


def test_what_is_joined_otherwise_is_scored_again_and_what_is_not_is_kept(bench: Bench) -> None:
    shards = make_shards(bench, ROWS, *"abcdef")
    shards[1].write_bytes(shards[1].read_bytes()[:-3])
    big = bench.shard(shard_of(make_rows(50, first=100)), "g")
    assert bench.score().code == 4

    outcome = bench.score(output={"rows_per_file": 9}, errors={"max_broken_shards": 1})

    assert (outcome.code, files_of(bench.output)) == (0, [7, 8, 8, 50])
    assert outcome.report["resumed_parts"] == 1  # the one of `big`
    assert outcome.report["not_kept"] == {"shards were joined or split otherwise": 3}
    assert outcome.states[big.name] == ("done", 50, 0)


def test_an_output_is_not_stale_for_how_it_was_joined(bench: Bench) -> None:
    make_shards(bench, ROWS, *"abcdef")
    assert bench.score().code == 0
    skipped = bench.score(output={"rows_per_file": 9, "if_exists": "skip"})
    assert (skipped.code, skipped.report["status"], skipped.report["stale"]) == (0, "skipped", [])
    other = bench.score(output={"rows_per_file": 9, "if_exists": "skip"}, batch={"rows": 3})
    assert other.report["stale"] == ["job file: batch.rows was changed"]


def test_a_trial_run_takes_the_first_rows_of_each_shard(bench: Bench) -> None:
    make_shards(bench, ROWS, *"abcdef")
    outcome = bench.score("--limit_rows", "2", "--limit_shards", "5", output={"rows_per_file": 4})
    assert (outcome.code, files_of(bench.output)) == (0, [4, 4, 2])
    assert list(outcome.scored) == [row for start in range(0, 20, 4) for row in (start, start + 1)]


def test_a_prediction_that_is_not_finite_is_told_of_its_own_shard(bench: Bench) -> None:
    shards = make_shards(bench, ROWS, *"abcdef")
    rows = [{**row, "x": -1.5} if row["id"] == 14 else row for row in ROWS[12:16]]
    bench.shard(tfrecord([example(row) for row in rows]), "d")
    outcome = bench.score(output={"rows_per_file": 100}, model={"params": {"more": ["root"]}})
    assert outcome.code == 4
    assert (
        "prediction 'root' is not finite (NaN or infinite) in 1 of 24 rows of a batch, first in row 2" in outcome.error
    )
    assert (failed(bench)["shard"], failed(bench)["row"]) == (str(shards[3]), 2)


def test_a_hundred_shards_are_one_part_of_a_few_batches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.predict import RowScorer

    rows = make_rows(300)
    make_shards(bench, rows, *(f"{number:03d}" for number in range(100)))
    sizes: list[int] = []
    score = RowScorer.score

    def counted(self: RowScorer, some: Any) -> Any:
        sizes.append(some.num_rows)
        return score(self, some)

    monkeypatch.setattr(RowScorer, "score", counted)
    outcome = bench.score(output={"rows_per_file": 300}, batch={"rows": 128}, model={"row_wise": False})
    assert (outcome.code, files_of(bench.output)) == (0, [300])
    assert list(outcome.scored) == [row["id"] for row in rows]
    assert [size for size in sizes if size][1:] == [128, 128, 44]  # the first one is that of the launch


@pytest.mark.fault("many-tiny-shards")
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("rows_per_file", "files", "milliseconds"), [(10_000, 100, 2), (None, 10_000, 5)], ids=["joined", "apart"]
)
def test_time_of_ten_thousand_shards_of_a_hundred_rows(
    rows_per_file: int | None, files: int, milliseconds: float, bench: Bench
) -> None:
    """Processor time of a shard, its hundred rows included."""
    bench.settings = {"output": {**OVERWRITE, **({"rows_per_file": rows_per_file} if rows_per_file else {})}}
    content, seconds = shard_of(make_rows(100)), []
    for first, end in ((0, 100), (100, 10_000)):
        for number in range(first, end):
            bench.shard(content, f"{number:05d}")
        assert bench.score("--set", "model.checkpoint=99").code == 6  # writes the job file
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak_memory(bench)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert len(files_of(bench.output)) == files
    assert (seconds[1] - seconds[0]) / 9_900 < milliseconds / 1e3, seconds
