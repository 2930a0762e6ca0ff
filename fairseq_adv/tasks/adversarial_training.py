"""What a task needs to play games: several backward passes per batch. A mixin for any task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from fairseq.optim import FairseqOptimizer
from fairseq.optim.amp_optimizer import AMPOptimizer
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fairseq_adv.criterions.adversarial import AdversarialCriterion


class Backward:
    """`core.game.Accumulate` over a fairseq optimizer.

    :param ignore_grad: the batch is a stand-in of a worker that has run out of data: go through
        the same motions, and leave zeros.
    """

    def __init__(self, optimizer: FairseqOptimizer, ignore_grad: bool) -> None:
        self.optimizer = optimizer
        self.factor = 0.0 if ignore_grad else 1.0

    def __call__(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """See `core.game.Accumulate`."""
        self.optimizer.backward(loss * self.factor)
        gradients = []
        for leaf in leaves:
            grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            gradients.append(grad / self._loss_scale())
            leaf.grad = None
        return tuple(gradients)

    def _loss_scale(self) -> float:
        scaler = getattr(self.optimizer, "scaler", None)
        return 1.0 if scaler is None else float(scaler.loss_scale)


class AdversarialTraining:
    """Mixin, before a fairseq task: serves the criterions of fairseq_adv, and any other too."""

    plays_games = True

    def build_criterion(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """fairseq's, after a check that the processes of a distributed run know of each other.

        Under torchrun, fairseq-train takes no notice of the launcher: each process would train on
        its own and overwrite the others' checkpoints.
        """
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        dist = torch.distributed
        world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        if launched > 1 and world != launched:
            raise SystemExit(
                f"fairseq_adv: the launcher started {launched} processes, but fairseq trains with "
                f"{world}: pass --distributed-world-size $WORLD_SIZE --distributed-rank $RANK "
                "--distributed-init-method env:// --distributed-no-spawn --device-id $LOCAL_RANK"
            )
        return super().build_criterion(cfg, *args, **kwargs)  # type: ignore[misc]

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: FairseqOptimizer,
        update_num: int,
        ignore_grad: bool = False,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """fairseq's `train_step`, which leaves the passes of a game to the criterion."""
        if not isinstance(criterion, AdversarialCriterion):
            return super().train_step(  # type: ignore[misc]
                sample, model, criterion, optimizer, update_num, ignore_grad
            )
        _refuse_what_is_not_sound(model, criterion, optimizer)
        model.train()
        model.set_num_updates(update_num)
        return criterion.play(model, sample, update_num, Backward(optimizer, ignore_grad))


def _refuse_what_is_not_sound(
    model: Any, criterion: AdversarialCriterion, optimizer: FairseqOptimizer
) -> None:
    if isinstance(getattr(model, "module", None), DistributedDataParallel):
        raise SystemExit(
            "fairseq_adv: --ddp-backend pytorch_ddp synchronises workers in the first backward "
            "pass of a batch, and a game takes several: use --ddp-backend legacy_ddp"
        )
    if isinstance(optimizer, AMPOptimizer):
        raise SystemExit("fairseq_adv: --amp is not supported: use --bf16, --fp16 or neither")
    half = next(model.parameters()).dtype in (torch.float16, torch.bfloat16)
    if half and not criterion.sound_in_half_precision:
        raise SystemExit(
            "fairseq_adv: --unroll-method central and one-sided take differences of gradients "
            "that 16 bits do not resolve: use --unroll-method exact with --bf16 and --fp16"
        )
