#!/usr/bin/env bash
# Bi-SimCut (Gao et al., NAACL 2022): trains with SimCut on both translation directions at once,
# fine-tunes with SimCut on the one that matters, and scores the result. Run it from the root of the
# repository:
#
#   recipes/bi-simcut.sh DATA OUT [-- OPTIONS]
#
#   DATA     a directory made by data_prep, of any corpus; DATA/bidirectional is added to it
#   OUT      where the results go: a directory per stage, and the scores
#   OPTIONS  of fairseq-train, for both stages; they override those below. --fp16 or --bf16 saves
#            time on a GPU, --cpu leaves it unused
#
#   PRETRAIN_UPDATES, FINETUNE_UPDATES  how long the stages are (default: 20000 each)
#   PYTHON                              the python of the environment (default: python)
#
# What is finished is reused; an interrupted run continues where it was.
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# Those of the authors' recipe for IWSLT'14 German-English, which uses --fp16 besides and names no
# number of updates: those here are ours.
pretrain_updates=${PRETRAIN_UPDATES:-20000}
finetune_updates=${FINETUNE_UPDATES:-20000}

method=(--criterion simcut --adv-weight 3.0 --cutoff-rate 0.05) # alpha and p, the defaults
model=(--arch transformer_iwslt_de_en --share-all-embeddings)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --weight-decay 1e-4
  --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000
  --max-tokens 4096 --dropout 0.3 --label-smoothing 0.1 --seed 1
  --ddp-backend legacy_ddp # where there are several GPUs
)
saving=(
  --save-interval-updates 1000 --validate-interval-updates 1000 # may continue from here
  --save-interval 1000000 --validate-interval 1000000           # by updates, not by epochs
  --no-epoch-checkpoints --keep-interval-updates 1
)
search=(--beam 5 --lenpen 1.0)
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/training/job.sh"

if (($# < 2)) || [[ ${3:---} != -- ]]; then
  fail "usage: recipes/bi-simcut.sh DATA OUT [-- options of fairseq-train]"
fi
data=${1%/}
out=${2%/}
shift "$(($# > 2 ? 3 : 2))"
options=("$@")
python=${PYTHON:-python}

[[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
for updates in PRETRAIN_UPDATES="$pretrain_updates" FINETUNE_UPDATES="$finetune_updates"; do
  [[ $updates =~ =[1-9][0-9]*$ ]] || fail "$updates: allowed is 1, 2, 3, ..."
done
device=()
for option in ${options[@]+"${options[@]}"}; do
  case $option in
    --cpu) device=(--cpu) ;;
    --max-update*) fail "$option: set PRETRAIN_UPDATES and FINETUNE_UPDATES instead" ;;
    -s | --source-lang* | -t | --target-lang* | --save-dir* | --log-format* | --restore-file* | \
      --finetune-from-model* | --reset-*)
      fail "$option: leave it out; it differs between the stages, and the recipe sets it" ;;
  esac
done
claim "$out"

# ---- Stages --------------------------------------------------------------------------------------
# train WHICH STAGE UPDATES BINARY-DATA [PRETRAINED]: trains in $out/STAGE, from where it was.
train() {
  local which=$1 stage=$2 updates=$3 binary=$4 pretrained=${5:-}
  local training=(
    "$binary" --user-dir fairseq_adv --task adversarial_translation
    "${method[@]}" "${model[@]}" "${optimisation[@]}" "${saving[@]}"
    ${options[@]+"${options[@]}"}
    --max-update "$updates" --save-dir "$out/$stage/checkpoints" --log-format json
  )
  if [[ -n $pretrained ]]; then
    # Takes the weights alone and resets optimizer, learning-rate schedule, meters and data loader,
    # but only where there is no checkpoint_last.pt yet: an interrupted fine-tuning continues.
    # --restore-file with the four --reset-... would start over each time.
    training+=(--finetune-from-model "$pretrained")
  fi
  local settings
  settings=$(sha256sum "$binary/stage.json" ${pretrained:+"$pretrained"} &&
    printf '%s\n' "${training[@]}")
  # "$python" -m fairseq_cli.train is fairseq-train.
  train_in "$out/$stage" "$which $stage" "$updates" "$settings" \
    "$python" -m fairseq_cli.train "${training[@]}"
}

# ---- 1. Data -------------------------------------------------------------------------------------
echo "1/4 data: both directions of $data, as $data/bidirectional"
run "$python" -m data_prep bidirectional "$data"

# ---- 2. and 3. Training --------------------------------------------------------------------------
train 2/4 pretraining "$pretrain_updates" "$data/bidirectional"
train 3/4 fine-tuning "$finetune_updates" "$data/bin" \
  "$out/pretraining/checkpoints/checkpoint_best.pt"

# ---- 4. Evaluation -------------------------------------------------------------------------------
best=$out/fine-tuning/checkpoints/checkpoint_best.pt
evaluation=("$data" --checkpoint "$best" --split test "${search[@]}" ${device[@]+"${device[@]}"})
evaluated=$(sha256sum "$best" && printf '%s\n' "${evaluation[@]}")
if [[ -e $out/scores.json && -e $out/.evaluated && $(<"$out/.evaluated") == "$evaluated" ]]; then
  echo "4/4 evaluation: already there, $out/scores.json"
else
  echo "4/4 evaluation: translates the test set by beam search and scores it with sacreBLEU"
  rm -f "$out/.evaluated"
  run "$python" -m recipes.evaluation.evaluate "${evaluation[@]}" --out "$out"
  printf '%s\n' "$evaluated" >"$out/.evaluated"
fi
