"""configs/schedule/backfill.sh: a range of dates, some of which are done, and some of which have no input."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import schedule_home
from schedule_home import Home

from pipeline.commands import main

pytestmark = pytest.mark.any_tensorflow

DONE, MISSING, NEW = "2024-05-01", "2024-05-02", "2024-05-03"


@pytest.fixture
def home(tmp_path: Path, linear_model_dir: str) -> Home:
    return Home.make(tmp_path, linear_model_dir)


def backfill(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = home.nightly.with_name("backfill.sh")
    return subprocess.run([str(script), *arguments], capture_output=True, text=True, timeout=100)


def test_a_range_of_dates(home: Home) -> None:
    for date in (DONE, NEW):
        home.lay(date)
    assert main(["score", "--config", str(home.nightly), "--run_date", DONE, "--quiet"]) == 0
    run_id = home.run_id(DONE)

    ended = backfill(home, DONE, NEW, "--config", str(home.nightly), "--set", "input.wait=null")

    assert ended.returncode == 1
    assert ended.stderr.endswith(f"Not scored:\n{MISSING}: exit code 3\n")
    assert ended.stdout.startswith(f"{DONE}\n{home.output(DONE)} is complete already (output.if_exists: skip)")
    assert "6 read, 6 scored, 0 rejected" in ended.stdout.rpartition(f"{NEW}\nrows")[2]
    assert f"input.pattern: no file matches {home.folder}/work/digits/days/{MISSING}/*.tfrecord" in ended.stderr
    assert home.run_id(DONE) == run_id
    assert home.scored(NEW) == 2 * schedule_home.ROWS
    assert not (home.output(MISSING) / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((DONE, NEW), "configs/schedule/backfill.sh FROM TO --config FILE"),
        ((DONE, "Friday the 13th", "--config", "job.yaml"), "invalid date"),
        ((DONE, NEW, "--config", "none.yaml"), "none.yaml: no such file"),
    ],
    ids=["no job", "no date", "no job file"],
)
def test_what_is_wrong_for_all_dates_ends_it(arguments: tuple[str, ...], message: str, home: Home) -> None:
    ended = backfill(home, *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert NEW not in ended.stdout
