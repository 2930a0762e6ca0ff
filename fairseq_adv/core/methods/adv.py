"""Adv: adversarial training for NMT (Sato et al., ACL 2019, after Goodfellow et al. 2015).

The leader minimises

    F(theta) = L(x, theta) + lambda * L(x + r, theta),

where r is the direction in which the loss of the true labels grows fastest, for each sentence and
side, and is taken as a constant:

    r = epsilon * a / ||a||_2,    a = d L(x + r, theta) / d r at r = 0.

a belongs to the clean pass, whose backward pass gives it beside the leader's gradient: a game costs
two plain steps. L is the label-smoothed loss of the task in all three places.

Where the authors' released code (pfnet-research/vat_nmt) differs from the paper, the paper is
followed:

- there, the norm is taken over the sentences of a batch, at each position: the code expects
  time-major gradients and receives batch-major ones.
- there, the perturbed loss is trained without label smoothing, and averaged over all positions,
  padding included, while the clean one is averaged over target tokens.
- there, a is taken from a third pass, with dropout masks of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fairseq_adv.core.adv_objective import DropoutMasks
from fairseq_adv.core.follower import Follower, as_leaves
from fairseq_adv.core.game import Accumulate, Game, Peak, Step
from fairseq_adv.core.predictions import evaluate
from fairseq_adv.core.random_state import RandomState


@dataclass(frozen=True, kw_only=True)
class Adv:
    """Clean and perturbed task loss.

    :param follower: starts at zero and takes one step.
    :param dropout_masks: `independent`, or `shared` by both passes.
    """

    follower: Follower
    dropout_masks: DropoutMasks

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=1)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """One batch; see `Method.step`."""
        zero, state = self.follower.start(game)
        leaf = as_leaves(zero)
        loss = game.task_loss(game.clean(leaf))
        clean = evaluate(loss)
        a = dict(zip(leaf, accumulate(clean, tuple(leaf.values())), strict=True))
        r, _ = self.follower.move(game, zero, a, state)

        shared = self.dropout_masks == "shared"
        masks = game.clean_masks() if shared else RandomState.draw()
        value = evaluate(game.task_loss(game.perturbed(r, masks)))
        gain = None
        if gauges:
            with torch.no_grad():
                without = game.task_loss(game.perturbed({}, masks))
                gain = value.detach() - evaluate(without)
        return Step(
            last=weight * value,
            adv_loss=value.detach(),
            objective=clean.detach() + weight * value.detach(),
            delta=r,
            clean_loss=loss,
            adv_gain=gain,
        )
