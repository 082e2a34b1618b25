#!/usr/bin/env bash
# Runs the tests on both TensorFlow versions; arguments go to pytest. TENSORFLOW=2.15 or 2.21: on that one alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

closing_lines="" failed=0
for tensorflow in ${TENSORFLOW:-2.21 2.15}; do
  case $tensorflow in
    2.21) folder=.venv extras=examples,dev,fit versions=(3.11 3.12 3.13 3.10) marked="not long and not flink" ;;
    2.15) folder=.venv-tf2.15 extras=examples,dev versions=(3.11 3.10) marked="not long and not flink and not any_tensorflow" ;;
    *) echo "TENSORFLOW=$tensorflow: the tests run on 2.21 and 2.15" >&2 && exit 2 ;;
  esac
  if ! find_python "${versions[@]}"; then
    [[ $tensorflow == 2.15 && -z ${TENSORFLOW:-} ]] || exit 2
    closing_lines+="TensorFlow 2.15: skipped, it needs Python 3.10 or 3.11 and none was found"$'\n'
    continue
  fi
  make_environment "$folder" "$tensorflow" "$extras"
  echo "TensorFlow $tensorflow, $("$python" -V)"
  output="$folder/.pytest-output"
  "$folder/bin/python" -m pytest -m "$marked" "$@" 2>&1 | tee "$output" || failed=1
  closing_lines+="TensorFlow $tensorflow: $(tail -n 1 "$output")"$'\n'
done
printf '\n%s' "$closing_lines"
exit "$failed"
