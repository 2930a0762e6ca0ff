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

# Makes a directory for the results, and keeps other runs out of it: the lock is held until the last
# process of this run is gone.
claim() {
  mkdir -p "$1"
  exec 9>"$1/.lock"
  flock --nonblock 9 || fail "another run is at work in $1"
}

# For trainings on a CPU. As it comes, glibc gives the memory of every big tensor back to the system,
# and then waits for it anew, page by page: a quarter of a small model's training.
keep_memory() {
  export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=100000000
}

# Sets $eval_bleu: with what options fairseq-train turns the subwords of a directory of data_prep's
# into text, to measure BLEU.
# shellcheck disable=SC2034
set_eval_bleu() {
  eval_bleu=(--eval-bleu --eval-bleu-detok moses --eval-bleu-remove-bpe)
  if grep -q '"subword": "sentencepiece"' "$1/report.json"; then
    eval_bleu=(--eval-bleu --eval-bleu-detok space --eval-bleu-remove-bpe sentencepiece)
  fi
}

child=

# Runs a command in a way that Ctrl-C and kill take effect at once: bash would wait for the end of
# a command in the foreground.
run() {
  "$@" &
  child=$!
  wait "$child"
  child=
}

finish() {
  local status=$?
  trap - EXIT
  trap '' INT TERM
  if [[ -n $child ]] && kill "$child" 2>/dev/null; then
    wait "$child" || true
  fi
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
