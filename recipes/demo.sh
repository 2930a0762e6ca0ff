#!/usr/bin/env bash
# The main job, end to end: trains a small translation model against an adversary on a real corpus,
# LibreOffice's help texts, scores it and exports it. Or fine-tunes a pretrained encoder on film reviews, good
# and bad ones, and makes a classifier. Run it from the root of the repository.
#
#   TASK    translation (default) or sentiment
#   METHOD  salt (default), adv, vat, freeat, freelb, smart, mat, r3f, rdrop or simcut; or transformer, plain
#           training (sentiment: plain). Model, data, optimisation and number of updates are the same for all.
#   CORPUS  of translation: de-en (default), fr-en or vi-en, with or without libreoffice-help- before it
#   OUT     where the results go (default: results/demo or results/sentiment; with another corpus or
#           method results/demo-CORPUS, results/demo-METHOD, results/demo-CORPUS-METHOD)
#   ARCHIVE local package files to read instead of downloading them, separated by spaces; quoted
#           where there are spaces in their names: "'my files/a.deb' b.deb"
#   PYTHON  the python of the environment (default: python)
#
# What is finished is reused; an interrupted run continues where it was. All methods share the data.
set -euo pipefail

# shellcheck source=recipes/training/stages.sh
source "${BASH_SOURCE[0]%/*}/training/stages.sh"

task=${TASK:-translation}
check TASK "$task" 'translation|sentiment' "translation, sentiment"
method=${METHOD:-salt}
python=${PYTHON:-python}
threads=2
training_began=
reused= # set when this run found nothing to do: then its time does not count

# begin NAME: what both tasks have in common before their first stage; results go to results/NAME.
begin() {
  out=${OUT:-results/$1}
  [[ $out != -* ]] || out=./$out # not to be taken for an option
  checkpoints=$out/checkpoints
  best=$checkpoints/checkpoint_best.pt
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
  [[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
  command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
  keep_memory
  claim "$out"
  at_end() {
    if [[ -n $training_began ]]; then
      echo "training $((SECONDS - training_began))" >>"$out/.seconds"
    fi
    if [[ -z $reused ]]; then
      echo "total $SECONDS" >>"$out/.seconds"
    fi
  }
}

# The seconds that went into "total" or "training", in all calls before this one.
seconds_before() {
  touch "$out/.seconds"
  awk -v what="$1" '$1 == what { sum += $2 } END { print sum + 0 }' "$out/.seconds"
}

# timed_training WHAT UPDATES SETTINGS COMMAND...: train_in, whose seconds are counted.
timed_training() {
  training_began=$SECONDS
  train_in "$out" "$@"
  echo "training $((SECONDS - training_began))" >>"$out/.seconds"
  training_began=
}

# report_once SUMMARY REPORT: the last stage, by these two modules.
report_once() {
  if [[ -e $out/summary.json ]]; then
    echo "5/5 report: already there, $out/summary.json"
    reused=yes
  else
    echo "5/5 report: sums up in $out/summary.json, draws $out/training.png"
    run "$python" -m "$1" "$out" --data "$data" --checkpoint "$best" \
      --seconds-total "$(($(seconds_before total) + SECONDS))" \
      --seconds-training "$(seconds_before training)"
  fi
  run "$python" -m "$2" "$out"
}

if [[ $task == sentiment ]]; then
  # shellcheck source=recipes/sentences/demo.sh
  source "${BASH_SOURCE[0]%/*}/sentences/demo.sh"
  exit
fi

# ---- Hyper-parameters ----------------------------------------------------------------------------
max_words=15          # longer sentences are dropped, in all splits
train_pairs=10000
bpe_merges=2000
max_updates=2000
save_every=200        # updates: dev BLEU is measured, and an interrupted run continues from here

model=(
  --arch transformer --share-all-embeddings
  --encoder-layers 3 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4
  --decoder-layers 3 --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4
  --encoder-normalize-before --decoder-normalize-before # bears the high learning rate
)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --lr 3e-3 --lr-scheduler inverse_sqrt
  --warmup-updates 400 --max-tokens 1000 --dropout 0.2 --label-smoothing 0.1 --seed 1
)
# Each method's defaults (SALT's are the active preset), but for a game every 4th update, to save
# time. --adv-interval multiplies the weight by 4 again: --adv-weight is a quarter of the default.
schedule=(--adv-interval 4 --gauge-interval 10)
case $method in
  transformer) adversary=(--criterion label_smoothed_cross_entropy) ;;
  adv | vat | freelb | salt) adversary=(--criterion "$method" --adv-weight 0.25 "${schedule[@]}") ;;
  smart) # its proximal term compares with an average of earlier models, here of some 100 updates
    adversary=(--criterion smart --adv-weight 0.25 --proximal-weight 0.25 "${schedule[@]}")
    adversary+=(--store-ema --ema-decay 0.99 --ema-fp32) ;;
  mat) # plays in every update, three on each batch in a row
    adversary=(--criterion mat --gauge-interval 10) ;;
  r3f) adversary=(--criterion r3f --adv-weight 0.5 "${schedule[@]}") ;;
  rdrop) adversary=(--criterion rdrop --adv-weight 1.25 "${schedule[@]}") ;;
  simcut) adversary=(--criterion simcut --adv-weight 0.75 "${schedule[@]}") ;;
  freeat) # plays in every update; the other three quarters of the weight stay with the clean loss
    adversary=(--criterion freeat --adv-weight 0.25 --gauge-interval 10) ;;
  *)
    fail "METHOD=$method: allowed is transformer or\
 adv, vat, freeat, freelb, smart, mat, salt, r3f, rdrop, simcut" ;;
esac
search=(--beam 5 --lenpen 1.0)
# --------------------------------------------------------------------------------------------------

corpus=${CORPUS:-de-en}
corpus=${corpus#libreoffice-help-}
name=demo
[[ $corpus == de-en ]] || name=demo-$corpus
data=data/$name
[[ $method == salt ]] || name+=-$method
[[ $corpus =~ ^(de|fr|vi)-en$ ]] || fail "CORPUS=$corpus: allowed is de-en, fr-en, vi-en"
begin "$name"

# ---- 1. Data -------------------------------------------------------------------------------------
echo "1/5 data: LibreOffice's help texts, $corpus, as $data"
archives=()
words archives "${ARCHIVE:-}"
mkdir -p data
# Demos of other methods may be about to make the same data: the first one does, the others wait.
run flock --no-fork "data/.$corpus.lock" \
  "$python" -m data_prep "libreoffice-help-$corpus" --out "$data" --max-words "$max_words" \
  --train-pairs "$train_pairs" --bpe-merges "$bpe_merges" \
  ${archives[@]+--archive "${archives[@]}"}

# ---- 2. Training ---------------------------------------------------------------------------------
# "$python" -m fairseq_cli.train is fairseq-train.
training=(
  "$data/bin" --user-dir fairseq_adv --task adversarial_translation
  "${adversary[@]}" "${model[@]}" "${optimisation[@]}"
  --max-update "$max_updates" --cpu --num-workers 0
  --eval-bleu --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
  --eval-bleu-detok moses --eval-bleu-remove-bpe --max-tokens-valid 4000
  --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
  --save-dir "$checkpoints" --no-epoch-checkpoints --keep-interval-updates 1
  --save-interval-updates "$save_every" --validate-interval-updates "$save_every"
  --save-interval 1000000 --validate-interval 1000000 # by updates, not by epochs
  --log-format json --log-interval 10
)
settings=$(sha256sum <"$data/bin/stage.json" && printf '%s\n' "${training[@]}")
[[ -e $checkpoints/checkpoint_last.pt ]] || rm -f "$out/.evaluated" # of a training that is gone
timed_training "2/5 training, $method" "$max_updates" "$settings" \
  "$python" -m fairseq_cli.train "${training[@]}"

# ---- 3. Evaluation -------------------------------------------------------------------------------
evaluation=(
  "$data" --checkpoint "$checkpoints/checkpoint_best.pt" --split test "${search[@]}" --trivial --cpu
)
if [[ -e $out/.evaluated && $(<"$out/.evaluated") == "${evaluation[*]}" ]]; then
  echo "3/5 evaluation: already there, $out/scores.json"
else
  echo "3/5 evaluation: translates the test set by beam search and scores it with sacreBLEU"
  rm -f "$out/.evaluated" "$out/summary.json"
  run "$python" -m recipes.evaluation.evaluate "${evaluation[@]}" --out "$out" >/dev/null # shown in the report
  printf '%s\n' "${evaluation[*]}" >"$out/.evaluated"
fi

# ---- 4. Export -----------------------------------------------------------------------------------
if [[ $out/model/model.json -nt $best ]]; then
  echo "4/5 export: already there, $out/model"
else
  echo "4/5 export: a translator of any text, $out/model"
  run "$python" -m recipes.serving.export "$data" --checkpoint "$best" "${search[@]}" --out "$out/model" \
    >/dev/null
fi

# ---- 5. Report -----------------------------------------------------------------------------------
report_once recipes.training.summary recipes.training.report
