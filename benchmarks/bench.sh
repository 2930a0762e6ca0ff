#!/usr/bin/env bash
# Measures what games cost, from the corpus to the pictures. Run it from the root of the repository.
#
#   benchmarks/bench.sh [NAME...] [OPTIONS]   # of python -m benchmarks, which see
#
#   ARCHIVE local package files to read instead of downloading them, separated by spaces; quoted
#           where there are spaces in their names: "'my files/a.deb' b.deb"
#   PYTHON  the python of the environment (default: python)
#
# On a machine that does nothing else: two threads that wait for each other wait long on a busy one.
set -euo pipefail

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/../recipes/training/job.sh"

python=${PYTHON:-python}
data=data/bench # the default of python -m benchmarks

[[ -d fairseq_adv && -d benchmarks ]] || fail "run it from the root of the repository"
command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
keep_memory

# SALT's published code is measured too; what that needs is no requirement of the project. Where it
# cannot be had, the benchmark that needs it says so.
"$python" -c 'import higher' 2>/dev/null ||
  run "$python" -m pip install --quiet --requirement benchmarks/requirements.txt || true

archives=()
words archives "${ARCHIVE:-}"
mkdir -p data
# The same pairs in several vocabularies: see `MERGES` in scaling.py.
for merges in 10000 1000 3000 30000; do
  out=$data
  ((merges == 10000)) || out+=-$merges
  echo "data: LibreOffice's help texts, $merges BPE merges, as $out"
  run flock --no-fork "data/.bench.lock" \
    "$python" -m data_prep libreoffice-help-de-en --out "$out" --bpe-merges "$merges" \
    ${archives[@]+--archive "${archives[@]}"}
  # What the first one has downloaded is not downloaded again.
  [[ ! -d $data/download ]] || archives=("$data"/download/*.deb)
done

echo "data: film reviews in the pieces of MiniLM, as $data-sentences"
run flock --no-fork "data/.bench.lock" \
  "$python" -m data_prep reviews --encoder minilm --out "$data-sentences"

run "$python" -m benchmarks "$@"
