"""An environment of Airflow's own, with the versions of tests/data/airflow/requirements.txt:

python tests/airflow_environment.py             only make it

It is made once by pip, and stays in FLINK_CACHE, or ~/.cache/estimator-score.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flink_cluster import cache

REQUIREMENTS = Path(__file__).resolve().parent / "data" / "airflow" / "requirements.txt"


def environment() -> Path:
    """The folder of the environment."""
    wanted = REQUIREMENTS.read_text()
    folder = cache() / f"airflow-py{sys.version_info[0]}.{sys.version_info[1]}"
    installed = folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--requirement", str(REQUIREMENTS)], check=True)
        installed.write_text(wanted)
    return folder


@dataclass(frozen=True)
class Airflow:
    """Airflow with a database of its own in `folder`, and the DAGs of the folder `dags`."""

    folder: Path
    dags: Path

    def airflow(self, *arguments: str) -> str:
        """What a command of Airflow says."""
        return self._run([str(environment() / "bin" / "airflow"), *arguments])

    def python(self, code: str) -> Any:
        """What a piece of Python prints there, as JSON on its last line."""
        return json.loads(self._run([str(environment() / "bin" / "python"), "-c", code]).splitlines()[-1])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of Airflow's database."""
        with closing(sqlite3.connect(self.folder / "airflow.db")) as database:
            return database.execute(statement).fetchall()

    def _run(self, command: list[str]) -> str:
        own = {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ended = subprocess.run(command, env=kept | own, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        return ended.stdout


if __name__ == "__main__":
    print(environment())
