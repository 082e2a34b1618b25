"""Mutants of shards of every format: a sample of them, thousands where that is asked for, and whether the run would tell."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from fuzz import FORMATS
from fuzz.judge import findings
from fuzz.mutants import Mutant
from fuzz.oracle import Reading, read_csv, read_jsonl
from fuzz.run import names_of, run
from fuzz.subject import Outcome

pytestmark = pytest.mark.any_tensorflow

SAMPLE = 300
LONG = 4_000
"""Mutants of each format."""


@pytest.mark.parametrize("record_format", FORMATS)
def test_a_sample_of_mutants(record_format: str) -> None:
    check(record_format, seed=0, count=SAMPLE)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("record_format", FORMATS)
def test_thousands_of_mutants(record_format: str) -> None:
    check(record_format, seed=1, count=LONG)


def check(record_format: str, seed: int, count: int) -> None:
    report = run(names_of(record_format, seed, count))
    assert not report.findings, str(report)
    counts = report.counts
    assert counts["mutants"] == count
    assert counts["broken"] > count / 5  # containers, records and good rows are all reached
    assert counts["rejected"] > count / 5
    assert counts["scored"] > count / 2
    if record_format != "parquet":  # DuckDB tells nothing of files that it takes for broken
        assert counts["undecided"] < count / 20


def test_a_mutant_is_its_name() -> None:
    first, second = Mutant.named("csv:17"), Mutant("csv", 17)
    assert first.content == second.content
    assert first.content != Mutant("csv", 18).content


def whole_mutant() -> tuple[Mutant, Outcome, Reading]:
    """A mutant whose container is whole, with some rows good and some bad, and what is right for it."""
    for number in range(1000):
        mutant = Mutant("csv", number)
        reading = read_csv(mutant.content)
        rows = dict(enumerate(reading.rows))
        outcome = Outcome(
            read=len(rows),
            scored={number: row for number, row in rows.items() if row is not None},
            rejected={number: "bad" for number, row in rows.items() if row is None},
        )
        if reading.whole and not mutant.damaged and len(outcome.scored) > 1 and outcome.rejected:
            return mutant, outcome, reading
    raise AssertionError("no such mutant")


def lose_a_row(outcome: Outcome) -> None:
    del outcome.scored[min(outcome.scored)]


def change_a_value(outcome: Outcome) -> None:
    outcome.scored[min(outcome.scored)] = outcome.scored[min(outcome.scored)]._replace(n=1234567)


def score_a_bad_row(outcome: Outcome) -> None:
    del outcome.rejected[bad := min(outcome.rejected)]
    outcome.scored[bad] = outcome.scored[min(outcome.scored)]


def reject_a_good_row(outcome: Outcome) -> None:
    del outcome.scored[good := min(outcome.scored)]
    outcome.rejected[good] = "bad"


def call_it_broken(outcome: Outcome) -> None:
    outcome.broken = "broken"


def stop_too_early(outcome: Outcome) -> None:
    outcome.read -= 1
    for rows in (outcome.scored, outcome.rejected):
        rows.pop(outcome.read, None)


SPOIL = [
    (lose_a_row, "rows were read, but"),
    (change_a_value, "was scored with other values"),
    (score_a_bad_row, "was scored, and it is bad"),
    (reject_a_good_row, "is good, and was rejected"),
    (call_it_broken, "was called broken"),
    (stop_too_early, "rows were read of"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOIL, ids=[spoil.__name__ for spoil, _ in SPOIL])
def test_what_is_wrong_is_found(spoil: Callable[[Outcome], None], message: str) -> None:
    mutant, outcome, reading = whole_mutant()
    assert list(findings(mutant, outcome, reading)) == []
    spoil(outcome)
    assert any(message in finding for finding in findings(mutant, outcome, reading))


def test_a_break_that_went_unseen_is_found() -> None:
    mutant, outcome, reading = whole_mutant()
    [finding] = findings(mutant, outcome, reading._replace(whole=False))
    assert finding == "the shard is broken, and was called whole"
    assert not list(findings(mutant, replace(outcome), reading._replace(whole=None)))


def test_a_row_too_many_is_found() -> None:
    mutant, outcome, reading = whole_mutant()
    fewer = reading._replace(rows=reading.rows[:1])
    assert any("is none of the 1 rows of the file" in finding for finding in findings(mutant, outcome, fewer))


def test_the_other_readers_know_their_formats() -> None:
    header = b"x,n,pixels,words,id,note\n"
    assert read_csv(header + b'1,2,"[1,2,3,4]",,,\n').rows[0] is not None
    assert read_csv(header + b'1,2,"[1,2,3]",,,\n').rows == [None]
    assert read_csv(header + b'1,2,"[1,2,3,4]"x,,,\n') == Reading([], False)
    assert read_jsonl(b'{"x": 1, "pixels": [1, 2, 3, 4]}\n{"x": 1e999}\n').rows[1] is None


def worker(*actions: str) -> list[str]:
    """A process in place of the one that reads mutants, which does something at its second one."""
    lines = ["import json, os, sys", "names = sys.stdin.read().split()"]
    done = {"findings": [], "broken": False, "undecided": False, "scored": 1, "rejected": 0, "seconds": 0.1}
    lines += ["for name in names:", " print(json.dumps({'start': name}), flush=True)"]
    lines += [f" if name == 'csv:1': {action}" for action in actions]
    lines += [" print(json.dumps({'read': name}), flush=True)"]
    lines += [f" print(json.dumps({{'done': name, **json.loads({json.dumps(done)!r})}}), flush=True)"]
    return [sys.executable, "-c", "\n".join(lines)]


def test_a_crash_is_that_of_its_mutant_and_the_others_are_read() -> None:
    report = run(names_of("csv", 0, 4), worker("os.abort()"))
    assert (report.counts["mutants"], report.counts["scored"]) == (4, 3)
    assert list(report.findings) == ["csv:1"]
    assert report.findings["csv:1"][0].startswith("the process ended with -6: ")


def test_a_crash_of_the_other_reader_is_none_of_ours() -> None:
    report = run(names_of("csv", 0, 4), worker("print(json.dumps({'read': name}), flush=True); os.abort()"))
    assert (report.counts["mutants"], report.counts["undecided"], report.findings) == (4, 1, {})


def test_a_process_that_cannot_start_is_no_success() -> None:
    with pytest.raises(RuntimeError, match="ended with 3 before the first one"):
        run(names_of("csv", 0, 4), [sys.executable, "-c", "raise SystemExit(3)"])
