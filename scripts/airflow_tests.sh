#!/usr/bin/env bash
# Runs the tests of the Airflow DAG, in an environment of Airflow's own, which is made the first time and stays in
# FLINK_CACHE, or ~/.cache/estimator-score. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

find_python 3.11 3.12 3.13 3.10
make_environment .venv 2.21 examples,dev,fit
.venv/bin/python -m pytest -m airflow tests/test_airflow.py "$@"
