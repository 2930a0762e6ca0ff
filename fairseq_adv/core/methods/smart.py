"""SMART: smoothness-inducing regularisation with a Bregman proximal term (Jiang et al., ACL 2020).

The leader minimises (section 3)

    F(theta) = L(theta) + lambda_s R_s(theta) + mu D(theta, theta~),

    R_s(theta) = max over the ball of l_s(f(x + delta, theta), f(x, theta)),
    D(theta, theta~) = l_s(f(x, theta), f(x, theta~)),
    l_s(P, Q) = KL(P || Q) + KL(Q || P).

The maximum is approached by K steps of projected gradient ascent from N(0, sigma^2) and taken as a
constant (Algorithm 1). theta~ is the exponential average of the leader's earlier parameters, the
momentum form of the proximal point method.

l_s is twice the `symmetric-kl` of this package, which halves the sum as R-Drop and SALT's release
do. R_s and D are that half here: `weight` is 2 lambda_s, `proximal_weight` is 2 mu.

The reference theta~ predicts without dropout, as any model that is used; the paper does not say.

Where the widely used release (namisan/mt-dnn) differs from the paper, the paper is followed:

- there, start and step are added up, and the sum is divided by its largest component, per token:
  radius and step size do not act. So near to zero the gradient of a divergence is no larger than
  the start itself (1e-5), and the step is a small fraction of it: the "adversary" is, in effect,
  random noise whose largest component is 1.
- there, what is ascended is no KL divergence: it is a difference of clipped log-odds, which are
  detached, weighted by the perturbed probabilities.
- there, no proximal term is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_adv.core.adv_objective import DropoutMasks, Regularisation, Regulariser, gain
from fairseq_adv.core.divergence import Divergence
from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import Accumulate, Game, InvalidSetting, Peak, Step
from fairseq_adv.core.predictions import evaluate
from fairseq_adv.core.stackelberg import Ascent


@dataclass(frozen=True, kw_only=True)
class SMART:
    """Adversarial regularisation by the symmetric divergence, and a leader that stays near itself.

    :param proximal_weight: mu. Where it is not 0, the game needs a reference model.
    """

    follower: Follower
    dropout_masks: DropoutMasks
    proximal_weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.proximal_weight < float("inf"):
            raise InvalidSetting("proximal_weight", self.proximal_weight, "a number from 0 up")

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=2, logits=2)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        settings = Regularisation(
            divergence="symmetric-kl",
            clean_branch="differentiated",
            dropout_masks=self.dropout_masks,
        )
        l_s = Regulariser(game, accumulate, settings)
        proximal: list[Divergence] = []
        if self.proximal_weight > 0:
            reference, kind = game.reference(), settings.divergence
            proximal = [Divergence(reference, l_s.predictions, kind, self.proximal_weight)]
        if weight == 0:
            return self._proximal_alone(l_s, *proximal)
        ascent = Ascent(game, self.follower, l_s)
        for _ in range(self.follower.ascent_steps):
            ascent.climb(l_s.masks())
        masks = l_s.masks()
        last, value = l_s.last(ascent.delta, masks, weight, *proximal)
        objective = l_s.task_loss + weight * value
        for term in proximal:
            objective = objective + self.proximal_weight * term.value
        return Step(
            last=last,
            adv_loss=value,
            objective=objective,
            delta=ascent.delta,
            clean_loss=l_s.clean_loss,
            adv_gain=gain(l_s, value, masks) if gauges else None,
            proximal_loss=proximal[0].value if proximal else None,
        )

    def _proximal_alone(self, l_s: Regulariser, *proximal: Divergence) -> Step:
        """L + mu D: nobody perturbs what has no weight."""
        last = evaluate(l_s.clean_loss, *proximal)
        return Step(
            last=last,
            adv_loss=None,
            objective=last.detach(),
            delta={},
            clean_loss=l_s.clean_loss,
            proximal_loss=proximal[0].value if proximal else None,
        )
