"""SALT: adversarial regularisation as a Stackelberg game (Zuo et al., EMNLP 2021).

The leader minimises, over theta (Eq. 2), what is `TwoViews` with s = 0 and a follower's move in
view 2,

    F(theta) = L(theta) + alpha * l_v(delta^K(theta), theta),

knowing that the follower will answer with delta^K(theta), K steps of projected gradient ascent on
l_v from delta^0 ~ N(0, sigma^2) (Eq. 3). Its gradient (Eq. 4) is total:

    dF = dL + alpha * partial l_v / partial theta
            + alpha * (d l_v / d delta^K) (d delta^K / d theta).

The last term, the leader-follower interaction, is what SALT adds to virtual adversarial training
(VAT): with no step unrolled, there is nothing left but VAT.

Where the authors' released code differs from the paper, the paper is followed:

- there, the leader's term is taken at the initial noise and not at the ascended delta^K;
- there, the interaction term is computed together with another leader's term, so that this one
  counts twice, and without the projection;
- there, parameter gradients are assigned and not added, which loses what was accumulated before
  (`--update-freq` above 1);
- there, log(softmax) is used, which becomes infinite for unlikely words.

Two more differences are settings here. The release's divergence is the symmetric one, the paper's
KL(clean || perturbed). To the release the clean predictions are constants; in Eqs. 2 and 4 l_v
depends on theta through both predictions: `clean_branch="differentiated"`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Interacts, Method, Peak, Raised, Step
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.stackelberg import (
    UNROLL_METHODS,
    Ascent,
    Unrolled,
    UnrollMethod,
    l_v_gradient,
)
from fairseq_adv.core.settings import InvalidSetting, means, one_of
from fairseq_adv.core.sites import as_leaves
from fairseq_adv.core.two_views import Regularisation, TwoViews

_KEPT: dict[UnrollMethod, int] = {"exact": 2, "one-sided": 1, "central": 0}
"""What is kept of the ascent, in graphs: one for second derivatives is, as measured, like three; a
one-sided difference has the parameters' gradients."""


@dataclass(frozen=True, kw_only=True)
class SALT(Method, Interacts):
    """The Stackelberg game, K = `follower.ascent_steps` ascent steps, the last U unrolled.

    :param regularisation: l_v.
    :param unroll_steps: U, from 1 to K; earlier steps are taken as constants.
    :param unroll_method: how to differentiate through a step; see `core.players.stackelberg`.
    :param difference_radius: length of a finite difference's step in the units of the
        embeddings, per sentence over both sides together. The default is what
        `benchmarks/unroll_accuracy.py` finds to be good in float32 with smooth activations. With
        ReLU no radius is: the difference crosses kinks, which double backward does not see.
    """

    follower: Follower
    regularisation: Regularisation
    unroll_steps: int
    unroll_method: UnrollMethod = field(
        metadata=means(
            "differentiate through an ascent step by double backward, or by a central or "
            "one-sided finite difference of ordinary gradients, which wants a smooth "
            "--activation-fn such as gelu"
        )
    )
    difference_radius: float = 1e-2

    ascends_apart = True

    def __post_init__(self) -> None:
        one_of("unroll_method", self.unroll_method, UNROLL_METHODS)
        if not self.difference_radius > 0:
            raise InvalidSetting("difference_radius", self.difference_radius, "a number above 0")
        if not 1 <= self.unroll_steps <= self.follower.ascent_steps:
            raise InvalidSetting(
                "unroll_steps", self.unroll_steps, f"1 to {self.follower.ascent_steps} (all steps)"
            )

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return "divergence"

    @property
    def takes_differences(self) -> bool:
        """See `Method`."""
        return self.unroll_method != "exact"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        graphs, logits = self.regularisation.peak
        return Peak(graphs + _KEPT[self.unroll_method], logits)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        l_v = TwoViews(game, accumulate, self.regularisation)
        answer = self._answer(l_v)

        # The leader's own part of Eq. 4: alpha * partial l_v / partial theta, at delta^K. The same
        # backward pass gives v, and with it the interaction: v^T d delta^K / d theta.
        masks = l_v.masks()
        delta = as_leaves(answer.delta)
        value = l_v(delta, masks)
        v = l_v.accumulate(weight * value, tuple(delta.values()))
        answer.pull_back(dict(zip(delta, v, strict=True)))
        l_v.close()
        return Step(
            adv_loss=value.detach(),
            objective=l_v.task_loss + weight * value.detach(),
            delta={site: d.detach() for site, d in delta.items()},
            clean_loss=l_v.clean_loss,
            adv_gain=l_v.gain(value, masks) if gauges else None,
        )

    def interaction(self, game: Game, accumulate: Accumulate, *, weight: float) -> None:
        """See `Interacts`: the last term of Eq. 4, which `step` has and VAT has not.

        A difference of the two methods'
        gradients would be lost where these are rounded to 16 bits.
        """
        l_v = TwoViews(game, accumulate, self.regularisation, descends=False)
        answer = self._answer(l_v)
        gradient = l_v_gradient(l_v, as_leaves(answer.delta), l_v.masks())
        answer.pull_back({site: weight * g for site, g in gradient.items()})
        l_v.close()

    def _answer(self, l_v: TwoViews) -> Unrolled:
        """The follower: delta^0, then K times Eq. 3."""
        ascent = Ascent(l_v.game, self.follower, l_v)
        for _ in range(self.follower.ascent_steps - self.unroll_steps):
            ascent.climb(l_v.masks())
        masks = [l_v.masks() for _ in range(self.unroll_steps)]
        if self.unroll_method == "exact":
            return ascent.exact(masks)
        if self.unroll_method == "central":
            return ascent.central(masks, self.difference_radius)
        return ascent.one_sided(masks, self.difference_radius)
