"""FreeLB: free large-batch adversarial training (Zhu et al., ICLR 2020).

Each of K ascent steps computes the gradient of delta anyway; the same backward pass gives the
leader's, and the leader descends along the average of the K (Algorithm 1):

    delta_0 = (1 / sqrt(N)) U(-epsilon, epsilon),    N components per sentence
    for t = 1 .. K:
        g       += (1 / K) d L(x + delta_{t-1}) / d theta
        g_adv    = d L(x + delta_{t-1}) / d delta
        delta_t  = Pi(delta_{t-1} + eta * g_adv / ||g_adv||)

with norms and projection per sentence. With one step from zero, K = 1, this is the plain step.

The K passes have one dropout mask: the follower climbs for the network that it then meets, and the
leader descends for one network at a time, as with variational dropout (section 3.3, "When
adversarial training meets dropout"). It is the clean pass's, or one of its own:
`Regularisation.dropout_masks`.

- `task-loss` is the algorithm as published: L is the task loss, and there is no clean pass. With
  a weight below 1, (1 - alpha) of the clean loss stays beside alpha of the perturbed ones.
- `divergence` is how the SALT paper used it ("an adversarial regularization method"): l_v in the
  place of L, weighted by alpha, beside the clean task loss.

Where the released code (zhuchen03/FreeLB) differs from the paper, the paper is followed: there, the
gradient of delta at padding takes part in the norm and moves delta there; the size of the
start is a setting of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Step
from fairseq_adv.core.objective import TrainsOnAscent
from fairseq_adv.core.settings import at_least
from fairseq_adv.core.sites import Delta, as_leaves


@dataclass(frozen=True, kw_only=True)
class FreeLB(TrainsOnAscent):
    """K = `follower.ascent_steps` passes, each of which serves both players."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("ascent_steps", self.follower.ascent_steps, 1)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        loss = self.objective(game, accumulate, weight)
        share = weight / self.follower.ascent_steps
        delta, state = self.follower.begin(game)
        masks = loss.masks()
        values = []
        for _ in range(self.follower.ascent_steps - 1):
            leaf = as_leaves(delta)
            value = loss(leaf, masks)
            g_adv = loss.accumulate(share * value, tuple(leaf.values()))
            # Without the share: the follower climbs the objective itself.
            gradient: Delta = {site: g / share for site, g in zip(leaf, g_adv, strict=True)}
            delta, state = self.follower.move(game, delta, gradient, state)
            values.append(value.detach())
        value, _ = loss.last(delta, masks, share)
        values.append(value)
        mean = sum(values[1:], values[0]) / len(values)
        gain = loss.gain(value, masks) if gauges else None  # whose pass at rest is a clean one
        return Step(
            adv_loss=value,
            objective=loss.task_loss + weight * mean,
            delta=delta,
            clean_loss=loss.clean_loss,
            adv_gain=gain,
        )
