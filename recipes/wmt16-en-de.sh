#!/usr/bin/env bash
# WMT'16, English to German, Transformer-big.
#
# Reproduces Table 3 of Zuo et al. (2021): sacreBLEU of 28.4 (transformer) to 29.6 (SALT).
# Expected GPU hours: 30 (transformer), 80 (salt), counted rather than measured: see docs/recipes.md.
#
#   recipes/wmt16-en-de.sh [STAGE...] [-- OPTIONS]   # training.sh says what METHOD=, GPUS=, ... are
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# Batch, learning rate, beta, perturbation and search: the paper's Table 8 and Appendix B.1; the rest is
# Ott et al.'s (2018), whose data it uses.
corpus=wmt16-en-de
batch_tokens=450000
updates=20000
every=1000 # updates from one validation and checkpoint to the next

model=(--arch transformer_vaswani_wmt_en_de_big --share-all-embeddings)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --weight-decay 0.0
  --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-init-lr 1e-7 --warmup-updates 4000
  --dropout 0.3 --label-smoothing 0.1
)
paper=(--init-std 1e-4 --ascent-step-size 1e-4 --epsilon 0.3) # METHOD=salt-paper
search=(--beam 4 --lenpen 0.6)
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/training.sh
source "${BASH_SOURCE[0]%/*}/training/training.sh"
main "$@"
