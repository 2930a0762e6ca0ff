#!/usr/bin/env bash
# Makes the Python environment that everything else runs in.
#   recipes/environment/set_up.sh DIR        (DIR: .venv; PYTHON=... to choose the interpreter)
# Where no Python will do, uv sets one up in DIR/python. It gets it from GitHub, or from the mirror
# that UV_PYTHON_INSTALL_MIRROR names, and comes itself from the package index: see uv.txt.
# An interrupted installation goes on at the next call.
set -euo pipefail

dir=${1:?usage: recipes/environment/set_up.sh DIR}
log=$dir/install.log
uv=$dir/uv/bin/uv
pin=recipes/environment/uv.txt
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 # settings for other installations than these
fitting="Python 3.11 or 3.12 (the versions that fairseq has wheels for)"

fail() { # WHAT_IS_WRONG WHAT_TO_DO
  printf 'error: %s\n       %s\n' "$1" "$2" >&2
  exit 1
}

if [[ $PWD == *:* ]]; then # which separates the directories of PATH
  fail "there is a colon in the name of $PWD" "No environment can be used there: rename it."
fi

supported() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null
}

# Debian has both in a package of their own, which may not be there.
makes_environments() {
  "$1" -c 'import ensurepip, venv' 2>/dev/null
}

has_pip() {
  "$1" -m pip --version >/dev/null 2>&1
}

# All that a command says goes into the log; seconds are shown meanwhile.
logged() { # COMMAND...
  "$@" >>"$log" 2>&1 &
  running=$!
  while kill -0 "$running" 2>/dev/null; do
    if [[ -t 1 ]]; then
      printf '\r  %d s, %d packages found' "$SECONDS" "$(grep -c '^Collecting' "$log" || true)"
    fi
    sleep 0.5
  done
  [[ ! -t 1 ]] || echo
  local status=0
  wait "$running" || status=$?
  running=
  return "$status"
}
running=
trap '[[ -z $running ]] || kill "$running" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

# The last line of the log: of what has failed, why.
reason() {
  awk 'NF { last = $0 } END { sub(/^ *(cause|error|ERROR): /, "", last); print last }' "$log"
}

find_python() {
  local candidate
  if [[ -n ${PYTHON:-} ]]; then
    supported "$PYTHON" ||
      fail "PYTHON=$PYTHON is no $fitting" "Name another, or none: then one is found or set up."
    makes_environments "$PYTHON" ||
      fail "PYTHON=$PYTHON has no venv or no ensurepip" \
        "On Debian and Ubuntu: apt-get install python3-venv; or leave PYTHON out."
    python=$PYTHON
    return
  fi
  for candidate in python3.12 python3.11 python3; do
    if supported "$candidate" && makes_environments "$candidate"; then
      python=$candidate
      return
    fi
  done
  set_up_python
}

set_up_python() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null ||
    fail "found no Python 3" "On Debian and Ubuntu: apt-get install python3"
  echo "environment: found no $fitting with venv and ensurepip:"
  echo "             uv sets one up in $dir/python (its output is in $log)"
  mkdir -p "$dir"
  : >"$log"
  get_uv
  export UV_PYTHON_INSTALL_DIR=$dir/python
  local request=(--managed-python --no-cache '>=3.11,<3.13')
  logged "$uv" python install --no-bin "${request[@]}" ||
    fail "uv could not download a Python: $(reason)" "Set UV_PYTHON_INSTALL_MIRROR to a mirror of \
https://github.com/astral-sh/python-build-standalone/releases/download, or PYTHON to a $fitting."
  python=$("$uv" python find --no-python-downloads "${request[@]}")
}

get_uv() {
  local version get
  version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' "$pin")
  if [[ $("$uv" --version 2>/dev/null) == "uv $version "* ]]; then
    return
  fi
  rm -rf "$dir/uv"
  get=(python3 recipes/environment/fetch_uv.py "$pin" "$dir/uv")
  if has_pip python3; then # it knows its index better, with certificates, proxies and passwords
    get=(python3 -m pip install --disable-pip-version-check --require-hashes --no-deps
      --target "$dir/uv" -r "$pin")
  fi
  logged "${get[@]}" ||
    fail "could not get uv $version from the package index: $(reason)" \
      "Set PIP_INDEX_URL to your index, or PYTHON to a $fitting."
}

if "$dir/bin/python" -c '' 2>/dev/null; then
  supported "$dir/bin/python" ||
    fail "$("$dir/bin/python" --version) is in $dir, not $fitting" \
      "Remove $dir, and run make install again."
  # One that uv made has no pip.
  has_pip "$dir/bin/python" || "$dir/bin/python" -m ensurepip >/dev/null 2>&1 || true
fi
if ! has_pip "$dir/bin/python"; then
  find_python
  echo "environment: $("$python" --version) in $dir"
  if [[ -d $dir ]]; then # but for what uv has made
    find "$dir/" -mindepth 1 -maxdepth 1 ! -name uv ! -name python -exec rm -rf {} +
  fi
  said=$("$python" -m venv "$dir" 2>&1) || fail "'$python -m venv $dir' failed:" "${said##*$'\n'}"
fi

echo "environment: installs requirements.txt (a minute or two; all output in $log)"
: >"$log"
if ! logged "$dir/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
  -r requirements.txt; then
  tail -n 8 "$log" >&2
  fail "the installation failed" "See $log, and run make install again."
fi
