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

from fairseq_adv.core.adv_objective import (
    ADV_OBJECTIVES,
    AdvObjective,
    Regularisation,
    gain,
    open_objective,
)
from fairseq_adv.core.follower import Follower, as_leaves
from fairseq_adv.core.game import Accumulate, Delta, Game, InvalidSetting, Peak, Step


@dataclass(frozen=True, kw_only=True)
class FreeLB:
    """K = `follower.ascent_steps` passes, each of which serves both players.

    :param objective: what the follower raises; see the module.
    :param regularisation: l_v. With `task-loss` only its dropout masks matter.
    """

    follower: Follower
    objective: AdvObjective
    regularisation: Regularisation

    def __post_init__(self) -> None:
        if self.objective not in ADV_OBJECTIVES:
            raise InvalidSetting("adv_objective", self.objective, ", ".join(ADV_OBJECTIVES))

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=1) if self.objective == "task-loss" else self.regularisation.peak

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        loss = open_objective(self.objective, game, accumulate, self.regularisation, weight)
        share = weight / self.follower.ascent_steps
        delta, state = self.follower.start(game)
        masks = loss.masks()
        values = []
        for _ in range(self.follower.ascent_steps - 1):
            leaf = as_leaves(delta)
            value = loss(leaf, masks)
            g_adv = loss.accumulate(share * value, tuple(leaf.values()))
            # Without the share: the follower climbs the objective itself.
            gradient: Delta = {side: g / share for side, g in zip(leaf, g_adv, strict=True)}
            delta, state = self.follower.move(game, delta, gradient, state)
            values.append(value.detach())
        last, value = loss.last(delta, masks, share)
        values.append(value)
        mean = sum(values[1:], values[0]) / len(values)
        gained = gain(loss, value, masks) if gauges else None
        return Step(
            last=last,
            adv_loss=value,
            objective=loss.task_loss + weight * mean,
            delta=delta,
            clean_loss=loss.clean_loss,
            adv_gain=gained,
        )
