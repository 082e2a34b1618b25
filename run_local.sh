#!/usr/bin/env bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$root/scripts/environment.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat << 'HELP'
./run_local.sh
    Sets up .venv, trains the digits example, scores its shards and shows the accuracy. All it makes is in .venv and work/.
./run_local.sh --config my.yaml [options]
    Scores a job of your own in the same environment. All options: .venv/bin/estimator-score score --help

The second run installs nothing. From the environment:
    PYTHON   the interpreter to use; otherwise Python 3.11, 3.12, 3.13 or 3.10 is looked for, on PATH and in pyenv
    VENV     the folder of the environment, .venv beside this script when not given
HELP
  exit
fi

find_python 3.11 3.12 3.13 3.10
venv=${VENV:-.venv}
[[ $venv == /* ]] || venv=$root/$venv
(cd "$root" && make_environment "$venv" 2.21 examples) # a subshell: paths among the arguments keep their meaning

if [[ $# -gt 0 ]]; then
  exec "$venv/bin/estimator-score" score "$@"
fi

cd "$root"
if [[ ! -f work/digits/evaluation.json ]]; then # the last file that the trainer writes
  echo "Training the digits example into work/digits"
  "$venv/bin/python" -m examples.digits.train --work work/digits
fi
"$venv/bin/estimator-score" score --config configs/digits.yaml
"$venv/bin/python" -m examples.digits.accuracy --work work/digits
