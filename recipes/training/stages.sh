# What recipes of translations and of sentences share: stages and options, devices, methods, results that are
# made once. A recipe sources this and, in its main, calls read_stages, set_places, set_adversary and do_stages.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # a recipe sets some of these, and reads the others

# shellcheck source=recipes/training/job.sh
source "${BASH_SOURCE[0]%/*}/job.sh"

# check NAME VALUE PATTERN ALLOWED
check() {
  [[ $2 =~ ^($3)$ ]] || fail "$1=$2: allowed is $4"
}

# read_stages ALL DEFAULT ARGUMENTS...: sets $stages and $options from a recipe's arguments, and from the
# environment what all recipes take. ALL has commas between the stages, DEFAULT has none.
read_stages() {
  local all=$1 default=$2
  shift 2
  stages=()
  while (($#)) && [[ $1 != -- ]]; do
    check STAGE "$1" "${all//, /|}" "$all; options of fairseq-train go after --"
    stages+=("$1")
    shift
  done
  shift "$(($# > 0 ? 1 : 0))"
  options=("$@")
  ((${#stages[@]})) || read -r -a stages <<<"$default"

  python=${PYTHON:-python}
  export PYTHON=$python # worker.sh's
  method=${METHOD:-salt}
  seed=${SEED:-1}
  nodes=${NODES:-1}
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
  check SEED "$seed" '[0-9]+' "0, 1, 2, ..."
  check PRECISION "$precision" 'bf16|fp16|fp32' "bf16, fp16, fp32"
  check SCALE "${SCALE:-full}" 'full|tiny' "full, tiny"
}

# set_places DATA RESULTS: sets $data, $out and $baseline; the results of each method and seed are below RESULTS.
set_places() {
  data=${DATA:-$1}
  out=${OUT:-$2/$method/seed-$seed}
  # Not to be taken for options.
  [[ $data != -* ]] || data=./$data
  [[ $out != -* ]] || out=./$out
  baseline=${BASELINE:+$2/$BASELINE/seed-$seed}
}

# set_adversary PRESETS [OPTIONS...]: sets $adversary to the options of METHOD, one of a directory of presets;
# OPTIONS are the recipe's own for salt-paper.
set_adversary() {
  local directory=$1 preset=${method%%,*} changes=()
  shift
  local file=$directory/$preset.txt
  if [[ ! -f $file ]]; then
    local presets=("$directory"/*.txt)
    presets=("${presets[@]##*/}")
    fail "METHOD=$method: no preset $preset; there are ${presets[*]%.txt}"
  fi
  read -r -d '' -a adversary < <(sed 's/#.*//' "$file"; printf '\0')
  [[ $preset != salt-paper ]] || adversary+=("$@")
  if [[ $method == *,* ]]; then
    local after=${method#*,}
    mapfile -t changes <<<"${after//,--/$'\n'--}" # a comma in a value is its own
    adversary+=("${changes[@]}")
  fi
}

do_stages() {
  local stage
  for stage in "${stages[@]}"; do
    "stage_$stage"
  done
}

# prepare WHAT DIRECTORY CORPUS OPTIONS...: data_prep makes a directory. Trainings with other methods may be
# about to make the same: the first one does, the others wait.
prepare() {
  local directory=$2 corpus=$3
  echo "data: $1, as $directory"
  shift 3
  run mkdir -p "$(dirname "$directory")"
  run flock --no-fork "$directory.lock" "$python" -m data_prep "$corpus" --out "$directory" "$@"
}

# set_encoder DIRECTORY: sets $model to what fairseq-train takes to begin with an encoder of data_prep's. With
# --restore-file it would begin anew where it is to continue.
set_encoder() {
  local given=()
  [[ ! -e $1/options.txt ]] || read -r -a given <"$1/options.txt"
  model=(--finetune-from-model "$1/model.pt" ${given[@]+"${given[@]}"})
}

# begin_training BATCH MOST OPTION: claims $out, and sets $shared to the options, and $launch to the command, by
# which all GPUs or processes of all machines make batches of BATCH together: as few passes as the memory
# allows, which holds MOST a time, and then as many each as make up the batch. OPTION is fairseq's for that number.
begin_training() {
  local world=$((nodes * processes))
  passes=$((($1 + world * $2 - 1) / (world * $2)))
  each=$(($1 / (world * passes)))
  device=GPU
  ((gpus)) || device=process
  log_of=
  if ((nodes > 1)); then
    check NODE_RANK "${NODE_RANK:-}" '[0-9]+' "0 on the first of NODES=$nodes machines, 1 on the next, ..."
    check MASTER_ADDR "${MASTER_ADDR:-}" '.+' "the name of the first machine"
    ((NODE_RANK == 0)) || log_of=-$NODE_RANK
  fi
  [[ -n $log_of || -n ${DRY_RUN:-} ]] || claim "$out"
  shared=("$3" "$each" --update-freq "$passes" --ddp-backend legacy_ddp)
  [[ $precision == fp32 ]] || shared+=("--$precision")
  ((gpus)) || shared+=(--cpu)
  launch=("$python" -m fairseq_cli.train)
  if ((nodes > 1 || (gpus == 0 && processes > 1))); then
    # fairseq takes no notice of torchrun: the worker passes on which one it is.
    launch=(
      "$python" -m torch.distributed.run --nnodes "$nodes" --nproc-per-node "$processes"
      --node-rank "${NODE_RANK:-0}" --master-addr "${MASTER_ADDR:-localhost}"
      --master-port "${MASTER_PORT:-29500}" --no-python recipes/training/worker.sh
    )
    ((gpus)) || shared+=(--distributed-backend gloo)
  elif ((gpus)); then
    shared+=(--distributed-world-size "$gpus") # fairseq starts a process for each
  fi
}

# train_shared UPDATES SETTINGS...: trains in $out, as begin_training has shared it out; SETTINGS are the data and
# the options of fairseq-train. How the work is shared out may change between the calls, and is no part of them.
train_shared() {
  local updates=$1 stamp=$data/bin/stage.json digest=
  shift
  local all=("$@" ${options[@]+"${options[@]}"})
  [[ ! -e $stamp ]] || digest=$(sha256sum <"$stamp")
  train_in "$out" train "$updates" "$(printf '%s\n' "$digest" "${all[@]}")" \
    "${launch[@]}" "${all[0]}" "${shared[@]}" "${all[@]:1}"
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
