"""MAT: both players play mixed strategies, by sampling (Zhong et al., IJCAI 2023).

Instead of one move, each player has a distribution of moves, sampled by Langevin dynamics; the
other player meets its mean (Algorithm 2). On one group of batches, from theta_t:

    delta^(1) drawn, delta-bar <- delta^(1); K times:
        delta     <- Pi(delta + gamma rule(d R(theta_t, delta) / d delta) + sqrt(2 gamma) eps xi)
        delta-bar <- beta delta-bar + (1 - beta) delta
    theta^(1) = theta-bar = theta_t; K times:
        theta     <- theta - gamma rule(d [L + lambda R(theta, delta-bar)] / d theta)
                           + sqrt(2 gamma) eps xi
        theta-bar <- beta theta-bar + (1 - beta) theta
    theta_{t+1} = beta theta_t + (1 - beta) theta-bar

R(theta, delta) = KL(f(x) || f(x + delta)) + KL(f(x + delta) || f(x)) is twice the `symmetric-kl` of
this package: `weight` is 2 lambda. The leader's samples are ordinary updates on replays of the
group; what follows each of them, noise and means, is `MixedLeader`'s, which is the trainer's to
keep. An update is `TwoViews` with s = 0 and delta-bar in view 2, a constant.

Where the paper leaves a choice:

- line 4 ascends at theta-bar_t, which line 7 sets to theta_t: at that point they are equal.
- the follower's lambda multiplies its gradient: with `normalized`, `sign`, `adam` and `rmsprop` it
  has no effect, with `sgd` it is part of the step size here.
- the radius (section 4.2) is a clipping: we project last, after the noise, so that the ball holds.
- it is silent on Adam's moments: they go on from sample to sample, although theta is pulled back.
- with Adam and RMSprop the noise is outside of the preconditioner, as in Eq. 12; Li et al. (2016)
  have it inside.

Where the released code (Charles-Zhong/MAT) differs from the paper, the paper is followed:

- there, the copies of theta_t and theta-bar are the live parameters themselves, until the first
  sample is averaged: with K = 1 nothing is averaged.
- there, integer buffers are averaged, too.
- there, the ascent is not projected, and R's clean predictions are constants
  (`clean_branch="detached"`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Memory, Method, Peak, Raised, Step
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.mixed import MixedLeader, share
from fairseq_adv.core.players.stackelberg import Ascent
from fairseq_adv.core.settings import InvalidSetting, at_least, means
from fairseq_adv.core.sites import Delta, added
from fairseq_adv.core.two_views import Regularisation, TwoViews


@dataclass(frozen=True, kw_only=True)
class MAT(Method):
    """A follower that is met as the mean of K samples, and a leader that becomes the mean of K.

    :param follower: its `ascent_steps` are K, its noise that of its samples.
    :param leader: what the trainer does after each update.
    """

    follower: Follower
    regularisation: Regularisation
    follower_mean_decay: float = field(
        metadata=means("beta of the mean of the follower's samples: what an earlier mean keeps")
    )
    leader: MixedLeader

    ascends_apart = True

    def __post_init__(self) -> None:
        share("follower_mean_decay", self.follower_mean_decay)
        at_least("follower_samples", self.follower.ascent_steps, 1)
        if not self.follower.directions.are_free and self.leader.leader_samples > 1:
            # Those of a mean would be others in the next replay.
            raise InvalidSetting("directions", self.follower.directions.directions, "free")

    @property
    def replays(self) -> int:  # type: ignore[override]
        """See `Method`: the leader's samples."""
        return self.leader.leader_samples

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return "divergence"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return self.regularisation.peak

    def step(
        self,
        game: Game,
        accumulate: Accumulate,
        *,
        weight: float,
        gauges: bool = False,
        memory: Memory | None = None,
    ) -> Step:
        """Lines 2 to 6 in the first replay of a batch, and line 9's gradient; see `Method.step`.

        :param memory: of this batch; None: delta-bar is sampled anew.
        """
        l_v = TwoViews(game, accumulate, self.regularisation)
        delta = None if memory is None else memory.recall()
        if delta is None:
            delta = self._sampled(l_v)
        if memory is not None:
            memory.remember(delta)
        return l_v.end(added(delta), l_v.masks(), weight, delta=delta, gauges=gauges)

    def _sampled(self, l_v: TwoViews) -> Delta:
        """delta-bar."""
        ascent = Ascent(l_v.game, self.follower, l_v)
        mean = self.follower.projected(ascent.delta)  # as all that the leader meets
        beta = self.follower_mean_decay
        for _ in range(self.follower.ascent_steps):
            ascent.climb(l_v.masks())
            mean = {site: beta * mean[site] + (1 - beta) * d for site, d in ascent.delta.items()}
        return mean
