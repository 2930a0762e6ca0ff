"""Adv: adversarial training for NMT (Sato et al., ACL 2019, after Goodfellow et al. 2015).

The leader minimises

    F(theta) = L(x, theta) + lambda * L(x + r, theta),

where r is the direction in which the loss of the true labels grows fastest, for each sentence and
side, and is taken as a constant:

    r = epsilon * a / ||a||_2,    a = d L(x + r, theta) / d r at r = 0.

a belongs to the clean pass, whose backward pass gives it beside the leader's gradient: a game costs
two plain steps. L is the label-smoothed loss of the task in all three places.

With no step at all, `--ascent-steps 0`, r is a random direction of the same length: the control of
Kitada and Iyatomi (2021), their "RP". Theirs, too, is L + lambda L(x + r) at other sites: on
attention scores it is their Attention AT (Eqs. 10 to 12 and 20), on the words of a classifier Word
AT (Miyato et al. 2017).

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

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.comparison.evaluation import evaluate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Raised, Step
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.core.sites import Delta, added, as_leaves
from fairseq_adv.core.two_views import Masks


@dataclass(frozen=True, kw_only=True)
class Adv(Method):
    """Clean and perturbed task loss.

    :param follower: starts at zero and takes one step; or none, from where r is to be.
    """

    follower: Follower
    masks: Masks

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return "task-loss"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=1)

    def __post_init__(self) -> None:
        if self.follower.ascent_steps not in (0, 1):
            raise InvalidSetting("ascent_steps", self.follower.ascent_steps, "0, 1")

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """One batch; see `Method.step`."""
        climbs = self.follower.ascent_steps > 0
        leaf: Delta = {}
        if climbs:
            r, state = self.follower.begin(game)
            leaf = as_leaves(r)
        clean_masks = RandomState.capture()
        loss = game.task_loss(game.clean(added(leaf)))
        clean = evaluate(loss)
        a = dict(zip(leaf, accumulate(clean, tuple(leaf.values())), strict=True))
        if climbs:
            r, _ = self.follower.move(game, r, a, state)
        else:  # drawn after the masks of the clean pass, which are those of a plain step
            r, _ = self.follower.begin(game)

        masks = self.masks.next(clean_masks)
        loss_of_perturbed = evaluate(game.task_loss(game.perturbed(added(r), masks)))
        accumulate(weight * loss_of_perturbed)
        value, gain = loss_of_perturbed.detach(), None
        if gauges:
            with torch.no_grad():
                gain = value - evaluate(game.task_loss(game.perturbed({}, masks)))
        return Step(
            adv_loss=value,
            objective=clean.detach() + weight * value,
            delta=r,
            clean_loss=loss,
            adv_gain=gain,
        )
