"""`input.only_new`: shards that an earlier run has scored are left out, and no others."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_inputs
import pytest
from bad_inputs import Bench, Outcome, example, make_rows, tfrecord
from memory_store import new_folder
from test_split_shards import in_groups

from pipeline import files
from pipeline.history import identity, new_shards, read_history
from pipeline.job import Job
from pipeline.manifest import file_time
from pipeline.rows import Shard

pytestmark = pytest.mark.any_tensorflow

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

SETTINGS = {"checkpoint": "c0ffee", "code": "beef"}
SHARD = Shard("gs://features/a.csv", 100, 1700000000.25)
STORED = Shard("gs://features/b.csv", 100, 1700000000.25, "etag-1")


def entry(shard: Shard, **changes: Any) -> dict[str, Any]:
    """A shard as a manifest has it."""
    told = {"path": shard.path, "bytes": shard.bytes, "modified": file_time(shard.modified), "etag": shard.etag}
    return {**told, "read": 5, "scored": 5, "rejected": 0, "state": "done", "rows_lost": 0} | changes


def publish(output: Path | str, *shards: dict[str, Any], success: str | None = "run-1", **changes: Any) -> None:
    """What a run leaves at its output, as far as it matters here."""
    manifest = {"format_version": 1, "run_id": "run-1", "files": [], "settings": SETTINGS, "shards": shards} | changes
    files.write_bytes(f"{output}/_manifest.json", json.dumps(manifest).encode())
    if success is not None:
        files.write_bytes(f"{output}/_SUCCESS", success.encode())


def job(folder: Path | str, **settings: Any) -> Job:
    return Job.model_validate(
        {
            "name": "taxi",
            "input": {"pattern": "gs://features/*.csv", "only_new": True, "history": f"{folder}/out/*", **settings},
            "features": {"x": {"dtype": "float32"}},
            "model": {"estimator": "a:b"},
            "output": {"path": f"{folder}/out/today"},
        }
    )


class TestWhatIsKnown:
    @pytest.mark.parametrize(
        ("changes", "known"),
        [
            ({}, True),
            ({"settings": {**SETTINGS, "code": "other"}}, False),
            ({"settings": {"checkpoint": "c0ffee"}}, False),
            ({"success": "run-2"}, False),
            ({"success": "run-1\n"}, True),
            ({"success": None}, False),
            ({"limited": {"shards": 3, "rows": None}}, True),
            ({"limited": {"shards": None, "rows": 2}}, False),
            ({"limited": None}, True),
            ({"format_version": 2}, True),
        ],
        ids=["all alike", "other code", "fewer settings", "another run", "with an end of line", "not finished",
             "some shards", "some rows", "not limited", "later format"],
    )  # fmt: skip
    def test_of_a_run(self, changes: dict[str, Any], known: bool, tmp_path: Path) -> None:
        publish(tmp_path / "out" / "yesterday", entry(SHARD), **changes)
        assert (SHARD in read_history(job(tmp_path), SETTINGS)) == known

    @pytest.mark.parametrize(
        ("told", "shard", "known"),
        [
            (entry(SHARD), SHARD, True),
            (entry(STORED), STORED, True),
            (entry(SHARD, bytes=101), SHARD, False),
            (entry(SHARD, path="gs://features/c.csv"), SHARD, False),
            (entry(SHARD, modified="2023-11-14T22:13:20.250001Z"), SHARD, False),
            (entry(STORED, etag="etag-2"), STORED, False),
            (entry(STORED, modified="2024-01-01T00:00:00.000000Z"), STORED, True),
            (entry(STORED, etag=None), STORED, False),
            (entry(SHARD, state="tail_lost", rows_lost=None), SHARD, False),
            (entry(SHARD, state="unreadable", read=0, scored=0), SHARD, False),
            (entry(SHARD, scored=0, rejected=5), SHARD, False),
            (entry(SHARD, scored=1, rejected=4), SHARD, True),
            (entry(SHARD, read=0, scored=0), SHARD, True),
        ],
        ids=["by its time", "by its etag", "other size", "other path", "other time", "other etag", "etag, other time",
             "no etag then", "cut short", "unreadable", "rejected whole", "rejected in part", "without rows"],
    )  # fmt: skip
    def test_of_a_shard(self, told: dict[str, Any], shard: Shard, known: bool, tmp_path: Path) -> None:
        publish(tmp_path / "out" / "yesterday", told)
        assert (shard in read_history(job(tmp_path), SETTINGS)) == known

    def test_a_manifest_of_before_there_were_etags(self, tmp_path: Path) -> None:
        old = entry(SHARD)
        del old["etag"]
        publish(tmp_path / "out" / "yesterday", old)
        assert SHARD in read_history(job(tmp_path), SETTINGS)

    def test_on_a_store(self, tmp_path: Path) -> None:
        folder = new_folder("store", tmp_path)
        publish(f"{folder}/out/one", entry(STORED))
        publish(f"{folder}/out/two/deeper", entry(SHARD))
        assert read_history(job(folder), SETTINGS).shards == {identity(STORED)}

    def test_all_outputs_count_but_the_own(self, tmp_path: Path) -> None:
        publish(tmp_path / "out" / "one", entry(SHARD))
        publish(tmp_path / "out" / "two", entry(STORED))
        publish(tmp_path / "out" / "today", entry(Shard("gs://features/c.csv", 1)))
        history = read_history(job(tmp_path), SETTINGS)
        assert (history.outputs, len(history.shards)) == (2, 2)

    def test_what_others_wrote_there_does_not_count(self, tmp_path: Path) -> None:
        publish(tmp_path / "out" / "ours", entry(SHARD))
        (tmp_path / "out" / "spark").mkdir()
        (tmp_path / "out" / "spark" / "_SUCCESS").touch()
        publish(tmp_path / "out" / "damaged")
        (tmp_path / "out" / "damaged" / "_manifest.json").write_text("{")
        assert read_history(job(tmp_path), SETTINGS).outputs == 1

    def test_warnings(self, tmp_path: Path) -> None:
        nothing = job(tmp_path)
        assert new_shards(nothing, [SHARD], SETTINGS) == (
            [SHARD],
            [f"input.history: no output of an earlier run under {tmp_path}/out/*; all is new"],
        )
        publish(tmp_path / "old" / "one", entry(SHARD))
        elsewhere = job(tmp_path, history=[f"{tmp_path}/old/*", f"{tmp_path}/older/*/"])
        assert new_shards(elsewhere, [SHARD, STORED], SETTINGS) == (
            [STORED],
            [f"input.history: does not match {tmp_path}/out/today, so the next run will not know of this one"],
        )

    def test_it_is_asked_for(self, tmp_path: Path) -> None:
        publish(tmp_path / "out" / "yesterday", entry(SHARD))
        assert new_shards(job(tmp_path, only_new=False), [SHARD], SETTINGS) == ([SHARD], [])


@dataclass
class Nightly(Bench):
    """A bench whose output is that of a night."""

    night: str = ""

    @property
    def output(self) -> Path:
        return self.folder / "out" / self.night

    def run(self, night: str, *arguments: str, **settings: Any) -> Outcome:
        self.night = night
        settings["input"] = {"only_new": True, "history": "out/*", **settings.get("input", {})}
        settings["output"] = {"path": "out/{run_date}", **settings.get("output", {})}
        return self.score("--run_date", night, *arguments, **settings)


ROWS = make_rows(12)
SHARDS = {"a": ROWS[:5], "b": ROWS[5:8], "c": ROWS[8:]}
FIRST, SECOND, THIRD = "2024-05-01", "2024-05-02", "2024-05-03"


@pytest.fixture
def nightly(bench: Bench) -> Nightly:
    """A job whose shards a and b were scored in the first night; c came later."""
    nightly = Nightly(bench.folder, bench.model_dir, bench.capture, bench.log)
    lay(nightly, "a", "b")
    first = nightly.run(FIRST)
    assert first.code == 0, first.error
    assert first.scored == nightly.expected(ROWS[:8])
    assert (first.report["known_shards"], len(first.report["warnings"])) == (0, 1)
    lay(nightly, "c")
    return nightly


def lay(bench: Bench, *names: str) -> None:
    for name in names:
        bench.shard(tfrecord([example(row) for row in SHARDS[name]]), name)


def test_a_night_scores_what_is_new(nightly: Nightly) -> None:
    outcome = nightly.run(SECOND)
    assert outcome.code == 0, outcome.error
    assert outcome.scored == nightly.expected(ROWS[8:])
    assert list(outcome.states) == ["c.tfrecord"]
    assert (outcome.report["shards"], outcome.report["known_shards"], outcome.report["warnings"]) == (1, 2, [])
    assert "shards      1, and 2 that earlier runs have scored" in outcome.said


def test_nothing_new_is_told_and_publishes_nothing(nightly: Nightly) -> None:
    assert nightly.run(SECOND).code == 0
    outcome = nightly.run(THIRD)
    assert outcome.code == 0, outcome.error
    assert (outcome.report["status"], outcome.report["known_shards"]) == ("skipped", 3)
    assert "nothing is new: earlier runs have scored all shards of the input, 3 (input.only_new)" in outcome.said
    assert nightly.has_no_output
    assert not list(nightly.output.rglob("*.*"))


def test_a_shard_that_was_changed_is_new(nightly: Nightly) -> None:
    assert nightly.run(SECOND).code == 0
    os.utime(nightly.folder / "in" / "a.tfrecord", (1, 1))
    assert list(nightly.run(THIRD).states) == ["a.tfrecord"]


def test_with_other_settings_all_is_new(nightly: Nightly) -> None:
    assert nightly.run(SECOND, batch={"rows": 2}).scored == nightly.expected(ROWS)


def test_what_was_broken_is_new_when_it_is_mended(nightly: Nightly) -> None:
    whole = (nightly.folder / "in" / "c.tfrecord").read_bytes()
    nightly.shard(whole[:-5], "c")
    budget = {"max_broken_shards": 1}
    assert nightly.run(SECOND, errors=budget).states["c.tfrecord"][0] == "tail_lost"
    assert list(nightly.run(THIRD, errors=budget).states) == ["c.tfrecord"]  # as it was: it may be read in full now
    nightly.shard(whole, "c")
    assert nightly.run("2024-05-04").scored == nightly.expected(ROWS[8:])


def test_a_rerun_of_a_night_scores_it_again(nightly: Nightly) -> None:
    nightly.run(SECOND)
    again = nightly.run(SECOND, output={"if_exists": "overwrite"})
    assert again.scored == nightly.expected(ROWS[8:])


def test_a_night_is_not_stale_for_what_other_nights_have(nightly: Nightly) -> None:
    nightly.run(SECOND)
    for night in (FIRST, SECOND):
        skipped = nightly.run(night, output={"if_exists": "skip"})
        assert (skipped.report["status"], skipped.report["stale"]) == ("skipped", [])
    nightly.shard(tfrecord([example(row) for row in make_rows(1, 50)]), "d")
    skipped = nightly.run(FIRST, output={"if_exists": "skip"})
    assert skipped.report["stale"] == [f"shards added: {nightly.folder}/in/d.tfrecord"]


def test_a_trial_run_is_of_what_is_new(nightly: Nightly) -> None:
    nightly.shard(tfrecord([example(row) for row in make_rows(1, 50)]), "d")
    assert list(nightly.run(SECOND, "--limit_shards", "1", "--limit_rows", "2").states) == ["c.tfrecord"]
    assert list(nightly.run(THIRD).states) == ["c.tfrecord", "d.tfrecord"]


def test_joined_shards_are_known_one_by_one(nightly: Nightly) -> None:
    joined = nightly.run(SECOND, input={"only_new": False}, output={"rows_per_file": 100})
    assert joined.manifest is not None
    assert (len(joined.manifest["files"]), len(joined.states)) == (1, 3)
    (nightly.folder / "out" / FIRST / "_SUCCESS").unlink()
    os.utime(nightly.folder / "in" / "b.tfrecord", (1, 1))
    assert list(nightly.run(THIRD, output={"rows_per_file": 100}).states) == ["b.tfrecord"]


def test_a_split_shard_is_known_as_one(nightly: Nightly) -> None:
    nightly.format = "parquet"
    nightly.shard(in_groups(ROWS, 3), "large")
    split = {"pattern": "in/*.parquet", "split_bytes": 1}
    first = nightly.run(SECOND, input=split)
    assert first.manifest is not None
    assert (len(first.manifest["files"]), list(first.states)) == (4, ["large.parquet"])
    nightly.shard(in_groups(make_rows(4, 50), 3), "small")
    second = nightly.run(THIRD, input={"pattern": "in/*.parquet"})
    assert (list(second.states), second.report["known_shards"]) == (["small.parquet"], 1)


def test_a_run_that_failed_is_gone_on_with(nightly: Nightly) -> None:
    whole = (nightly.folder / "in" / "c.tfrecord").read_bytes()
    nightly.shard(whole[:-5], "c")
    nightly.shard(tfrecord([example(row) for row in make_rows(1, 50)]), "d")
    assert nightly.run(SECOND).code == 4
    nightly.shard(whole, "c")
    outcome = nightly.run(SECOND)
    assert outcome.code == 0, outcome.error
    assert (list(outcome.states), outcome.report["resumed_parts"]) == (["c.tfrecord", "d.tfrecord"], 1)


def test_check_tells_how_many_are_new(nightly: Nightly) -> None:
    nightly.run(SECOND)
    lay(nightly, "a")
    os.utime(nightly.folder / "in" / "a.tfrecord", (1, 1))
    nightly.night = THIRD
    outcome = nightly.command("check", "--config", str(nightly.folder / "job.yaml"), "--run_date", THIRD)
    assert outcome.code == 0, outcome.error
    assert "new         1 of them; earlier runs have scored the others" in outcome.said


def test_history_is_needed(bench: Bench) -> None:
    lay(bench, "a")
    outcome = bench.score(input={"only_new": True})
    assert outcome.code == 2
    assert "job.yaml:4: input.history: is missing; only_new leaves out what earlier runs have scored" in outcome.error
