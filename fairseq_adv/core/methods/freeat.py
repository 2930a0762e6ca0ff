"""FreeAT: "free" adversarial training (Shafahi et al., NeurIPS 2019), adapted to NMT.

Each group of batches is trained on m times in a row, its replays. One backward pass per replay
gives the gradients of both players; the leader takes an ordinary optimizer update, the follower a
step, from which the next replay goes on (Algorithm 1):

    for each group, repeated m times:
        g_theta, g_adv = d L(x + delta, theta) / d theta, d L(x + delta, theta) / d delta
        theta <- the optimizer's update along g_theta
        delta <- Pi(delta + eta * rule(g_adv))

An update costs what a plain one does; what is paid with is data: N updates see N / m groups.

- The paper's delta has the size of an image and is carried on to the next batch. Sentences have
  other lengths there: each group begins at zero, whose first replay therefore is a plain update.
- The paper's rule is `sign` in the maximum norm, with a step equal to the radius.
- `task-loss` is the paper's objective, and the SALT paper's ("Adv, FreeAT suffer from label
  leakage"). With a weight below 1, (1 - alpha) of the clean loss stays beside alpha of the
  perturbed one, for which a clean pass is added. With `divergence`, l_v weighted by alpha comes to
  the clean task loss.

Replays and the place where delta waits are the caller's: `Game.recall`, `Game.remember`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fairseq_adv.core.adv_objective import (
    ADV_OBJECTIVES,
    AdvObjective,
    PerturbedTaskLoss,
    Regularisation,
    gain,
    open_objective,
)
from fairseq_adv.core.follower import Follower, as_leaves
from fairseq_adv.core.game import Accumulate, Delta, Game, InvalidSetting, Peak, Step


@dataclass(frozen=True, kw_only=True)
class FreeAT:
    """One pass for both players; delta goes on from replay to replay.

    :param follower: takes one step per replay. Its rule must have no memory of its own.
    :param objective: what the follower raises; see the module.
    :param regularisation: l_v. With `task-loss` only its dropout masks matter.
    """

    follower: Follower
    objective: AdvObjective
    regularisation: Regularisation

    def __post_init__(self) -> None:
        if self.objective not in ADV_OBJECTIVES:
            raise InvalidSetting("adv_objective", self.objective, ", ".join(ADV_OBJECTIVES))
        if self.follower.ascent_rule == "adam":
            raise InvalidSetting("ascent_rule", "adam", "sgd, normalized, sign")

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=1) if self.objective == "task-loss" else self.regularisation.peak

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one replay of one batch; see `Method.step`."""
        loss = open_objective(self.objective, game, accumulate, self.regularisation, weight)
        start, state = self.follower.start(game)
        remembered = game.recall()
        delta = start if remembered is None else remembered
        leaf = as_leaves(delta)
        masks = loss.masks()
        last, value = loss.last(leaf, masks, weight)

        def move(g_adv: tuple[Tensor, ...]) -> None:
            gradient: Delta = {side: g / weight for side, g in zip(leaf, g_adv, strict=True)}
            game.remember(self.follower.move(game, delta, gradient, state)[0])

        moved = remembered is not None
        if not moved and isinstance(loss, PerturbedTaskLoss) and loss.clean_loss is None:
            loss.clean_loss = loss.latest  # of delta = 0
        gained = gain(loss, value, masks) if gauges and moved else None
        return Step(
            last=last,
            adv_loss=value if moved else None,
            objective=loss.task_loss + weight * value,
            delta=delta if moved else {},
            clean_loss=loss.clean_loss,
            adv_gain=gained,
            leaves=tuple(leaf.values()),
            then=move,
        )
