# Sourced by run_local.sh, run_tests.sh and .ci/run, in bash: finds a Python, and makes virtual environments.

# The version of an interpreter, such as 3.11; fails when it does not run, or cannot make environments.
python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2]); import venv, ensurepip' 2> /dev/null
}

# find_python VERSION...: sets python to the first interpreter of one of these versions, in the order given.
# $PYTHON is the only candidate when it is set. Fails, and tells where it looked, when there is none.
find_python() {
  local candidate version seen=""
  local names=("${@/#/python}" python3 python)
  while IFS= read -r candidate; do
    version=$(python_version "$candidate") && [[ " $* " == *" $version "* ]] && python=$candidate && return
    if [[ -z $version ]]; then
      seen+="  $candidate: does not run"$'\n'
    elif [[ " $* " == *" $version "* ]]; then
      seen+="  $candidate: Python $version without venv and ensurepip (Debian, Ubuntu: apt install python3-venv)"$'\n'
    else
      seen+="  $candidate: Python $version"$'\n'
    fi
  done < <(_candidates "$@")

  {
    echo "No usable Python. Needed is one of the versions $* with the modules venv and ensurepip."
    if [[ -n ${PYTHON:-} ]]; then
      echo "PYTHON=$PYTHON was given, and only that was looked at."
    else
      echo "Looked for ${names[*]} on PATH ($PATH), then in ${PYENV_ROOT:-$HOME/.pyenv}/versions."
    fi
    [[ -z $seen ]] || printf 'Found, and not usable:\n%s' "$seen"
    echo "Install one, or name one: PYTHON=/path/to/python $0"
  } >&2
  return 2
}

# Every interpreter that may do, best first: a pyenv shim may stand first on PATH and refuse to run.
_candidates() {
  local name version
  if [[ -n ${PYTHON:-} ]]; then
    type -P "$PYTHON" || echo "$PYTHON"
    return
  fi
  for name in "${@/#/python}" python3 python; do
    type -aP "$name" || true
  done
  for version in "$@"; do
    for name in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
      [[ ! -x $name ]] || echo "$name"
    done
  done
}

# make_environment FOLDER TENSORFLOW EXTRAS: makes the environment FOLDER from $python and installs the project there,
# with the versions of the constraints file. Does nothing when that was done, and nothing it rests on has changed.
make_environment() {
  local folder=$1 extras=$3 made_from inputs installed
  local constraints="constraints/py$(python_version "$python" | tr -d .)-tf$2.txt"

  made_from="$(pwd -P) $("$python" -c 'import sys; print(sys.base_prefix, sys.version)' | tr '\n' ' ')"
  if [[ $(cat "$folder/.made_from" 2> /dev/null) != "$made_from" ]]; then
    echo "Making $folder with $("$python" -V) ($python)"
    "$python" -m venv --clear "$folder"
    echo "$made_from" > "$folder/.made_from"
  fi

  # A line for each set of extras that is installed from the same files; gone while pip runs, so that what was
  # interrupted is done again.
  inputs=$(cat setup.py pyproject.toml "$constraints" | cksum)
  installed=$(grep "^$inputs " "$folder/.installed" 2> /dev/null || true)
  if ! grep -qx "$inputs $extras" <<< "$installed"; then
    echo "Installing into $folder: TensorFlow $2 and what goes with it ($constraints); a few minutes the first time"
    rm -f "$folder/.installed"
    # --no-compile: of all the modules few are ever imported, and those are compiled then
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
      --constraint "$constraints" --editable ".[$extras]"
    printf '%s\n' "$installed" "$inputs $extras" > "$folder/.installed"
  fi
}
