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

Replays and the place where delta waits are the caller's: `FreeAT.replays`, `Memory`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Memory, Step
from fairseq_adv.core.objective import PerturbedTaskLoss, TrainsOnAscent
from fairseq_adv.core.players.rule import REMEMBERS, RULES
from fairseq_adv.core.settings import InvalidSetting, means
from fairseq_adv.core.sites import Delta, as_leaves


@dataclass(frozen=True, kw_only=True)
class FreeAT(TrainsOnAscent):
    """One pass for both players; delta goes on from replay to replay.

    Its follower takes one step per replay, by a rule that has no memory of its own.

    :param replays: m.
    """

    replays: int = field(
        metadata=means(
            "train so many times in a row on each group of batches: N updates then see 1/n as much "
            "data as without"
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replays < 1:
            raise InvalidSetting("replays", self.replays, "1, 2, 3, ...")
        rule = self.follower.rule.ascent_rule
        if rule in REMEMBERS:
            raise InvalidSetting(
                "ascent_rule", rule, ", ".join(r for r in RULES if r not in REMEMBERS)
            )
        if self.directions.directions == "neighbours":  # which are others in the next replay
            allowed = "free; differences, raw-differences for attention"
            raise InvalidSetting("directions", "neighbours", allowed)

    def step(
        self,
        game: Game,
        accumulate: Accumulate,
        *,
        weight: float,
        gauges: bool = False,
        memory: Memory | None = None,
    ) -> Step:
        """Algorithm 1, one replay of one batch; see `Method.step`.

        :param memory: of this batch; None: nothing is carried on.
        """
        loss = self.objective(game, accumulate, weight)
        start, state = self.follower.begin(game)
        remembered = None if memory is None else memory.recall()
        delta = start if remembered is None else remembered
        leaf = as_leaves(delta)
        masks = loss.masks()
        value, g_adv = loss.last(leaf, masks, weight)
        if memory is not None:
            gradient: Delta = {site: g / weight for site, g in zip(leaf, g_adv, strict=True)}
            memory.remember(self.follower.move(game, delta, gradient, state)[0])
        moved = remembered is not None
        if not moved and isinstance(loss, PerturbedTaskLoss) and loss.clean_loss is None:
            loss.clean_loss = loss.latest  # of delta = 0
        gain = loss.gain(value, masks) if gauges and moved else None
        return Step(
            adv_loss=value if moved else None,
            objective=loss.task_loss + weight * value,
            delta=delta if moved else {},
            clean_loss=loss.clean_loss,
            adv_gain=gain,
        )
