"""Budgets, inputs and outputs as a whole: what a run puts up with, what it refuses, and what it leaves untouched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import bad_inputs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_inputs import FEATURES, TEXT_MARK, Bench, Row, example, make_rows, tfrecord

from pipeline import files

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench

NOTHING = "nothing was published; parts that are whole are kept, and are not scored again"


def shard_of(rows: Sequence[Row], bad: Sequence[int] = ()) -> bytes:
    """A TFRecord shard in which the rows at these places have no `x`."""
    return tfrecord([example(without(row, "x") if place in bad else row) for place, row in enumerate(rows)])


def without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


@pytest.mark.fault("too-many-bad-rows")
@pytest.mark.parametrize(
    ("budget", "enough"),
    [(0, False), (2, False), (3, True), (0.14, False), (0.15, True), (0.9, True)],
)
def test_budget_of_bad_rows(budget: float, enough: bool, bench: Bench) -> None:
    rows = make_rows(20)
    bad = [3, 4, 17]
    bench.shard(shard_of(rows[:10], [3, 4]), "a")
    bench.shard(shard_of(rows[10:], [7]), "b")
    outcome = bench.score(errors={"max_bad_rows": budget})
    reason = "feature 'x': missing, and it has no default"
    places = [("a.tfrecord", 3), ("a.tfrecord", 4), ("b.tfrecord", 7)]
    assert outcome.reasons == [(*place, "read", reason) for place in places]
    if enough:
        assert outcome.code == 0, outcome.error
        assert outcome.rows == (20, 17, 3)
        assert outcome.scored == bench.expected(row for row in rows if row["id"] not in bad)
        assert outcome.report["rejected_path"] == str(bench.output / "_rejected")
    else:
        assert outcome.code == 4
        assert outcome.error == (
            f"error: 3 of 20 rows were rejected, more than errors.max_bad_rows: {budget} allows\n"
            f"{NOTHING}\nrejected rows: {bench.output}/_rejected\n"
        )
        assert outcome.report["status"] == "failed"
        assert outcome.report["exit_code"] == 4
        assert (outcome.manifest, outcome.success, outcome.scored) == (None, False, {})


def test_larger_budget_scores_nothing_again(bench: Bench) -> None:
    rows = make_rows(10)
    bench.shard(shard_of(rows, [3]))
    assert bench.score().code == 4
    outcome = bench.score(errors={"max_bad_rows": 1})
    assert outcome.code == 0, outcome.error
    assert outcome.manifest is not None
    assert outcome.manifest["resumed_parts"] == 1
    assert outcome.scored == bench.expected(rows[:3] + rows[4:])
    assert not (bench.output / "_temporary").exists()


def test_rejected_rows_at_a_path_of_their_own(bench: Bench) -> None:
    bench.shard(shard_of(make_rows(4), [1]))
    elsewhere = bench.folder / "rejected"
    errors = {"rejected_path": str(elsewhere)}
    refused = bench.score(errors=errors)
    assert refused.code == 4
    assert refused.error.endswith(f"rejected rows: {elsewhere}\n")
    (kept,) = elsewhere.glob("*.parquet")
    assert pq.read_table(kept).column("_row").to_pylist() == [1]

    outcome = bench.score(errors={**errors, "max_bad_rows": 1})
    assert outcome.code == 0, outcome.error
    (kept,) = elsewhere.glob("*.parquet")
    assert pq.read_table(kept).column("_row").to_pylist() == [1]
    assert not (bench.output / "_rejected").exists()


@pytest.mark.fault("one-broken-shard")
@pytest.mark.parametrize(("budget", "enough"), [(1, False), (2, True), (0.4, False), (0.5, True)])
def test_budget_of_broken_shards(budget: float, enough: bool, bench: Bench) -> None:
    rows = make_rows(4)
    for name, content in (("a", b"no record"), ("b", shard_of(rows[:2])), ("c", b"none"), ("d", shard_of(rows[2:]))):
        bench.shard(content, name)
    outcome = bench.score(errors={"max_broken_shards": budget})
    assert outcome.code == (0 if enough else 4)
    if enough:
        assert outcome.scored == bench.expected(rows)
        assert outcome.success
    else:
        cause = "unreadable: record 0: the file ends inside its length"
        shards = bench.folder / "in"
        assert outcome.error == (
            f"error: 2 of 4 shards are broken, more than errors.max_broken_shards: {budget} allows: "
            f"{shards}/a.tfrecord ({cause}); {shards}/c.tfrecord ({cause})\n{NOTHING}\n"
        )
        assert not outcome.success


def test_no_budget_of_bad_rows_covers_a_broken_shard(bench: Bench) -> None:
    rows = make_rows(4)
    bench.shard(shard_of(rows)[:-3], "a")
    bench.shard(shard_of(make_rows(4, first=4), [0]), "b")
    outcome = bench.score(errors={"max_bad_rows": 1000})
    assert outcome.code == 4
    assert "1 of 2 shards are broken" in outcome.error
    assert "were rejected" not in outcome.error


def test_both_budgets_are_told_of(bench: Bench) -> None:
    bench.shard(shard_of(make_rows(4))[:-3], "a")
    bench.shard(shard_of(make_rows(4, first=4), [0]), "b")
    outcome = bench.score()
    assert outcome.code == 4
    assert outcome.error.startswith(
        "error: 1 of 7 rows were rejected, more than errors.max_bad_rows: 0 allows\n1 of 2 shards"
    )


def test_rerun_scores_the_mended_shard_alone(bench: Bench) -> None:
    rows = make_rows(9)
    contents = {name: shard_of(rows[start : start + 3]) for name, start in (("a", 0), ("b", 3), ("c", 6))}
    for name, content in contents.items():
        bench.shard(content[:-3] if name == "b" else content, name)
    assert bench.score().code == 4
    kept = {path.stat().st_ino for path in (bench.output / "_temporary").glob("*/*.parquet")}

    bench.shard(contents["b"], "b")
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    assert outcome.scored == bench.expected(rows)
    assert outcome.manifest is not None
    assert outcome.manifest["resumed_parts"] == 2
    published = [path.stat().st_ino in kept for path in sorted(bench.output.glob("part-*.parquet"))]
    assert published == [True, False, True]


def absent(rows: int, bench: Bench) -> None:
    """Two shards whose rows have no words, and no `x`, which then has a default."""
    bench.settings = {"features": {**FEATURES, "x": {"dtype": "float32", "default": 0.0}}}
    records = [example(without(row, "x", "words")) for row in make_rows(rows)]
    bench.shard(tfrecord(records[:500]), "a")
    bench.shard(tfrecord(records[500:]), "b")


@pytest.mark.fault("feature-always-absent")
def test_feature_that_a_large_input_never_has(bench: Bench) -> None:
    absent(1000, bench)
    outcome = bench.score()
    assert outcome.code == 3
    assert outcome.error == (
        "error: no row of 1000 has a value for: x, words; correct input.rename, or list under input.optional what shards "
        "may lack (this holds from 1000 rows on); nothing was published\n"
    )
    assert not outcome.success

    allowed = bench.score(input={"optional": ["x", "words"]})
    assert allowed.code == 0, allowed.error
    assert allowed.manifest is not None
    assert allowed.manifest["features"]["x"] == {"present": 0, "missing": 1000}


def test_feature_that_a_small_input_never_has(bench: Bench) -> None:
    absent(999, bench)
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    assert outcome.rows == (999, 999, 0)


def test_feature_that_one_large_shard_never_has_is_a_warning(bench: Bench) -> None:
    rows = make_rows(1001)
    path = bench.shard(tfrecord([example(without(row, "words")) for row in rows[:1000]]), "a")
    bench.shard(tfrecord([example(rows[1000])]), "b")
    assert rows[1000]["words"]
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    assert outcome.report["warnings"] == [
        f"{path}: none of its 1000 rows has a value for the feature words, unlike other shards"
    ]


@pytest.mark.fault("no-shard-matches")
@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("in/*.parquet", "holds 1 file (a.tfrecord)"),
        ("nowhere/*.tfrecord", "there is no folder "),
        ("in", "which is a folder; write "),
        (["in/a.tfrecord", "in/b.tfrecord"], "no file matches "),
        ("in/_*", "names like _*, .* are no shards (input.ignore)"),
    ],
    ids=["extension", "folder", "folder alone", "second", "ignored"],
)
def test_no_shard_matches(pattern: Any, message: str, bench: Bench) -> None:
    bench.shard(shard_of(make_rows(2)))
    if pattern == "in/_*":
        (bench.folder / "in" / "_b.tfrecord").touch()
    outcome = bench.score(input={"pattern": pattern})
    assert outcome.code == 3
    assert outcome.error.startswith("error: input.pattern: no file matches ")
    assert message in outcome.error
    assert outcome.report["status"] == "failed"
    assert bench.has_no_output


@pytest.mark.fault("link-leads-nowhere")
def test_link_that_leads_nowhere(bench: Bench) -> None:
    bench.shard(shard_of(make_rows(2)), "a")
    (bench.folder / "in" / "b.tfrecord").symlink_to("nowhere")
    outcome = bench.score(errors={"max_broken_shards": 1})
    assert outcome.code == 3
    assert "b.tfrecord" in outcome.error
    assert outcome.error.count("\n") == 1


@pytest.mark.fault("shard-cannot-be-opened")
def test_shard_that_cannot_be_opened(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(2)
    path = bench.shard(b"somebody else's", "a")
    bench.shard(shard_of(rows), "b")
    open_read = files.open_read

    def refuse(name: str) -> BinaryIO:
        if name == str(path):
            raise PermissionError(13, "Permission denied", name)
        return open_read(name)

    monkeypatch.setattr(files, "open_read", refuse)
    outcome = bench.score(errors={"max_broken_shards": 1})
    assert outcome.code == 0, outcome.error
    assert outcome.states == {"a.tfrecord": ("unreadable", 0, None), "b.tfrecord": ("done", 2, 0)}
    assert outcome.report["warnings"] == [f"{path}: unreadable: the file cannot be opened (PermissionError)"]
    assert outcome.scored == bench.expected(rows)


@pytest.mark.fault("shard-numbers-missing")
def test_missing_numbers_of_shards_are_a_warning(bench: Bench) -> None:
    bench.shard(shard_of(make_rows(2)), "rows-00000-of-00003")
    bench.shard(shard_of(make_rows(2, first=2)), "rows-00002-of-00003")
    outcome = bench.score()
    assert outcome.code == 0, outcome.error
    (warning,) = outcome.report["warnings"]
    assert warning.endswith("rows-*-of-00003.tfrecord: 1 of 3 shards are not there: 00001")


def test_output_that_exists(bench: Bench) -> None:
    rows = make_rows(6)
    bench.shard(shard_of(rows[:3]))
    assert bench.score().code == 0
    first = (bench.output / "_SUCCESS").read_text()
    bench.shard(shard_of(rows[3:]))

    refused = bench.score()
    assert refused.code == 7
    assert refused.error == (
        f"error: output.path: {bench.output} holds an output already; write output.if_exists: skip to leave it as it is, "
        "or overwrite to replace it\n"
    )
    skipped = bench.score(output={"if_exists": "skip"})
    assert skipped.code == 0
    assert skipped.report["status"] == "skipped"
    assert "is complete already" in skipped.said
    assert (bench.output / "_SUCCESS").read_text() == first
    assert skipped.scored == bench.expected(rows[:3])

    replaced = bench.score(output={"if_exists": "overwrite"})
    assert replaced.code == 0, replaced.error
    assert (bench.output / "_SUCCESS").read_text() != first
    assert replaced.scored == bench.expected(rows[3:])


def test_refused_run_leaves_an_earlier_output_as_it_was(bench: Bench) -> None:
    rows = make_rows(6)
    bench.shard(shard_of(rows[:3]))
    assert bench.score().code == 0
    before = contents(bench.output)
    bench.shard(shard_of(rows[3:], [1]))
    outcome = bench.score(output={"if_exists": "overwrite"})
    assert outcome.code == 4
    assert outcome.error.splitlines()[-1].startswith(f"rejected rows: {bench.output}/_rejected/")
    after = contents(bench.output)
    assert {path: after[path] for path in before} == before
    assert {path.split("/")[0] for path in after.keys() - before.keys()} == {"_FAILED.json", "_rejected", "_temporary"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.fault("foreign-files-at-output")
@pytest.mark.parametrize("if_exists", ["fail", "skip", "overwrite"])
def test_part_of_somebody_else_is_not_deleted(if_exists: str, bench: Bench) -> None:
    bench.shard(shard_of(make_rows(2)))
    bench.output.mkdir()
    pq.write_table(pa.table({"id": [9], "score": [0.5]}), bench.output / "part-00000-of-00009.parquet")
    before = contents(bench.output)
    outcome = bench.score(output={"if_exists": if_exists})
    assert outcome.code == 7
    assert "holds part-00000-of-00009.parquet, which no _manifest.json there names" in outcome.error
    assert contents(bench.output) == before


def test_manifest_of_somebody_else_is_not_replaced(bench: Bench) -> None:
    bench.shard(shard_of(make_rows(2)))
    bench.output.mkdir()
    (bench.output / "_manifest.json").write_text("[]")
    outcome = bench.score(output={"if_exists": "overwrite"})
    assert outcome.code == 7
    assert outcome.error == (
        f"error: {bench.output}/_manifest.json is no manifest of ours; delete it, or write to another output.path\n"
    )


@pytest.mark.fault("output-inside-input")
@pytest.mark.parametrize("path", ["in", "in/out", "../in"])
def test_output_among_the_shards(path: str, bench: Bench) -> None:
    bench.shard(shard_of(make_rows(2)))
    (bench.folder / "deep").mkdir()
    outcome = bench.score(input={"pattern": "in/**"}, output={"path": path if ".." not in path else "deep/../in"})
    assert outcome.code == 2
    assert "output.path: " in outcome.error
    assert "input" in outcome.error
    assert contents(bench.folder / "in").keys() == {"a.tfrecord"}


def test_reasons_and_messages_were_held_against_the_marks(bench: Bench) -> None:
    """The check of the bench itself: a feature whose very name is marked is found in what the command says."""
    name = f"{TEXT_MARK}_amount"
    bench.shard(tfrecord([example(row) for row in make_rows(3)]))
    with pytest.raises(AssertionError, match="values of rows were told"):
        bench.score(features={**FEATURES, name: {"dtype": "float32"}})
