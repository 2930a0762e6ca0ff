# What the recipes of corpora share: data, training on any number of GPUs and machines, scores. A
# recipe sets its hyper-parameters, sources this, and ends with `main "$@"`:
#
#   recipes/RECIPE.sh [STAGE...] [-- OPTIONS]
#
#   STAGE      data, train, score (default: these three), calibrate, robustness, attention or export
#   OPTIONS    of fairseq-train; they override the recipe's
#
#   METHOD     a preset of recipes/presets (default: salt); transformer is plain training. Changes
#              to one after commas: "salt,--ascent-steps=2". salt-paper plays with Table 8's numbers
#   SEED       (default: 1)
#   GPUS       of each machine (default: all there are or, if it is set, those of CUDA_VISIBLE_DEVICES).
#              0: the CPU, in WORKERS processes (default: 1)
#   TOKENS     per GPU and pass, at most (default: 8000): what its memory holds. How many passes make
#              an update is computed from that and GPUS, so that batches are the same everywhere
#   PRECISION  bf16 (default), fp16 or fp32 (default on a CPU)
#   NODES      machines (default: 1). With more, run the stage train on each, with NODE_RANK=0, 1, ...
#              and MASTER_ADDR=the first one's name (MASTER_PORT, default 29500); see slurm.sbatch
#   AVERAGE    last-N or best-N: score the mean of so many checkpoints (default: the best one by dev
#              BLEU alone). 10 are kept, of $every updates each
#   BASELINE   a method trained on the same data with the same seed: is this one better by more than
#              chance? In the pictures of calibrate, robustness and attention it stands beside this one
#   SPLIT_COMPOUNDS  1: also a tokenised BLEU with hyphenated words split, which is higher
#   ARCHIVE    copies of the corpus' archives, read instead of downloading them; quoted where there
#              are spaces in their names: "'my files/a.tgz' b.tgz"
#   DATA, OUT  default: data/RECIPE and results/RECIPE/METHOD/seed-SEED
#   SCALE      tiny: a small model, a small part of the corpus, minutes. To try a recipe
#   DRY_RUN    1: print the commands, run none, change nothing
#   PYTHON     the python of the environment (default: python)
#
# What is finished is reused; the same command continues an interrupted run, on any number of GPUs.
# shellcheck shell=bash
# shellcheck disable=SC2154 # the recipe sets corpus, batch_tokens, updates, every, model,
#                             optimisation, paper and search

# shellcheck source=recipes/training/stages.sh
source "${BASH_SOURCE[0]%/*}/stages.sh"

tiny() {
  selection=(--max-words 12 --train-pairs 400 --bpe-merges 400)
  batch_tokens=2000
  updates=120
  every=30
  model=(
    --arch transformer
    --encoder-layers 1 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128
    --decoder-layers 1 --decoder-embed-dim 64 --decoder-ffn-embed-dim 128
    --encoder-attention-heads 2 --decoder-attention-heads 2
  )
  optimisation+=(--lr 5e-3 --warmup-updates 40 --dropout 0.1 --log-interval 10) # learns something
}

main() {
  read_stages 'data, train, score, calibrate, robustness, attention, export' 'data train score' "$@"
  tokens=${TOKENS:-8000}
  check TOKENS "$tokens" '[1-9][0-9]*' "1, 2, 3, ..."
  name=$recipe
  selection=()
  if [[ ${SCALE:-} == tiny ]]; then
    tiny
    name+=-tiny
  fi
  set_places "data/$name" "results/$name"
  check AVERAGE "${AVERAGE:-last-1}" '(last|best)-[1-9][0-9]*' "last-N, best-N"
  set_adversary recipes/presets "${paper[@]}"
  do_stages
}

stage_data() {
  local archives=()
  words archives "${ARCHIVE:-}"
  prepare "$corpus" "$data" "$corpus" ${archives[@]+--archive "${archives[@]}"} \
    ${selection[@]+"${selection[@]}"}
}

stage_train() {
  begin_training "$batch_tokens" "$tokens" --max-tokens
  echo "train: $method, seed $seed, in $out: $updates updates of $batch_tokens tokens" \
    "= $nodes x $processes x $passes passes x $each tokens per $device"

  set_eval_bleu "$data"
  local settings=(
    "$data/bin" --user-dir fairseq_adv --task adversarial_translation
    "${adversary[@]}" "${model[@]}" "${optimisation[@]}" --seed "$seed"
    --max-update "$updates" --save-dir "$out/checkpoints" --log-format json
    "${eval_bleu[@]}" --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
    --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
    --save-interval-updates "$every" --validate-interval-updates "$every"
    --save-interval 1000000 --validate-interval 1000000 # by updates, not by epochs
    --no-epoch-checkpoints --keep-interval-updates 10
  )
  train_shared "$updates" "${settings[@]}"
}

stage_score() {
  model_of "$out"
  local scoring=("$data" --checkpoint "$model_file" "${search[@]}")
  made_of=("$model_file")
  if [[ -n $baseline ]]; then
    scoring+=(--baseline "$baseline")
    made_of+=("$baseline/translations.tsv")
  fi
  [[ -z ${SPLIT_COMPOUNDS:-} ]] || scoring+=(--split-compounds)
  once score scores.json "the test set, by beam search" -m recipes.evaluation.evaluate "${scoring[@]}"
}

stage_calibrate() {
  compared
  once calibrate calibration.png "confidence against accuracy, by token" -m recipes.evaluation.calibration \
    "$data" --checkpoint "${made_of[@]}" --label "${labels[@]}"
}

stage_robustness() {
  compared
  once robustness robustness.png "typos, dropped words, perturbed embeddings" -m recipes.evaluation.robustness \
    "$data" --checkpoint "${made_of[@]}" --label "${labels[@]}" "${search[@]}"
}

stage_attention() {
  compared
  once attention attention.html "attention beside the importance of words" -m recipes.attention \
    "$data" --checkpoint "${made_of[@]}" --label "${labels[@]}"
}

stage_export() {
  model_of "$out"
  local words=(-m recipes.serving.export "$data" --checkpoint "$model_file" "${search[@]}" --out "$out/model")
  echo "export: a translator of its own, $out/model"
  run "$python" "${words[@]}"
}

# Sets $model_file to what is evaluated of the run in a directory, and averages for it.
model_of() {
  local checkpoints=$1/checkpoints
  model_file=$checkpoints/checkpoint_best.pt
  [[ -n ${AVERAGE:-} ]] || return 0
  model_file=$1/average-$AVERAGE.pt
  [[ ! -e $model_file || $checkpoints/checkpoint_last.pt -nt $model_file ]] || return 0
  run "$python" -m recipes.models.averaging "$checkpoints" --choose "$AVERAGE" --out "$model_file"
}
