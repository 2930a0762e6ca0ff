#!/usr/bin/env bash
# Which game should I play? Trains the same model on the same data with every method and seed, scores
# its translations, or its labels of sentences, and writes tables and pictures. Run it from the root of
# the repository:
#
#   recipes/compare.sh [-- OPTIONS]
#
#   OPTIONS    of fairseq-train, for all trainings; they override those below. --cpu leaves a GPU
#              unused, --fp16 or --bf16 saves time on one
#
#   METHODS    presets of recipes/presets, or for sentences of recipes/presets/sentences, separated by
#              spaces; changes to one after commas: "salt salt,--dropout-masks=shared". Plain training,
#              `transformer` or `plain`, is always there: all else is compared with it
#   SEEDS      (default: "1 2 3")
#   CORPUS     one of data_prep's corpora (default: libreoffice-help-de-en), of translations or of
#              sentences (reviews, glue-rte, ...), or a directory that data_prep has made, which is taken
#              as it is
#   TEXT       your own corpus instead. Two files, line n of one translates line n of the other; their
#              endings are the languages: "my/text.de my/text.en". Or one, my.tsv: a label, a tab and a
#              sentence, or two of them, in each line. Dev and test set are drawn from it
#   ENCODER    of sentences: one that has a public home (default: minilm), or a directory made by
#              data_prep encoder
#   ARCHIVE    copies of the corpus' archives, read instead of downloading them; here and in TEXT quote
#              names with spaces: "'my files/a.de' 'my files/a.en'"
#   DATA_ARGS  what data_prep takes of a corpus (default: below; "" takes all)
#   UPDATES    how long every method trains (default: below)
#   TIME       equal time, in updates of plain training (default: twice UPDATES). What is cheap
#              trains on beyond UPDATES for that
#   EVERY      updates from checkpoint to checkpoint, which the dev set judges (default: below)
#   JOBS       trainings at a time (default: one per GPU; without, one per core)
#   OUT        where the results go (default: results/compare/CORPUS)
#   PYTHON     the python of the environment (default: python)
#
# What is finished is reused, run by run; the same command continues an interrupted comparison. More
# METHODS, SEEDS or UPDATES add to what is there.
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# Low-resource settings, in which some hours of two cores are enough for three seeds. No schedule knows the end:
# what is cheap trains on.
translation() {
  # Plain training overfits.
  data_args=${DATA_ARGS---max-words 15 --train-pairs 2000 --bpe-merges 2000}
  methods=${METHODS:-transformer adv freeat freelb smart salt r3f rdrop simcut}
  updates=${UPDATES:-1600}
  every=${EVERY:-200}
  comparing=(--beam 5)
  options=(
    --arch transformer --share-all-embeddings
    --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4
    --decoder-layers 2 --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --decoder-attention-heads 4
    --encoder-normalize-before --decoder-normalize-before # bears the high learning rate
    --optimizer adam --adam-betas '(0.9, 0.98)' --lr 3e-3 --lr-scheduler inverse_sqrt
    --warmup-updates 400 --max-tokens 1000 --dropout 0.2 --label-smoothing 0.1
    --ddp-backend legacy_ddp --num-workers 0
  )
  validation=(
    --eval-bleu-args '{"beam": 1, "max_len_a": 1.2, "max_len_b": 10}'
    --max-tokens-valid 4000 --log-interval 10
  )
}
sentences() {
  # The SALT paper's optimiser and clipping, a rate and a batch that it has among its choices (Appendix B.2).
  data_args=${DATA_ARGS---train-examples 2000 --max-pieces 64}
  methods=${METHODS:-plain adv freeat freelb smart salt r3f rdrop simcut}
  updates=${UPDATES:-200}
  every=${EVERY:-25}
  comparing=(--encoder "$encoder")
  options=(
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0 --lr 1e-4 --lr-scheduler inverse_sqrt
    --warmup-updates 20 --batch-size 32 --dropout 0.1 --attention-dropout 0.1 --pooler-dropout 0.1
    --ddp-backend legacy_ddp --num-workers 0
  )
  validation=(--batch-size-valid 64 --log-interval 10)
}
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/stages.sh
source "${BASH_SOURCE[0]%/*}/training/stages.sh"

python=${PYTHON:-python}
corpus=${CORPUS:-libreoffice-help-de-en}
corpus=${corpus%/}
read -r -a seeds <<<"${SEEDS:-1 2 3}"
text=() archives=() selection=() eval_bleu=()
words text "${TEXT:-}"
words archives "${ARCHIVE:-}"
[[ $# == 0 || $1 == -- ]] || fail "usage: recipes/compare.sh [-- options of fairseq-train]"
shift "$(($# > 0 ? 1 : 0))"
given=("$@")

[[ -d fairseq_adv && -d recipes ]] || fail "run it from the root of the repository"
command -v "$python" >/dev/null || fail "PYTHON=$python: no such command"
keep_memory

kind=translation
if ((${#text[@]})); then
  [[ ${#text[@]} != 1 || ${text[0]} != *.tsv ]] || kind=sentences
elif [[ $corpus =~ ^((glue|20news|agnews|babi)-.*|anli|snli|sst|imdb|reviews)$ ]] ||
  grep -qs '"num_classes"' "$corpus/report.json"; then
  kind=sentences
fi
encoder=${ENCODER:-minilm}
encoder=${encoder%/}
[[ -e $encoder/encoder.json ]] || encoder=data/encoders/$encoder
"$kind"
words selection "$data_args"
read -r -a methods <<<"$methods"

# ---- 1. Data -------------------------------------------------------------------------------------
if [[ $kind == sentences && ${#text[@]} == 1 ]]; then
  name=${CORPUS:-${text[0]%.tsv}}
  name=${name##*/}
  name+=.${encoder##*/}
  data=data/compare/$name
  source=(sentences --train "${text[0]}")
elif ((${#text[@]})); then
  ((${#text[@]} == 2)) ||
    fail "TEXT=$TEXT: give two files, \"my/text.de my/text.en\", or one with labels, my.tsv"
  prefix=${text[0]%.*}
  [[ $prefix == "${text[1]%.*}" ]] ||
    fail "TEXT=$TEXT: the names may differ in their endings only, which are the languages"
  name=${CORPUS:-$prefix}
  name=${name##*/}
  data=data/compare/$name
  source=(files --source-lang "${text[0]##*.}" --target-lang "${text[1]##*.}" --train "$prefix")
elif [[ -e $corpus/report.json ]]; then
  name=${corpus##*/}
  data=$corpus
  source=()
else
  name=$corpus
  [[ $kind == translation ]] || name+=.${encoder##*/}
  data=data/compare/$name
  source=("$corpus" ${archives[@]+--archive "${archives[@]}"})
fi
out=${OUT:-results/compare/$name}
[[ $out != -* ]] || out=./$out # not to be taken for an option
claim "$out"
echo "1/4 data: $data${source[*]:+, ${selection[*]:-all of it}}"
if ((${#source[@]})); then
  more=(--joined-dictionary) # for --share-all-embeddings
  if [[ $kind == sentences ]]; then
    more=(--encoder "$encoder")
    [[ -e $encoder ]] || prepare "the encoder ${encoder##*/}" "$encoder" encoder "${encoder##*/}"
  fi
  mkdir -p data/compare
  # Comparisons by other settings may be about to make the same data: the others wait.
  run flock --no-fork "data/compare/.$name.lock" \
    "$python" -m data_prep "${source[@]}" --out "$data" "${more[@]}" ${selection[@]+"${selection[@]}"}
fi
[[ $kind == sentences ]] || set_eval_bleu "$data"

# ---- 2. to 4. Costs, trainings, report -----------------------------------------------------------
run "$python" -m recipes.comparison "$data" "$out" \
  --methods "${methods[@]}" --seeds "${seeds[@]}" \
  --updates "$updates" --time "${TIME:-$((2 * updates))}" --every "$every" \
  "${comparing[@]}" ${JOBS:+--jobs "$JOBS"} \
  -- "${options[@]}" ${eval_bleu[@]+"${eval_bleu[@]}"} "${validation[@]}" ${given[@]+"${given[@]}"}
