#!/usr/bin/env bash
# IWSLT'14, German to English.
#
# Reproduces Table 2 of Zuo et al. (2021), column De-En: tokenised BLEU of 34.7 (transformer) to 36.8 (SALT).
# Expected GPU hours: 1 (transformer), 2.5 (salt), counted rather than measured: see docs/recipes.md.
#
#   recipes/iwslt14-de-en.sh [STAGE...] [-- OPTIONS]   # training.sh says what METHOD=, GPUS=, ... are
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# Batch, learning rate, beta, perturbation and search: the paper's Table 8 and Appendix B.1. It says
# nothing of dropout, weight decay, warm-up and label smoothing, which are its released code's, nor of
# the number of updates, which is ours.
corpus=iwslt14-de-en
batch_tokens=64000
updates=10000
every=500 # updates from one validation and checkpoint to the next

model=(--arch transformer_iwslt_de_en --share-decoder-input-output-embed)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --weight-decay 1e-4
  --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 4000
  --dropout 0.3 --label-smoothing 0.1
)
paper=(--init-std 1e-4 --ascent-step-size 1e-4 --epsilon 0.3) # METHOD=salt-paper
search=(--beam 9 --lenpen 1.5)
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/training.sh
source "${BASH_SOURCE[0]%/*}/training/training.sh"
main "$@"
