#!/usr/bin/env bash
# Makes trips, fits the transform, trains, records, scores, and compares the scores and their metrics with the trainer's.
# All it makes is in .venv and work/tabular; what is there from an earlier run is replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/environment.sh

find_python 3.11 3.12 # tensorflow-transform has wheels for these
make_environment .venv 2.21 examples,fit

rm -rf work/tabular
.venv/bin/python -m examples.tabular.data --work work/tabular
.venv/bin/estimator-score fit --config configs/tabular_fit.yaml
.venv/bin/python -m examples.tabular.train --work work/tabular
.venv/bin/estimator-score score --config configs/tabular.yaml
.venv/bin/estimator-score compare work/tabular/predictions work/tabular/trainer_scores.parquet --on trip_id --atol 0
.venv/bin/python -m examples.tabular.evaluate --work work/tabular
