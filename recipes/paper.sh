#!/usr/bin/env bash
# The paper's Tables 2 and 3 and its Figure 1: trains and scores all that is in them, several runs at a
# time, and puts the results beside the paper's numbers. Run it from the root of the repository:
#
#   recipes/paper.sh table2|table3|parameter-study [-- OPTIONS]
#
#   OPTIONS    of fairseq-train, for all trainings; they override the recipes'
#
#   RECIPES    (default: the paper's; with SCALE=tiny libreoffice-help-de-en and multi30k-en-de)
#   METHODS    of a table (default: its own, and salt-paper, which plays with the numbers of Table 8)
#   SEEDS      (default: "1 2 3")
#   STEPS      of the study: ascent steps (default: "1 2 3")
#   RADII      of the study: epsilon (default: "0.01 0.03 0.1 0.3 1")
#   GPUS_EACH  of a training (default: 1). The trainings are spread over all GPUs there are
#   JOBS       trainings at a time (default: as many as GPUs allow; without a GPU, one per core)
#   SCALE      tiny: small models, small parts of the corpora. To see that it works
#   DRY_RUN    1: print the command of every run
#   PYTHON     the python of the environment (default: python)
#
# What the recipes take besides (TOKENS, PRECISION, AVERAGE, ...) they get: see training.sh. A corpus that is
# there is taken as it is; from copies of its archives make it first, with recipes/RECIPE.sh data. What is
# finished is reused, run by run; the same command continues an interrupted one.
set -euo pipefail

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/training/job.sh"

what=${1:-}
[[ $what =~ ^(table2|table3|parameter-study)$ ]] ||
  fail "usage: recipes/paper.sh table2|table3|parameter-study [-- options of fairseq-train]"
shift
[[ $# == 0 || $1 == -- ]] || fail "options of fairseq-train go after --"
shift "$(($# > 0 ? 1 : 0))"
options=("$@")
read -r -a recipes <<<"${RECIPES:-}"
read -r -a methods <<<"${METHODS:-}"
read -r -a seeds <<<"${SEEDS:-1 2 3}"
read -r -a steps <<<"${STEPS:-1 2 3}"
read -r -a radii <<<"${RADII:-0.01 0.03 0.1 0.3 1}"
scale=${SCALE:-full}
python=${PYTHON:-python}
export PYTHON=$python
[[ $scale =~ ^(full|tiny)$ ]] || fail "SCALE=$scale: allowed is full, tiny"
[[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
unset OUT DATA METHOD SEED GPUS # of a single run
words=(
  "$what" --recipes ${recipes[@]+"${recipes[@]}"} --methods ${methods[@]+"${methods[@]}"}
  --seeds "${seeds[@]}" --steps "${steps[@]}" --radii "${radii[@]}" --scale "$scale"
  --gpus-each "${GPUS_EACH:-1}" ${JOBS:+--jobs "$JOBS"} ${DRY_RUN:+--dry-run}
)
[[ -n ${DRY_RUN:-} ]] || claim "results/paper/$what$([[ $scale == full ]] || echo "-$scale")"
unset DRY_RUN # python prints what it would do
run "$python" -m recipes.paper "${words[@]}" -- ${options[@]+"${options[@]}"}
