#!/usr/bin/env bash
# LibreOffice's help texts, German to English: a small corpus that needs no registration, to try things on.
# It reproduces no published number: sizes and hyper-parameters are ours, and untuned.
#
#   recipes/libreoffice-help-de-en.sh [STAGE...] [-- OPTIONS]   # training.sh says what METHOD=, GPUS=, ... are
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
corpus=libreoffice-help-de-en
batch_tokens=8000
updates=6000
every=250 # updates from one validation and checkpoint to the next

model=(--arch transformer_iwslt_de_en --share-all-embeddings)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --weight-decay 1e-4
  --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 2000
  --dropout 0.3 --label-smoothing 0.1
)
paper=() # METHOD=salt-paper: the numbers of IWSLT'14
search=(--beam 5 --lenpen 1.0)
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/training.sh
source "${BASH_SOURCE[0]%/*}/training/training.sh"
main "$@"
