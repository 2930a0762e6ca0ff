# For recipes to source: errors, one run at a time, memory, and an end that takes effect at once.
#
# Then it is `run COMMAND...` instead of COMMAND and, where something is left to do at the end, there
# is a function `at_end`.
# shellcheck shell=bash

recipe=${0##*/} # the name in messages
recipe=${recipe%.sh}

fail() {
  echo "$recipe: error: $1" >&2
  exit 1
}

# words NAME VALUE: sets the array NAME to the words in VALUE. Quotes keep a word with spaces together,
# as in "'my texts/a.de' b.de"; the name of a file that is there is one word in any case.
words() {
  local -n _words=$1
  if [[ -e $2 ]]; then
    _words=("$2")
    return
  fi
  mapfile -d '' -t _words < <(xargs -r printf '%s\0' <<<"$2" 2>/dev/null)
  wait "$!" || fail "$2: a quotation does not end"
}

# Makes a directory for the results, and keeps other runs out of it: the lock is held until the last
# process of this run is gone.
claim() {
  mkdir -p "$1"
  [[ -e $1/.lock ]] || : >"$1/.lock"
  exec 9<"$1/.lock" # another user's can be read
  flock --nonblock 9 || fail "another run is at work in $1"
}

# For trainings on a CPU. As it comes, glibc gives the memory of every big tensor back to the system,
# and then waits for it anew, page by page: a quarter of a small model's training.
keep_memory() {
  export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=100000000
}

# train_in DIRECTORY WHAT UPDATES SETTINGS COMMAND...: runs a training with its checkpoints in
# DIRECTORY/checkpoints to its end, from where it was. SETTINGS is text: another one is another
# training. With $log_of, one of several machines that share the directory: a suffix for its log.
# shellcheck disable=SC2154 # $python is the caller's
train_in() {
  local directory=$1 what=$2 updates=$3 settings=$4
  shift 4
  local log=$directory/training${log_of:-}.log checkpoints=$directory/checkpoints
  local last=$checkpoints/checkpoint_last.pt
  if [[ -z ${DRY_RUN:-} ]]; then
    mkdir -p "$directory"
    if [[ ! -e $last ]]; then
      rm -f "$log" # of a training without a checkpoint, or with one no more
      printf '%s\n' "$settings" >"$directory/.settings"
    elif [[ ! -e $directory/.settings || $(<"$directory/.settings") != "$settings" ]]; then
      fail "$directory holds a training with other data or settings: remove it or choose another OUT"
    fi
  fi
  if grep -qs ' done training in ' "$directory/training.log"; then
    echo "$what: already there, $checkpoints"
    return
  fi
  if [[ -e $last ]]; then
    echo "$what: continues from $last; all output in $log"
  else
    echo "$what: $updates updates; all output in $log"
  fi
  run "$python" -m recipes.training.watch --log "$log" --updates "$updates" -- "$@"
}

# Sets $eval_bleu: with what options fairseq-train turns the subwords of a directory of data_prep's
# into text, to measure BLEU.
# shellcheck disable=SC2034
set_eval_bleu() {
  local report=$1/report.json
  eval_bleu=(--eval-bleu --eval-bleu-detok moses --eval-bleu-remove-bpe)
  if grep -qs '"subword": "sentencepiece"' "$report"; then
    eval_bleu=(--eval-bleu --eval-bleu-detok space --eval-bleu-remove-bpe sentencepiece)
  elif grep -qs '"target_tokens": "joinable"' "$report"; then
    eval_bleu=(--eval-bleu --eval-bleu-detok space --eval-bleu-remove-bpe)
  fi
  if grep -qs '"target_has_spaces": false' "$report"; then
    # fairseq's BLEU counts what spaces separate: here subwords, or it would be sentences.
    eval_bleu=(--eval-bleu --eval-bleu-detok space --eval-tokenized-bleu)
  fi
}

child=

# Runs a command in a way that Ctrl-C and kill take effect at once: bash would wait for the end of
# a command in the foreground. With DRY_RUN=1 prints it instead.
run() {
  if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "$@"
    echo
    return
  fi
  "$@" &
  child=$!
  wait "$child"
  child=
}

finish() {
  local status=$?
  trap - EXIT
  if [[ -n $child ]] && kill "$child" 2>/dev/null; then
    # A training finishes its update first, unless it is asked again.
    trap 'kill "$child" 2>/dev/null || true' INT TERM
    while kill -0 "$child" 2>/dev/null; do
      wait "$child" || true
    done
  fi
  trap '' INT TERM
  if declare -F at_end >/dev/null; then
    at_end
  fi
  if ((status > 128)); then
    echo "$recipe: interrupted; the same command continues from here" >&2
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
