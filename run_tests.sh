#!/usr/bin/env bash
# Runs the tests on both TensorFlow versions at once; arguments go to pytest. TENSORFLOW=2.15 or 2.21: on that one alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

ordinary="not long and not flink and not runners and not airflow"
versions=() folders=() marks=() processes=() closing_lines="" failed=0
for tensorflow in ${TENSORFLOW:-2.21 2.15}; do
  case $tensorflow in
    2.21) folder=.venv extras=examples,dev,fit pythons=(3.11 3.12 3.13 3.10) marked=$ordinary ;;
    2.15) folder=.venv-tf2.15 extras=examples,dev pythons=(3.11 3.10) marked="$ordinary and not any_tensorflow" ;;
    *) echo "TENSORFLOW=$tensorflow: the tests run on 2.21 and 2.15" >&2 && exit 2 ;;
  esac
  if ! find_python "${pythons[@]}"; then
    [[ $tensorflow == 2.15 && -z ${TENSORFLOW:-} ]] || exit 2
    closing_lines+="TensorFlow 2.15: skipped, it needs Python 3.10 or 3.11 and none was found"$'\n'
    continue
  fi
  make_environment "$folder" "$tensorflow" "$extras"
  : > "$folder/.pytest-output"
  versions+=("$tensorflow") folders+=("$folder") marks+=("$marked")
done

trap 'kill "${processes[@]}" 2> /dev/null || true' EXIT
for index in "${!folders[@]}"; do
  "${folders[index]}/bin/python" -m pytest -m "${marks[index]}" "$@" >> "${folders[index]}/.pytest-output" 2>&1 &
  processes+=($!)
done
for index in "${!folders[@]}"; do
  folder=${folders[index]}
  echo "TensorFlow ${versions[index]}, $("$folder/bin/python" -V)"
  tail -n +1 -f --pid="${processes[index]}" "$folder/.pytest-output"  # as it is written, until that process ends
  wait "${processes[index]}" || failed=1
  closing_lines+="TensorFlow ${versions[index]}: $(tail -n 1 "$folder/.pytest-output")"$'\n'
done
printf '\n%s' "$closing_lines"
exit "$failed"
