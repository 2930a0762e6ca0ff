#!/usr/bin/env bash
# Tables and figures of papers: trains and scores all that is in them, several runs at a time, and puts the
# results beside the paper's numbers. Run it from the root of the repository:
#
#   recipes/paper.sh WHAT [-- OPTIONS]
#
#   WHAT       of translations: table2, table3, parameter-study (Figure 1).
#              Of sentences: table4 (GLUE), table6 (ANLI), figure2 (calibration), figure3 (losses), figure4
#              (probing); glue-submission, which trains nothing. Of Kitada and Iyatomi (2021), not of the paper:
#              attention-table (Table 2), attention-study (Figure 4). Of Zhong et al. (2023): mat-table (Tables 1
#              to 3, Figure 3), mat-ablation (Tables 4 and 5)
#   OPTIONS    of fairseq-train, for all trainings; they override the recipes'
#
#   RECIPES    of translations (default: the paper's; with SCALE=tiny libreoffice-help-de-en and
#              multi30k-en-de)
#   TASKS      of sentences: "rte mrpc" (default: the paper's; in figure4 those of the heads)
#   ENCODER    of sentences, as finetune.sh takes it (default: minilm; of attention words)
#   LRS        of sentences: learning rates, "5e-5 1e-4 5e-4". The first seed is trained with each; every
#              method and task goes on with the one that is best on dev (default: finetune.sh's own rate)
#   EPSILONS   of sentences: radii in place of rates, for the methods that have one (default: of attention
#              "0.3 1 3 10 30", unless there are LRS). attention-study draws them
#   METHODS    (default: the paper's; in tables salt-paper or R-Drop too)
#   METHOD, SEED  of glue-submission (default: salt, 1)
#   SEEDS      (default: "1 2 3")
#   STEPS      of the study: ascent steps (default: "1 2 3")
#   RADII      of the study: epsilon (default: "0.01 0.03 0.1 0.3 1")
#   SAMPLES    of mat-ablation: samples K of each player (default: "1 5 10 20 30 50")
#   LAMBDAS    of mat-ablation: weights of the divergence, the paper's (default: "0.1 1 3 5 10 50")
#   GPUS_EACH  of a training (default: 1). The trainings are spread over all GPUs there are
#   JOBS       trainings at a time (default: as many as GPUs allow; without a GPU, one per core)
#   SCALE      tiny: small models, small parts of the corpora. To see that it works
#   DRY_RUN    1: print the command of every run
#   PYTHON     the python of the environment (default: python)
#
# What the recipes take besides (TOKENS, EPOCHS, PRECISION, AVERAGE, ...) they get: see training.sh and
# finetune.sh. A corpus that is there is taken as it is; from copies of its archives make it first, with the
# recipe's stage data. What is finished is reused, run by run; the same command continues an interrupted one.
set -euo pipefail

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/training/job.sh"

what=${1:-}
[[ $what =~ ^(table[2346]|figure[234]|parameter-study|glue-submission|attention-(table|study)|mat-(table|ablation))$ ]] ||
  fail "usage: recipes/paper.sh table2|table3|table4|table6|parameter-study|figure2|figure3|figure4|glue-submission|\
attention-table|attention-study|mat-table|mat-ablation [-- options of fairseq-train]"
shift
[[ $# == 0 || $1 == -- ]] || fail "options of fairseq-train go after --"
shift "$(($# > 0 ? 1 : 0))"
options=("$@")
read -r -a recipes <<<"${RECIPES:-}"
read -r -a tasks <<<"${TASKS:-}"
read -r -a rates <<<"${LRS:-}"
encoder=minilm
tried=
if [[ $what == attention-* ]]; then
  encoder=words
  [[ ${#rates[@]} != 0 ]] || tried="0.3 1 3 10 30"
fi
encoder=${ENCODER:-$encoder}
encoder=${encoder%/}
read -r -a epsilons <<<"${EPSILONS:-$tried}"
read -r -a methods <<<"${METHODS:-}"
read -r -a seeds <<<"${SEEDS:-1 2 3}"
if [[ $what == glue-submission ]]; then
  methods=("${METHOD:-salt}")
  seeds=("${SEED:-1}")
fi
read -r -a steps <<<"${STEPS:-1 2 3}"
read -r -a radii <<<"${RADII:-0.01 0.03 0.1 0.3 1}"
read -r -a samples <<<"${SAMPLES:-}"
read -r -a lambdas <<<"${LAMBDAS:-}"
scale=${SCALE:-full}
python=${PYTHON:-python}
export PYTHON=$python
[[ $scale =~ ^(full|tiny)$ ]] || fail "SCALE=$scale: allowed is full, tiny"
[[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
[[ ${#rates[@]} == 0 || -z ${LR:-} ]] || fail "LRS=$LRS, LR=$LR: give one of them"
unset OUT DATA METHOD SEED GPUS # of a single run
words=(
  "$what" --recipes ${recipes[@]+"${recipes[@]}"} --tasks ${tasks[@]+"${tasks[@]}"} --encoder "$encoder"
  --rates ${rates[@]+"${rates[@]}"} --epsilons ${epsilons[@]+"${epsilons[@]}"} --methods ${methods[@]+"${methods[@]}"}
  --seeds "${seeds[@]}" --steps "${steps[@]}" --radii "${radii[@]}" --scale "$scale"
  --samples ${samples[@]+"${samples[@]}"} --lambdas ${lambdas[@]+"${lambdas[@]}"}
  --gpus-each "${GPUS_EACH:-1}" ${JOBS:+--jobs "$JOBS"} ${DRY_RUN:+--dry-run}
)
place=results/paper/$what$([[ $scale == full ]] || echo "-$scale")
[[ $what =~ ^(table[23]|parameter-study)$ ]] || place+=/${encoder##*/}
[[ -n ${DRY_RUN:-} ]] || claim "$place"
unset DRY_RUN # python prints what it would do
run "$python" -m recipes.paper "${words[@]}" -- ${options[@]+"${options[@]}"}
