"""VAT: virtual adversarial training (Miyato et al. 2017; Algorithm 2 in SALT's appendix A).

The leader minimises

    F(theta) = L(theta) + alpha * KL(f(x, theta) || f(x + delta^K, theta)),

that is `TwoViews` with s = 0 and a follower's move in view 2. delta^K is the end of K steps of
projected gradient ascent on the same divergence, and is taken as a constant: the gradient is
dL + alpha * partial l_v / partial theta (Eq. 7).

This is also SALT without its leader-follower term, `--criterion salt --unroll-steps 0`.

Where the papers leave a choice:

- Miyato et al. hold the clean predictions constant (their theta-hat), Eq. 7 does not:
  `Regularisation.clean_branch`.
- Miyato et al. ascend by the power method, from a unit vector times a small xi, and then stretch
  the result to the radius; Algorithm 2 ascends from N(0, sigma^2) and projects. The latter is
  what is here. The former is its `normalized` rule with a step size equal to the radius.
- Sato et al.'s release for NMT (pfnet-research/vat_nmt) averages the divergence over all
  positions, padding included; here it is summed over target tokens, like the task loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Raised, Step
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.stackelberg import Ascent
from fairseq_adv.core.sites import added
from fairseq_adv.core.two_views import Regularisation, TwoViews


@dataclass(frozen=True, kw_only=True)
class VAT(Method):
    """The game with K = `follower.ascent_steps` ascent steps whose end is taken as a constant."""

    follower: Follower
    regularisation: Regularisation

    ascends_apart = True

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return "divergence"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return self.regularisation.peak

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 2, one batch; see `Method.step`."""
        l_v = TwoViews(game, accumulate, self.regularisation)
        ascent = Ascent(game, self.follower, l_v)
        for _ in range(self.follower.ascent_steps):
            ascent.climb(l_v.masks())
        delta = ascent.delta
        return l_v.end(added(delta), l_v.masks(), weight, delta=delta, gauges=gauges)
