"""VAT: virtual adversarial training (Miyato et al. 2017; Algorithm 2 in SALT's appendix A).

The leader minimises

    F(theta) = L(theta) + alpha * KL(f(x, theta) || f(x + delta^K, theta)),

where delta^K is the end of K steps of projected gradient ascent on the same divergence, and is
taken as a constant: the gradient is dL + alpha * partial l_v / partial theta (Eq. 7).

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

from fairseq_adv.core.adv_objective import Regularisation, Regulariser, gain
from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import Accumulate, Game, Peak, Step
from fairseq_adv.core.stackelberg import Ascent


@dataclass(frozen=True, kw_only=True)
class VAT:
    """The game with K = `follower.ascent_steps` ascent steps whose end is taken as a constant."""

    follower: Follower
    regularisation: Regularisation

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return self.regularisation.peak

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 2, one batch; see `Method.step`."""
        l_v = Regulariser(game, accumulate, self.regularisation)
        ascent = Ascent(game, self.follower, l_v)
        for _ in range(self.follower.ascent_steps):
            ascent.climb(l_v.masks())
        masks = l_v.masks()
        last, value = l_v.last(ascent.delta, masks, weight)
        return Step(
            last=last,
            adv_loss=value,
            objective=l_v.task_loss + weight * value,
            delta=ascent.delta,
            clean_loss=l_v.clean_loss,
            adv_gain=gain(l_v, value, masks) if gauges else None,
        )
