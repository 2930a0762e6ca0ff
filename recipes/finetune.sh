#!/usr/bin/env bash
# Fine-tunes a pretrained encoder on sentences or pairs with labels: classes or scores, of every such corpus that
# data_prep has. Run it from the root of the repository:
#
#   RECIPE=glue-rte recipes/finetune.sh [STAGE...] [-- OPTIONS]
#
#   STAGE      data, train, score (default: these three), calibrate, attention or export
#   OPTIONS    of fairseq-train; they override the recipe's
#
#   RECIPE     the corpus: glue-{cola,sst-2,mrpc,sts-b,qqp,mnli,qnli,rte}, anli, snli, sst, imdb,
#              20news-baseball-hockey, agnews-world-business, babi-{1,2,3}, reviews (default), or sentences, your own
#   ENCODER    one that has a public home (default: minilm), or a directory made by data_prep encoder; words: none, but
#              the attention classifier of Kitada and Iyatomi (2021) on the corpus' own words
#   METHOD     a preset of recipes/presets/sentences (default: salt); plain is fine-tuning without a game.
#              Changes to one after commas: "salt,--ascent-steps=1". salt-paper plays with Appendix B.2's numbers
#   SEED       (default: 1)
#   EPOCHS     at most (default: 6; words: 8, all of them)
#   LR         of the leader, at its highest (default: by the encoder, below)
#   BATCH      sentences, or pairs, of an update (default: 32)
#   GPUS       (default: all there are or, if it is set, those of CUDA_VISIBLE_DEVICES). 0: the CPU, in WORKERS
#              processes (default: 1)
#   SENTENCES  per GPU and pass, at most (default: 32): what its memory holds. Batches stay the same
#   PRECISION  bf16 (default), fp16 or fp32 (default on a CPU)
#   BASELINE   a method trained with the same encoder and seed: is this one better by more than chance?
#   ARCHIVE    copies of the corpus' archives, ENCODER_ARCHIVE of the encoder's, read instead of downloading
#              them; quoted where there are spaces in their names: "'my files/a.zip' b.zip"
#   PREPARE    options of `python -m data_prep RECIPE`, quoted alike: "--train my.tsv" (for sentences), "--scores",
#              "--max-pieces 96", "--vectors none" (for words). Give other DATA and OUT with them
#   DATA, OUT  default: data/RECIPE.ENCODER and results/RECIPE/ENCODER/METHOD/seed-SEED
#   SCALE      tiny: an encoder's first layer, 200 examples cut to 32 pieces, one epoch. To try a recipe
#   DRY_RUN    1: print the commands, run none, change nothing
#   PYTHON     the python of the environment (default: python)
#
# What is finished is reused; the same command continues an interrupted run, on any number of GPUs.
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# Those of Appendix B.2 of Zuo et al. (2021), which has the leader's rate from {5e-5, 1e-4, 5e-4} and the batch
# from {4, 8, 16, 32}. The schedule is ours: it is not told.
lr_of() {
  case $1 in
    minilm*) echo 1e-4 ;;
    *large*) echo 1e-5 ;; # diverges with more
    *) echo 5e-5 ;;
  esac
}
lr=
epochs=6
patience=2 # epochs without a better dev score
batch=32
warmup=6 # per cent of all updates
optimisation=(--optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0 --lr-scheduler polynomial_decay)
regularisation=(--dropout 0.1 --attention-dropout 0.1 --pooler-dropout 0.1)

# for_words CORPUS: those of Kitada and Iyatomi (2021): of Appendix B rate, L2 and what bAbI has of its own; of
# their released configuration the rest, but for its AMSGrad, which fairseq's Adam lacks.
for_words() {
  lr=1e-3
  epochs=8
  patience=-1 # none
  warmup= # and no decay either
  optimisation=(--optimizer adam --adam-betas '(0.9, 0.999)' --clip-norm 0 --lr-scheduler fixed)
  regularisation=(--weight-decay 1e-5)
  if [[ $1 == babi-* ]]; then
    selection=(--vectors none --vector-dim 50)
    sizes=(--encoder-hidden-size 32)
  fi
}
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/stages.sh
source "${BASH_SOURCE[0]%/*}/training/stages.sh"

tiny() {
  epochs=1
  encoder_options=(--layers 1)
  selection+=(--train-examples 200 --max-pieces 32)
  optimisation+=(--log-interval 1)
}

# report NAME: the value of a word or number in the report of the data, or nothing.
report() {
  sed -n "s/^  \"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" "$data/report.json" 2>/dev/null
}

main() {
  read_stages 'data, train, score, calibrate, attention, export' 'data train score' "$@"
  corpus=${RECIPE:-reviews}
  encoder=${ENCODER:-minilm}
  encoder=${encoder%/}
  encoder_options=()
  selection=()
  sizes=()
  [[ $corpus =~ ^(glue-(cola|sst-2|mrpc|sts-b|qqp|mnli|qnli|rte)|anli|snli|sst|imdb|babi-[123])$ ||
    $corpus =~ ^(20news-baseball-hockey|agnews-world-business|reviews|sentences)$ ]] ||
    fail "RECIPE=$corpus: neither a recipe nor a corpus of sentences: glue-TASK, anli, snli, sst, imdb,
20news-baseball-hockey, agnews-world-business, babi-{1,2,3}, reviews, sentences"
  ((nodes == 1)) || fail "NODES=$nodes: fine-tuning is on one machine"
  name=${encoder##*/}
  [[ $encoder != words ]] || for_words "$corpus"
  lr=${LR:-${lr:-$(lr_of "$name")}}
  local scale=
  if [[ ${SCALE:-} == tiny ]]; then
    tiny
    scale=-tiny
  fi
  is_named=
  cut_for=$encoder
  if [[ $encoder != words && ! -e $encoder/encoder.json ]]; then
    is_named=yes
    check ENCODER "$encoder" '[a-z0-9.-]+' "minilm, bert-base-uncased, ..., or a directory of data_prep encoder"
    encoder=data/encoders/$encoder$scale
    cut_for=$encoder
  fi
  epochs=${EPOCHS:-$epochs}
  batch=${BATCH:-$batch}
  most=${SENTENCES:-32}
  check EPOCHS "$epochs" '[1-9][0-9]*' "1, 2, 3, ..."
  check BATCH "$batch" '[1-9][0-9]*' "1, 2, 3, ..."
  check SENTENCES "$most" '[1-9][0-9]*' "1, 2, 3, ..."
  check LR "$lr" '[0-9.]+(e-?[0-9]+)?' "a number, such as 5e-5"
  set_places "data/$corpus$scale.$name" "results/$corpus$scale/$name"
  [[ $encoder != words ]] || encoder=$data/words
  set_adversary recipes/presets/sentences
  do_stages
}

stage_data() {
  local archives=() more=()
  if [[ -n $is_named ]]; then # another directory is not made here
    words archives "${ENCODER_ARCHIVE:-}"
    prepare "the encoder $name" "$encoder" encoder "$name" ${archives[@]+--archive "${archives[@]}"} \
      ${encoder_options[@]+"${encoder_options[@]}"}
  fi
  words archives "${ARCHIVE:-}"
  words more "${PREPARE:-}"
  prepare "$corpus" "$data" "$corpus" --encoder "$cut_for" ${archives[@]+--archive "${archives[@]}"} \
    ${selection[@]+"${selection[@]}"} ${more[@]+"${more[@]}"}
}

stage_train() {
  begin_training "$batch" "$most" --batch-size
  local examples metric kind=() total
  examples=$(sed -n '/^    "kept": {/,/}/s/^      "train": \([0-9]*\).*/\1/p' "$data/report.json" 2>/dev/null) || true
  [[ -n $examples || -n ${DRY_RUN:-} ]] || fail "$data/report.json: not there; the stage data makes it"
  total=$((epochs * ((${examples:-$batch} + batch - 1) / batch)))
  case $(sed -n '/^  "metrics"/,/\]/p' "$data/report.json" 2>/dev/null) in
    *--report-mcc*) kind=(--report-mcc) metric=mcc ;;
    *--report-acc-and-f1*) kind=(--report-acc-and-f1) metric=acc_and_f1 ;;
    *) metric=accuracy ;;
  esac
  if [[ $(report task) == regression ]]; then
    kind=(--regression-target --report-pearson-and-spearman) metric=pearson_and_spearman
  fi
  set_encoder "$encoder"
  local schedule=()
  [[ -z $warmup ]] || schedule=(--total-num-update "$total" --warmup-updates "$((total * warmup / 100))")
  echo "train: $method, seed $seed, in $out: at most $epochs epochs, $total updates of $batch sentences" \
    "= $processes x $passes passes x $each sentences per $device"
  train_shared "$total" \
    "$data/bin" --user-dir fairseq_adv --task adversarial_sentence_prediction \
    --num-classes "$(report num_classes)" ${kind[@]+"${kind[@]}"} \
    "${model[@]}" ${sizes[@]+"${sizes[@]}"} "${adversary[@]}" "${optimisation[@]}" "${regularisation[@]}" \
    --lr "$lr" --seed "$seed" ${schedule[@]+"${schedule[@]}"} \
    --max-epoch "$epochs" --patience "$patience" --num-workers 0 \
    --best-checkpoint-metric "$metric" --maximize-best-checkpoint-metric \
    --save-dir "$out/checkpoints" --no-epoch-checkpoints --log-format json
}

stage_score() {
  model_of "$out"
  local scoring=("$data" --checkpoint "$model_file" --trivial)
  made_of=("$model_file")
  if [[ -n $baseline ]]; then
    scoring+=(--baseline "$baseline")
    made_of+=("$baseline/predictions.tsv")
  fi
  once score scores.json "all splits but train" -m recipes.sentences.evaluate "${scoring[@]}"
}

stage_calibrate() {
  compared
  once calibrate calibration.png "confidence against accuracy, by sentence" -m recipes.evaluation.calibration \
    "$data" --checkpoint "${made_of[@]}" --label "${labels[@]}"
}

stage_attention() {
  compared
  once attention attention.html "attention beside the importance of words" -m recipes.attention \
    "$data" --checkpoint "${made_of[@]}" --label "${labels[@]}"
}

stage_export() {
  model_of "$out"
  echo "export: a classifier of its own, $out/model"
  run "$python" -m recipes.sentences.export "$data" --checkpoint "$model_file" --encoder "$encoder" \
    --out "$out/model"
}

# Sets $model_file to the best checkpoint by the dev score.
model_of() {
  model_file=$1/checkpoints/checkpoint_best.pt
}

main "$@"
