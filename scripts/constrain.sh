#!/usr/bin/env bash
# Remakes constraints/: the versions that each pair of Python and TensorFlow is tested with. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p constraints
for pair in 3.10-2.21 3.11-2.21 3.12-2.21 3.13-2.21 3.10-2.15 3.11-2.15; do
  python=${pair%-*} tensorflow=${pair#*-}
  echo "tensorflow==$tensorflow.*" |
    uv pip compile setup.py - --extra examples --extra dev --python-version "$python" --upgrade \
      --no-header --no-annotate --quiet --output-file "constraints/py${python/./}-tf$tensorflow.txt" > /dev/null
done
