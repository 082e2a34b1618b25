#!/usr/bin/env bash
# Scores a range of dates, one after the other:
#
#     configs/schedule/backfill.sh FROM TO --config FILE [other options of score]
#
# Both dates belong to it. A date that fails does not keep the others from being scored; the last lines tell which have
# failed, and the exit code is 1 then. A wrong job file or command line, and Ctrl-C, end it at once.
set -uo pipefail

if (($# < 4)); then
  sed -n '4s/^# *//p' "$0" >&2
  exit 2
fi
from=$1 to=$2
shift 2
estimator_score=$(dirname "${BASH_SOURCE[0]}")/../../.venv/bin/estimator-score
date=$(date -u -d "$from" +%F) && to=$(date -u -d "$to" +%F) || exit 2

failed=""
while [[ ! $date > $to ]]; do
  echo "$date"
  "$estimator_score" score --run_date "$date" "$@"
  code=$?
  case $code in
    0) ;;
    2 | 130 | 143) exit "$code" ;;
    *) failed+="$date: exit code $code"$'\n' ;;
  esac
  date=$(date -u -d "$date + 1 day" +%F)
done
[[ -z $failed ]] || { printf 'Not scored:\n%s' "$failed" >&2; exit 1; }
