#!/usr/bin/env bash
# Remakes constraints/: the versions that each pair of Python and TensorFlow is tested with. Needs uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p constraints
for pair in 3.10-2.21 3.11-2.21 3.12-2.21 3.13-2.21 3.10-2.15 3.11-2.15; do
  python=${pair%-*} tensorflow=${pair#*-}
  extras=(--extra examples --extra dev)
  [[ $tensorflow == 2.15 ]] || extras+=(--extra fit) # tensorflow-transform 1.21 needs TensorFlow 2.21
  echo "tensorflow==$tensorflow.*" |
    uv pip compile setup.py - "${extras[@]}" --python-version "$python" --upgrade \
      --no-header --no-annotate --quiet --output-file "constraints/py${python/./}-tf$tensorflow.txt" > /dev/null
done
