#!/usr/bin/env bash
# Tests on a real Flink cluster of this machine, with TensorFlow 2.21; arguments go to pytest. Needs Java 11 or 17 and Maven;
# what they download and build stays in FLINK_CACHE, or ~/.cache/estimator-score. All of them: -m flink
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

find_python 3.11 3.12 3.13 3.10
make_environment .venv 2.21 examples,dev,fit
.venv/bin/python -m pytest tests/test_flink.py tests/test_flink_versions.py -m "flink and not long" --durations 0 "$@"
