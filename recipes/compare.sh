#!/usr/bin/env bash
# Which game should I play? Trains the same model on the same data with every method and seed,
# translates, scores, and writes tables and pictures. Run it from the root of the repository:
#
#   recipes/compare.sh [-- OPTIONS]
#
#   OPTIONS    of fairseq-train, for all trainings; they override those below. --cpu leaves a GPU
#              unused, --fp16 or --bf16 saves time on one
#
#   METHODS    presets of recipes/presets, separated by spaces; changes to one after commas:
#              "salt salt,--dropout-masks=shared,--ascent-step-size=1". Plain training,
#              `transformer`, is always there: all else is compared with it
#   SEEDS      (default: "1 2 3")
#   CORPUS     one of data_prep's corpora (default: libreoffice-help-de-en), or a directory that
#              data_prep has made, which is taken as it is
#   TEXT       your own corpus instead: two files, line n of one translates line n of the other;
#              their endings are the languages: "my/text.de my/text.en". Dev and test set are drawn
#              from it
#   ARCHIVE    copies of the corpus' archives, read instead of downloading them; here and in TEXT quote
#              names with spaces: "'my files/a.de' 'my files/a.en'"
#   DATA_ARGS  what data_prep takes of a corpus (default: below; "" takes all)
#   UPDATES    how long every method trains (default: below)
#   TIME       equal time, in updates of plain training (default: twice UPDATES). What is cheap
#              trains on beyond UPDATES for that
#   EVERY      updates from checkpoint to checkpoint, which dev BLEU judges (default: below)
#   JOBS       trainings at a time (default: one per GPU; without, one per core)
#   OUT        where the results go (default: results/compare/CORPUS)
#   PYTHON     the python of the environment (default: python)
#
# What is finished is reused, run by run; the same command continues an interrupted comparison. More
# METHODS, SEEDS or UPDATES add to what is there.
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# A low-resource setting, in which plain training overfits and some hours of two cores are enough for
# three seeds.
data_args=${DATA_ARGS---max-words 15 --train-pairs 2000 --bpe-merges 2000}
updates=${UPDATES:-1600}
every=${EVERY:-200}
beam=5

model=(
  --arch transformer --share-all-embeddings
  --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4
  --decoder-layers 2 --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4
  --encoder-normalize-before --decoder-normalize-before # bears the high learning rate
)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --lr 3e-3 --lr-scheduler inverse_sqrt
  --warmup-updates 400 --max-tokens 1000 --dropout 0.2 --label-smoothing 0.1
  --ddp-backend legacy_ddp --num-workers 0
)
validation=(
  --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
  --max-tokens-valid 4000 --log-interval 10
)
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/training/job.sh"

python=${PYTHON:-python}
corpus=${CORPUS:-libreoffice-help-de-en}
corpus=${corpus%/}
read -r -a methods <<<"${METHODS:-transformer adv freeat freelb smart salt rdrop simcut}"
read -r -a seeds <<<"${SEEDS:-1 2 3}"
text=() archives=() selection=()
words text "${TEXT:-}"
words archives "${ARCHIVE:-}"
words selection "$data_args"
[[ $# == 0 || $1 == -- ]] || fail "usage: recipes/compare.sh [-- options of fairseq-train]"
shift "$(($# > 0 ? 1 : 0))"
options=("$@")

[[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
keep_memory

# ---- 1. Data -------------------------------------------------------------------------------------
if ((${#text[@]})); then
  ((${#text[@]} == 2)) || fail "TEXT=$TEXT: give two files, \"my/text.de my/text.en\""
  prefix=${text[0]%.*}
  [[ $prefix == "${text[1]%.*}" ]] ||
    fail "TEXT=$TEXT: the names may differ in their endings only, which are the languages"
  name=${CORPUS:-$prefix}
  name=${name##*/}
  data=data/compare/$name
  prepare=(files --source-lang "${text[0]##*.}" --target-lang "${text[1]##*.}" --train "$prefix")
elif [[ -e $corpus/report.json ]]; then
  name=${corpus##*/}
  data=$corpus
  prepare=()
else
  name=$corpus
  data=data/compare/$name
  prepare=("$name" ${archives[@]+--archive "${archives[@]}"})
fi
out=${OUT:-results/compare/$name}
[[ $out != -* ]] || out=./$out # not to be taken for an option
claim "$out"
echo "1/4 data: $data${prepare[*]:+, ${selection[*]:-all of it}}"
if ((${#prepare[@]})); then
  mkdir -p data/compare
  # Comparisons by other settings may be about to make the same data: the others wait.
  run flock --no-fork "data/compare/.$name.lock" \
    "$python" -m data_prep "${prepare[@]}" --out "$data" \
    --joined-dictionary ${selection[@]+"${selection[@]}"} # for --share-all-embeddings
fi

set_eval_bleu "$data"

# ---- 2. to 4. Costs, trainings, report -----------------------------------------------------------
run "$python" -m recipes.comparison "$data" "$out" \
  --methods "${methods[@]}" --seeds "${seeds[@]}" \
  --updates "$updates" --time "${TIME:-$((2 * updates))}" --every "$every" \
  --beam "$beam" ${JOBS:+--jobs "$JOBS"} \
  -- "${model[@]}" "${optimisation[@]}" "${eval_bleu[@]}" "${validation[@]}" ${options[@]+"${options[@]}"}
