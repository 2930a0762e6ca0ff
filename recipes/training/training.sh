# What the recipes of corpora share: data, training on any number of GPUs and machines, scores. A
# recipe sets its hyper-parameters, sources this, and ends with `main "$@"`:
#
#   recipes/RECIPE.sh [STAGE...] [-- OPTIONS]
#
#   STAGE      data, train, score (default: these three), calibrate, robustness or export
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
#              chance? In the pictures of calibrate and robustness it stands beside this one
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

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/job.sh"

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

# check NAME VALUE PATTERN ALLOWED
check() {
  [[ $2 =~ ^($3)$ ]] || fail "$1=$2: allowed is $4"
}

main() {
  local stages=()
  while (($#)) && [[ $1 != -- ]]; do
    check STAGE "$1" 'data|train|score|calibrate|robustness|export' \
      "data, train, score, calibrate, robustness, export; options of fairseq-train go after --"
    stages+=("$1")
    shift
  done
  shift "$(($# > 0 ? 1 : 0))"
  options=("$@")
  ((${#stages[@]})) || stages=(data train score)

  python=${PYTHON:-python}
  export PYTHON=$python # worker.sh's
  method=${METHOD:-salt}
  seed=${SEED:-1}
  nodes=${NODES:-1}
  tokens=${TOKENS:-8000}
  name=$recipe
  selection=()
  [[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
  command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
  gpus=${GPUS:-$("$python" -m recipes.support.gpus)}
  check GPUS "$gpus" '[0-9]+' "0, 1, 2, ..."
  processes=$gpus
  precision=${PRECISION:-bf16}
  if ((gpus == 0)); then
    processes=${WORKERS:-1}
    precision=${PRECISION:-fp32}
    keep_memory
  fi
  check WORKERS "$processes" '[1-9][0-9]*' "1, 2, 3, ..."
  check NODES "$nodes" '[1-9][0-9]*' "1, 2, 3, ..."
  check TOKENS "$tokens" '[1-9][0-9]*' "1, 2, 3, ..."
  check SEED "$seed" '[0-9]+' "0, 1, 2, ..."
  check PRECISION "$precision" 'bf16|fp16|fp32' "bf16, fp16, fp32"
  check SCALE "${SCALE:-full}" 'full|tiny' "full, tiny"
  if [[ ${SCALE:-} == tiny ]]; then
    tiny
    name+=-tiny
  fi
  data=${DATA:-data/$name}
  out=${OUT:-results/$name/$method/seed-$seed}
  # Not to be taken for options.
  [[ $data != -* ]] || data=./$data
  [[ $out != -* ]] || out=./$out
  baseline=${BASELINE:+results/$name/$BASELINE/seed-$seed}
  check AVERAGE "${AVERAGE:-last-1}" '(last|best)-[1-9][0-9]*' "last-N, best-N"
  set_adversary

  local stage
  for stage in "${stages[@]}"; do
    "stage_$stage"
  done
}

# Sets $adversary to the options of METHOD.
set_adversary() {
  local preset=${method%%,*} changes=()
  local file=recipes/presets/$preset.txt
  if [[ ! -f $file ]]; then
    local presets=(recipes/presets/*.txt)
    presets=("${presets[@]##*/}")
    fail "METHOD=$method: no preset $preset; there are ${presets[*]%.txt}"
  fi
  read -r -d '' -a adversary < <(sed 's/#.*//' "$file"; printf '\0')
  [[ $preset != salt-paper ]] || adversary+=("${paper[@]}")
  if [[ $method == *,* ]]; then
    IFS=, read -r -a changes <<<"${method#*,}"
    adversary+=("${changes[@]}")
  fi
}

stage_data() {
  local archives=()
  words archives "${ARCHIVE:-}"
  echo "data: $corpus, as $data"
  run mkdir -p "${data%/*}"
  # Trainings with other methods may be about to make the same data: the others wait.
  run flock --no-fork "$data.lock" "$python" -m data_prep "$corpus" --out "$data" \
    ${archives[@]+--archive "${archives[@]}"} ${selection[@]+"${selection[@]}"}
}

stage_train() {
  # As few passes as the memory allows, and then as many tokens each as make up the batch.
  local world=$((nodes * processes)) device=GPU log_of=
  local passes=$(((batch_tokens + world * tokens - 1) / (world * tokens)))
  local each=$((batch_tokens / (world * passes)))
  ((gpus)) || device=process
  if ((nodes > 1)); then
    check NODE_RANK "${NODE_RANK:-}" '[0-9]+' "0 on the first of NODES=$nodes machines, 1 on the next, ..."
    check MASTER_ADDR "${MASTER_ADDR:-}" '.+' "the name of the first machine"
    ((NODE_RANK == 0)) || log_of=-$NODE_RANK
  fi
  [[ -n $log_of || -n ${DRY_RUN:-} ]] || claim "$out"
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
  local sharing=(
    --max-tokens "$each" --update-freq "$passes" --ddp-backend legacy_ddp
  )
  [[ $precision == fp32 ]] || sharing+=("--$precision")
  ((gpus)) || sharing+=(--cpu)
  local launch=("$python" -m fairseq_cli.train)
  if ((nodes > 1 || (gpus == 0 && processes > 1))); then
    # fairseq takes no notice of torchrun: the worker passes on which one it is.
    launch=(
      "$python" -m torch.distributed.run --nnodes "$nodes" --nproc-per-node "$processes"
      --node-rank "${NODE_RANK:-0}" --master-addr "${MASTER_ADDR:-localhost}"
      --master-port "${MASTER_PORT:-29500}" --no-python recipes/training/worker.sh
    )
    ((gpus)) || sharing+=(--distributed-backend gloo)
  elif ((gpus)); then
    sharing+=(--distributed-world-size "$gpus") # fairseq starts a process for each
  fi
  settings+=(${options[@]+"${options[@]}"})
  local stamp=$data/bin/stage.json digest=
  [[ ! -e $stamp ]] || digest=$(sha256sum <"$stamp")
  # How the work is shared out may change between the calls, and is no part of the settings.
  train_in "$out" train "$updates" "$(printf '%s\n' "$digest" "${settings[@]}")" \
    "${launch[@]}" "${settings[@]:0:1}" "${sharing[@]}" "${settings[@]:1}"
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

# Sets $made_of and $labels to this method's model and, before it, the baseline's.
compared() {
  made_of=()
  labels=()
  if [[ -n $baseline ]]; then
    model_of "$baseline"
    made_of+=("$model_file")
    labels+=("$BASELINE")
  fi
  model_of "$out"
  made_of+=("$model_file")
  labels+=("$method")
}

# once NAME RESULT WHAT ARGUMENTS...: python makes a result of the files $made_of, unless it has.
once() {
  local stage=$1 result=$out/$2 what=$3 mark=$out/.$1 file fresh=
  shift 3
  local words=("$@" --out "$out")
  ((gpus)) || words+=(--cpu)
  if [[ -e $mark && $(<"$mark") == "${words[*]}" ]]; then
    fresh=yes
    for file in "${made_of[@]}"; do
      [[ $mark -nt $file ]] || fresh=
    done
  fi
  if [[ -n $fresh ]]; then
    echo "$stage: already there, $result"
    return
  fi
  echo "$stage: $what, with $model_file"
  run rm -f "$mark"
  run "$python" "${words[@]}"
  [[ -n ${DRY_RUN:-} ]] || printf '%s\n' "${words[*]}" >"$mark"
}
