#!/usr/bin/env bash
# Makes the Python environment that everything else runs in.
#   recipes/environment.sh DIR        (DIR: .venv; PYTHON=... to choose the interpreter)
# An interrupted installation goes on at the next call.
set -euo pipefail

dir=${1:?usage: recipes/environment.sh DIR}
log=$dir/install.log

supported() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null
}

if [[ $PWD == *:* ]]; then # which separates the directories of PATH
  echo "error: there is a colon in the name of $PWD: no environment can be used there, rename it" >&2
  exit 1
fi

if ! "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3; do
    if supported "$candidate"; then
      python=$candidate
      break
    fi
  done
  if [[ -z $python ]]; then
    echo "error: found no Python 3.11 or 3.12 (the versions that fairseq has wheels for):" >&2
    echo "       install one, or name it: make install PYTHON=/path/to/python3.12" >&2
    exit 1
  fi
  rm -rf "$dir"
  echo "environment: $("$python" --version) in $dir"
  if ! "$python" -m venv "$dir" >/dev/null 2>&1; then
    rm -rf "$dir"
    echo "error: '$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
fi

echo "environment: installs requirements.txt (a minute or two; all output in $log)"
"$dir/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
  -r requirements.txt >"$log" 2>&1 &
pip=$!
trap 'kill "$pip" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
while kill -0 "$pip" 2>/dev/null; do
  if [[ -t 1 ]]; then
    printf '\r  %d s, %d packages found' "$SECONDS" "$(grep -c '^Collecting' "$log" || true)"
  fi
  sleep 1
done
[[ ! -t 1 ]] || echo
if ! wait "$pip"; then
  tail -n 8 "$log" >&2
  echo "error: the installation failed; see $log, and run make install again" >&2
  exit 1
fi
