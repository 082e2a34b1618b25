"""The command line itself: options, exit codes, where messages go, and that no value of a row is in any of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bad_inputs
import pytest
from bad_inputs import MARKS, TEXT_MARK, Bench, example, make_rows, tfrecord

fragile_model_dir, bench = bad_inputs.fragile_model_dir, bad_inputs.bench


@pytest.fixture
def shard(bench: Bench) -> Path:
    return bench.shard(tfrecord([example(row) for row in make_rows(3)]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frobnicate", "1"], "command line: neither this command nor Beam knows '--frobnicate'; see --help"),
        (["--runner"], "command line: argument --runner: expected one argument"),
        (["--set", "output.pth=x"], "output.pth: unknown key; did you mean 'path'?"),
        (["--set", "output"], "--set output"),
        (["--run_date", "yesterday"], "--run_date"),
        (["--run_date", "2026-02-30"], "--run_date"),
    ],
    ids=["unknown", "no value", "unknown key", "no key", "no date", "no such day"],
)
def test_wrong_options_of_score(arguments: list[str], message: str, bench: Bench, shard: Path) -> None:
    outcome = bench.score(*arguments)
    assert outcome.code == 2
    assert message in outcome.error
    assert bench.has_no_output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["scores"], "invalid choice: 'scores'"),
        (["score"], "the following arguments are required: --config"),
        (["check", "--config", "job.yaml", "--runner", "X"], "unrecognized arguments: --runner X"),
        (["score", "--conf", "job.yaml"], "the following arguments are required: --config"),
        (["inspect"], "the following arguments are required: path"),
        (["score", "--config", "job.yaml", "--limit_rows", "0"], "--limit_rows"),
    ],
    ids=[
        "nothing",
        "no such command",
        "no config",
        "Beam option of check",
        "abbreviation",
        "nothing to inspect",
        "limit",
    ],
)
def test_wrong_command_line(arguments: list[str], message: str, bench: Bench) -> None:
    outcome = bench.command(*arguments)
    assert outcome.code == 2
    assert message in outcome.error


@pytest.mark.parametrize("command", ["score", "check"])
def test_job_file_that_is_not_there(command: str, bench: Bench) -> None:
    outcome = bench.command(command, "--config", str(bench.folder / "absent.yaml"))
    assert outcome.code == 2
    assert outcome.error.startswith("error: ")
    assert "absent.yaml" in outcome.error
    assert outcome.error.count("\n") == 1


def test_run_date_that_is_missing(bench: Bench, shard: Path) -> None:
    outcome = bench.score(output={"path": "out/{run_date}"})
    assert outcome.code == 2
    assert "--run_date" in outcome.error
    dated = bench.score("--run_date", "2026-02-28", output={"path": "out/{run_date}"})
    assert dated.code == 0, dated.error
    assert dated.report["output"] == str(bench.output / "2026-02-28")
    assert json.loads((bench.output / "2026-02-28" / "_manifest.json").read_text())["run_date"] == "2026-02-28"


def test_help_tells_the_exit_codes(bench: Bench) -> None:
    outcome = bench.command("--help")
    assert outcome.code == 0
    assert "4 too many bad rows or broken shards" in outcome.said


@pytest.mark.parametrize(
    "wrong", [{"model": {"checkpoint": 999}}, {"input": {"pattern": "in/*.csv"}}], ids=["model", "input"]
)
def test_check_gives_the_exit_codes_of_score(wrong: dict[str, object], bench: Bench, shard: Path) -> None:
    scored = bench.score(**wrong)
    checked = bench.command("check", "--config", str(bench.folder / "job.yaml"))
    assert (checked.code, checked.error) == (scored.code, scored.error)
    assert checked.code in (3, 6)


def test_check_writes_nothing(bench: Bench, shard: Path) -> None:
    bench.score("--frobnicate")
    outcome = bench.command("check", "--config", str(bench.folder / "job.yaml"))
    assert outcome.code == 0, outcome.error
    assert "the job can run" in outcome.said
    assert bench.has_no_output


@pytest.mark.parametrize("content", [b"", TEXT_MARK.encode(), None], ids=["empty", "text", "nothing there"])
def test_inspect_of_what_is_no_shard(content: bytes | None, bench: Bench) -> None:
    path = bench.folder / "thing.bin"
    if content is not None:
        path.write_bytes(content)
    outcome = bench.command("inspect", str(path))
    assert outcome.code == 2
    assert outcome.error.startswith("error: ")
    assert "thing.bin" in outcome.error


def test_report_that_cannot_be_written(bench: Bench, shard: Path) -> None:
    outcome = bench.score("--report", str(bench.folder / "absent" / "report.json"))
    assert outcome.code == 2
    assert "absent/report.json: No such file or directory" in outcome.error


def test_report_that_cannot_be_written_is_found_before_the_run(bench: Bench, shard: Path) -> None:
    assert bench.score("--report", str(bench.folder / "absent" / "report.json")).code == 2
    assert bench.has_no_output


def test_quiet_says_nothing(bench: Bench, shard: Path) -> None:
    outcome = bench.score("--quiet")
    assert outcome.code == 0
    terminal = outcome.said.removesuffix(json.dumps(outcome.report) + json.dumps(outcome.manifest))
    assert terminal == ""


def test_stopped_from_the_keyboard(bench: Bench, shard: Path) -> None:
    outcome = bench.score(model={"params": {"interrupted": True}})
    assert outcome.code == 130
    assert outcome.error == "stopped; nothing was published\n"
    assert not outcome.success


def test_terminated(bench: Bench, shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import run

    monkeypatch.setattr(run, "match_complete", lambda source, waited: os.kill(os.getpid(), signal.SIGTERM))
    outcome = bench.score()
    assert outcome.code == 143
    assert outcome.error == "terminated; nothing was published\n"


UNFORESEEN = "set ESTIMATOR_SCORE_TRACEBACK=1 to see all of it; it may hold values of rows"


@pytest.mark.parametrize("place", ["a", "b"], ids=["at launch", "in a stage"])
def test_unforeseen_error_tells_class_and_place_alone(place: str, bench: Bench, shard: Path) -> None:
    bench.shard(stumbling(), place)  # the launch looks at the first shard alone
    outcome = bench.score(model={"params": {"stumbling": True}})
    assert outcome.code == 1
    first, second = outcome.error.splitlines()
    assert first.startswith("error: RuntimeError in after_run (")
    assert "fragile_model.py:" in first
    assert second == UNFORESEEN
    assert not outcome.success


def stumbling() -> bytes:
    rows = make_rows(3, first=3)
    return tfrecord([example({**row, "note": f"stumble {row['note']}"}) for row in rows])


@pytest.mark.parametrize(
    ("content", "params", "code", "last"),
    [
        (tfrecord([b"\xff" + TEXT_MARK.encode()]), {}, 4, "rejected rows: "),
        (stumbling(), {"stumbling": True}, 1, UNFORESEEN),
    ],
    ids=["bad row", "unforeseen error"],
)
def test_terminal_of_a_process_of_its_own(
    content: bytes, params: dict[str, bool], code: int, last: str, bench: Bench, shard: Path
) -> None:
    """What loggers write to the terminal where no test listens to them."""
    bench.shard(content, "b")
    bench.score("--frobnicate", model={"params": params})  # leaves the job file
    command = [sys.executable, "-m", "pipeline", "score", "--config", str(bench.folder / "job.yaml")]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=100)
    assert done.returncode == code
    assert not [mark for mark in MARKS if mark in done.stdout + done.stderr]
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[-1].startswith(last)
    assert len(lines) <= 3
    assert done.stdout == ""
