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

if ! [ -x "$dir/bin/python" ]; then
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3.12 python3.11 python3; do
    if supported "$candidate"; then python=$candidate && break; fi
  done
  if [ -z "$python" ]; then
    echo "error: found no Python 3.11 or 3.12 (the versions that fairseq has wheels for);" >&2
    echo "       install one, or name it: make install PYTHON=/path/to/python3.12" >&2
    exit 1
  fi
  echo "environment: $("$python" --version) in $dir"
  if ! "$python" -m venv "$dir.new" >/dev/null 2>&1; then
    rm -rf "$dir.new"
    echo "error: '$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
  rm -rf "$dir.new"
  "$python" -m venv "$dir"
fi

echo "environment: installing requirements.txt into $dir (a minute or two; log in $log)"
if ! "$dir/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
  -r requirements.txt 2>&1 | tee "$log" | awk -v screen="$([ -t 1 ] && echo 1)" '
    /^Collecting/ && screen { printf "\r  %d packages found ", ++found; fflush() }
    /^Installing collected/ { if (screen) print ""; print "  installing them"; fflush() }'; then
  tail -n 8 "$log" >&2
  echo "error: the installation failed; see $log, and run make install again" >&2
  exit 1
fi
