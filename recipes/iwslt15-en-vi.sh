#!/usr/bin/env bash
# IWSLT'15, English to Vietnamese.
#
# Reproduces Table 2 of Zuo et al. (2021), column En-Vi: tokenised BLEU of 30.3 (transformer) to 32.8 (SALT).
# Expected GPU hours: 1.5 (transformer), 3.5 (salt), counted rather than measured: see docs/recipes.md.
#
#   recipes/iwslt15-en-vi.sh [STAGE...] [-- OPTIONS]   # training.sh says what METHOD=, GPUS=, ... are
set -euo pipefail

# ---- Hyper-parameters ----------------------------------------------------------------------------
# Batch, learning rate, beta, perturbation and search: the paper's Table 8 and Appendix B.1. It says
# nothing of dropout, weight decay, warm-up and label smoothing, which are its released code's, nor of
# the number of updates, which is ours.
corpus=iwslt15-en-vi
batch_tokens=64000
updates=10000
every=500 # updates from one validation and checkpoint to the next

model=(--arch transformer --share-decoder-input-output-embed)
optimisation=(
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --weight-decay 1e-4
  --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 4000
  --dropout 0.3 --label-smoothing 0.1
)
paper=(--init-std 1e-4 --ascent-step-size 1e-5 --epsilon 0.1) # METHOD=salt-paper
search=(--beam 10 --lenpen 1.0)
# --------------------------------------------------------------------------------------------------

# shellcheck source=recipes/training/training.sh
source "${BASH_SOURCE[0]%/*}/training/training.sh"
main "$@"
