#!/usr/bin/env bash
# One process of a training that torchrun has started: recipes/training/worker.sh OPTIONS, of fairseq-train.
#
# fairseq-train on its own takes no notice of torchrun's environment: each process would train a model
# of its own, all of them into one directory.
set -euo pipefail

exec "${PYTHON:-python}" -m fairseq_cli.train "$@" \
  --distributed-world-size "$WORLD_SIZE" --distributed-rank "$RANK" \
  --distributed-init-method env:// --distributed-no-spawn --device-id "$LOCAL_RANK"
