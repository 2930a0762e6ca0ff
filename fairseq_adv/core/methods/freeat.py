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
from fairseq_adv.core.method import Memory, Method, Peak, Raised, Step
from fairseq_adv.core.objective import ADV_OBJECTIVES, PerturbedTaskLoss, open_objective
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.settings import InvalidSetting, means, one_of
from fairseq_adv.core.sites import Delta, as_leaves
from fairseq_adv.core.two_views import Regularisation


@dataclass(frozen=True, kw_only=True)
class FreeAT(Method):
    """One pass for both players; delta goes on from replay to replay.

    :param follower: takes one step per replay. Its rule must have no memory of its own.
    :param regularisation: l_v. With `task-loss` only its dropout masks matter.
    :param adv_objective: what the follower raises; see the module.
    :param replays: m.
    """

    follower: Follower
    regularisation: Regularisation
    adv_objective: Raised = field(
        metadata=means(
            "what the follower raises: the task loss of the perturbed words, in place of the clean "
            "one, or the divergence from the clean predictions, beside the clean loss"
        )
    )
    replays: int = field(
        metadata=means(
            "train so many times in a row on each group of batches: N updates then see 1/n as much "
            "data as without"
        )
    )

    def __post_init__(self) -> None:
        one_of("adv_objective", self.adv_objective, ADV_OBJECTIVES)
        if self.replays < 1:
            raise InvalidSetting("replays", self.replays, "1, 2, 3, ...")
        if self.follower.rule.ascent_rule == "adam":
            raise InvalidSetting("ascent_rule", "adam", "sgd, normalized, sign")

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return self.adv_objective

    @property
    def replaces_task_loss(self) -> bool:
        """See `Method`."""
        return self.adv_objective == "task-loss"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=1) if self.replaces_task_loss else self.regularisation.peak

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
        loss = open_objective(self.adv_objective, game, accumulate, self.regularisation, weight)
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
