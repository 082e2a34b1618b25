#!/usr/bin/env bash
# Runs the job on Beam's portable runners (Prism, Spark, the embedded job service), with workers that Beam's boot program
# starts, and the install steps of the Dockerfile. What they need is downloaded and built once, see tests/portable_runners.py;
# a test whose download is impossible is skipped and says so. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

find_python 3.11 3.12 3.13 3.10
make_environment .venv 2.21 examples,dev,fit
.venv/bin/python -m pytest -m "runners and not long" "$@" \
  tests/test_image.py tests/test_portable_workers.py tests/test_prism.py tests/test_spark.py
