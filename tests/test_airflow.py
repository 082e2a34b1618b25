"""configs/schedule/digits_nightly.py in an Airflow of its own: it loads, and a date that is started twice is scored once.

`pytest -m airflow tests/test_airflow.py`; see `airflow_environment.py` for what that needs.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist

import pytest
from airflow_environment import Airflow, environment
from schedule_home import ROOT, Home

from examples.digits import train
from pipeline import commands

pytestmark = [pytest.mark.airflow, pytest.mark.any_tensorflow, pytest.mark.timeout(400)]

DATE = "2024-05-01"

TOLD = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({folder!r})
dag = bag.dags["digits_nightly"]
(task,) = dag.tasks
print(json.dumps([bag.import_errors, dag.catchup, dag.max_active_runs, task.depends_on_past, task.retries]))
"""

ENDS = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("digits_nightly", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
ends = []
for case in {cases!r}:
    (module.HOME / "case.json").write_text(json.dumps(case))
    try:
        module.Score(task_id="score", config=module.HOME / "nightly.yaml", run_date={date!r}).execute({{}})
        ends.append(["success", ""])
    except Exception as error:
        ends.append([type(error).__name__, str(error)])
print(json.dumps(ends))
"""
"""Runs the task, with another command in place of estimator-score, and tells how it ends."""

COMMAND = """#!/usr/bin/env python3
import json, pathlib, sys
home = pathlib.Path(__file__).parents[2]
with open(home / "arguments", "a") as file:
    print(*sys.argv[1:], file=file)
case = json.loads((home / "case.json").read_text())
pathlib.Path(sys.argv[-1]).write_text(json.dumps(case))
sys.exit(case["exit_code"])
"""

AGAIN, AT_ONCE = "AirflowException", "AirflowFailException"
CASES = [
    ({"exit_code": 1, "error": "the reason"}, AGAIN, "exit code 1: the reason"),
    ({"exit_code": 2}, AT_ONCE, "exit code 2: see the last lines of the log"),
    ({"exit_code": 3}, AGAIN, "exit code 3"),
    ({"exit_code": 4}, AT_ONCE, "exit code 4"),
    ({"exit_code": 5}, AT_ONCE, "exit code 5"),
    ({"exit_code": 6}, AT_ONCE, "exit code 6"),
    ({"exit_code": 7}, AT_ONCE, "exit code 7"),
    ({"exit_code": 143}, AGAIN, "exit code 143"),
    ({"exit_code": 0, "status": "done", "known_shards": 3}, "success", ""),
    ({"exit_code": 0, "status": "skipped", "known_shards": 0}, "success", ""),
    ({"exit_code": 0, "status": "skipped", "known_shards": 3}, "AirflowSkipException", "no new shards"),
]
"""The report of a run; how the task ends, and what it says."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The checkout with the digits example, trained for a moment, and the shards of one day."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.add_command()
    home.copy("nightly.yaml", "digits_nightly.py")
    shutil.copy(ROOT / "configs" / "digits.yaml", home.folder / "configs")
    shutil.copytree(ROOT / "examples" / "digits", home.folder / "examples" / "digits")
    work = home.folder / "work" / "digits"
    train.train(work, steps=100)
    shutil.copytree(work / "shards", work / "days" / DATE)
    (work / "days" / DATE / "_SUCCESS").touch()
    return home


@pytest.fixture(scope="module")
def airflow(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    try:
        environment()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Airflow cannot be installed here: {shlex.join(error.cmd)} ended with {error.returncode}")
    airflow = Airflow(tmp_path_factory.mktemp("airflow"), home.nightly.parent)
    airflow.airflow("db", "migrate")
    airflow.airflow("dags", "reserialize")
    return airflow


def test_the_dag_loads(airflow: Airflow) -> None:
    errors, catchup, max_active_runs, depends_on_past, retries = airflow.python(TOLD.format(folder=str(airflow.dags)))
    assert (errors, catchup, max_active_runs, depends_on_past, retries) == ({}, False, 1, False, 4)
    assert "No data found" in airflow.airflow("dags", "list-import-errors")


def test_a_date_that_is_started_twice_is_scored_once(airflow: Airflow, home: Home) -> None:
    states, reports, written = [], [], []
    for _ in range(2):
        airflow.airflow("dags", "test", "digits_nightly", DATE)
        states += airflow.query("SELECT state FROM task_instance WHERE task_id = 'score'")
        ((report,),) = airflow.query("SELECT value FROM xcom WHERE key = 'return_value'")
        reports.append(json.loads(report))
        parts = sorted(home.output(DATE).glob("part-*.parquet"))
        written.append((home.run_id(DATE), [part.stat().st_mtime_ns for part in parts]))

    assert states == [("success",)] * 2
    assert [(report["status"], report["exit_code"]) for report in reports] == [("done", 0), ("skipped", 0)]
    assert reports[0]["rows"] == {"read": 450, "scored": 450, "rejected": 0}
    assert home.scored(DATE) == 450
    assert written[0] == written[1]


def test_how_exit_codes_end_the_task(airflow: Airflow, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.copy("digits_nightly.py")
    script = tmp_path / ".venv" / "bin" / "estimator-score"
    script.parent.mkdir(parents=True)
    script.write_text(COMMAND)
    script.chmod(0o755)
    path = home.nightly.with_name("digits_nightly.py")

    ends = airflow.python(ENDS.format(path=str(path), cases=[case for case, _, _ in CASES], date=DATE))

    for (case, kind, message), (its_kind, its_message) in zip(CASES, ends, strict=True):
        assert its_kind == kind, case
        assert its_message.startswith(message), case
    for line in (tmp_path / "arguments").read_text().splitlines():
        known, rest = commands._parser().parse_known_args(line.split())
        assert (known.command, known.run_date, rest) == ("score", DATE, [])


def test_the_backfill_shown_is_of_the_dates_it_says(airflow: Airflow) -> None:
    text = (ROOT / "docs" / "schedule.md").read_text()
    (shown,) = re.findall(r"^airflow (backfill create .*)$", text, re.MULTILINE)
    said = airflow.airflow(*shown.split(), "--dry-run")
    assert re.findall(r"^\| (\d{4}-\d\d-\d\d) ", said, re.MULTILINE) == ["2024-05-01", "2024-05-02", "2024-05-03"]
