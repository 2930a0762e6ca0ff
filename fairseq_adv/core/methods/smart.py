"""SMART: smoothness-inducing regularisation with a Bregman proximal term (Jiang et al., ACL 2020).

The leader minimises (section 3)

    F(theta) = L(theta) + lambda_s R_s(theta) + mu D(theta, theta~),

    R_s(theta) = max over the ball of l_s(f(x + delta, theta), f(x, theta)),
    D(theta, theta~) = l_s(f(x, theta), f(x, theta~)),
    l_s(P, Q) = KL(P || Q) + KL(Q || P).

L + lambda_s R_s is `TwoViews` with s = 0 and a follower's move in view 2.

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

from dataclasses import dataclass, field

import torch

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.comparison.evaluation import Term, evaluate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Raised, Step
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.stackelberg import Ascent
from fairseq_adv.core.settings import at_least, means
from fairseq_adv.core.two_views import Masks, Regularisation, TwoViews


@dataclass(frozen=True, kw_only=True)
class SMART(Method):
    """Adversarial regularisation by the symmetric divergence, and a leader that stays near itself.

    :param proximal_weight: mu. Where it is not 0, the game needs a reference.
    """

    follower: Follower
    masks: Masks
    proximal_weight: float = field(
        metadata=means(
            "weight mu of the divergence from the average of earlier models that --store-ema "
            "keeps; 0: none"
        )
    )

    ascends_apart = True

    def __post_init__(self) -> None:
        at_least("proximal_weight", self.proximal_weight, 0)

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return "divergence"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=2, logits=2)

    def step(
        self,
        game: Game,
        accumulate: Accumulate,
        *,
        weight: float,
        gauges: bool = False,
        reference: Game | None = None,
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`.

        :param reference: the same batch, and theta~, an average of earlier leaders.
        """
        settings = Regularisation(
            divergence="symmetric-kl",
            clean_branch="differentiated",
            dropout_masks=self.masks.dropout_masks,
        )
        l_s = TwoViews(game, accumulate, settings)
        proximal: tuple[Term, ...] = ()
        if self.proximal_weight > 0:
            assert reference is not None, "whoever sets a weight has one"
            with torch.no_grad():
                earlier = reference.clean({}).detached()
            comparison = game.comparison(settings.divergence)
            proximal = (comparison.term(earlier, l_s.clean, self.proximal_weight),)
        if weight == 0:
            return self._proximal_alone(l_s, accumulate, *proximal)
        ascent = Ascent(game, self.follower, l_s)
        for _ in range(self.follower.ascent_steps):
            ascent.climb(l_s.masks())
        masks = l_s.masks()
        value, _ = l_s.last(ascent.delta, masks, weight, *proximal)
        objective = l_s.task_loss + weight * value
        for term in proximal:
            objective = objective + self.proximal_weight * term.value
        return Step(
            adv_loss=value,
            objective=objective,
            delta=ascent.delta,
            clean_loss=l_s.clean_loss,
            adv_gain=l_s.gain(value, masks) if gauges else None,
            proximal_loss=proximal[0].value if proximal else None,
        )

    def _proximal_alone(self, l_s: TwoViews, accumulate: Accumulate, *proximal: Term) -> Step:
        """L + mu D: nobody perturbs what has no weight."""
        loss = evaluate(l_s.clean_loss, *proximal)
        accumulate(loss)
        return Step(
            adv_loss=None,
            objective=loss.detach(),
            delta={},
            clean_loss=l_s.clean_loss,
            proximal_loss=proximal[0].value if proximal else None,
        )
