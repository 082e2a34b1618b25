"""Scores each day's shards at 05:00 UTC of the day after, on Airflow 3. To install it:

install -m 644 configs/schedule/digits_nightly.py "$(airflow config get-value core dags_folder)"

The date of a run (`ds`, the start of its data interval) is the date of the shards. What was missed is not caught up by
itself: `airflow backfill create` does it, see docs/schedule.md.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, Context, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

HOME = Path("/opt/estimator-score")
"""The checkout, with the environment that run_local.sh has made."""


class Score(BaseOperator):
    """Runs `score` in the environment of the project: that of Airflow needs neither TensorFlow nor Beam.

    The task succeeds when the output of the date is complete, whether this run has made it or found it; it is skipped when
    `input.only_new` found nothing. It returns the report of the run. Job and model are a human's case, and are not retried.
    """

    template_fields = ("run_date",)

    def __init__(self, config: Path, run_date: str = "{{ ds }}", **settings: Any):
        super().__init__(**settings)
        self.config, self.run_date = config, run_date

    def execute(self, context: Context) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            path = Path(folder, "report.json")
            command = [HOME / ".venv/bin/estimator-score", "score", "--config", self.config]
            command += ["--run_date", self.run_date, "--report", path]
            code = self._process.run_command([str(word) for word in command]).exit_code
            report = json.loads(path.read_text()) if path.exists() else {}
        if code:
            message = f"exit code {code}: {report.get('error') or 'see the last lines of the log'}"
            raise (AirflowFailException if code in (2, 4, 5, 6, 7) else AirflowException)(message)
        if report["status"] == "skipped" and report["known_shards"]:
            raise AirflowSkipException("no new shards, so there is no output for this date")
        return report

    def on_kill(self) -> None:
        self._process.send_sigterm()

    @cached_property
    def _process(self) -> SubprocessHook:
        return SubprocessHook()


with DAG(
    "digits_nightly",
    schedule=CronDataIntervalTimetable("0 5 * * *", timezone="UTC"),
    start_date=datetime(2024, 5, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"depends_on_past": False},
):
    Score(
        task_id="score",
        config=HOME / "configs/schedule/nightly.yaml",
        retries=4,
        retry_delay=timedelta(minutes=10),
        execution_timeout=timedelta(hours=8),
    )
