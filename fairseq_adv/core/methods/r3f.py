"""R3F: robust representations through regularised fine-tuning (Aghajanyan et al., ICLR 2021).

The leader minimises (section 3)

    F(theta) = L(theta) + lambda * KL_S(f(x, theta) || f(x + z, theta)),

    KL_S(P || Q) = KL(P || Q) + KL(Q || P),    z ~ N(0, sigma^2 I) or U(-sigma, sigma),

that is `TwoViews` with s = 0 and noise in view 2: a follower that does not move. It is the control
of all methods whose follower does: what they gain may be noise's.

KL_S is twice the `symmetric-kl` of this package, so that `weight` is 2 lambda. Both passes have
dropout masks of their own, and gradient flows through both predictions, as in the released code.

Where that code (fairseq's examples/rxf) differs from the paper, the paper is followed:

- there, RoBERTa is given the noisy embeddings by a name that it swallows, so that on sentences no
  noise is ever applied; scores (regression) are not regularised at all.
- there, the divergence of translations is summed over all positions, padding included, divided by
  the sentences and multiplied by the target tokens: its weight grows with the length of sentences.
  Here it is summed over target tokens, as the task loss is. Noise is added to the source's words
  alone; here where `--perturb` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Raised, Step
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.settings import InvalidSetting
from fairseq_adv.core.sites import added
from fairseq_adv.core.two_views import Regularisation, TwoViews


@dataclass(frozen=True, kw_only=True)
class R3F(Method):
    """A clean pass, and one with noise.

    :param follower: only starts.
    """

    follower: Follower
    regularisation: Regularisation

    def __post_init__(self) -> None:
        if self.follower.ascent_steps > 0:
            raise InvalidSetting("ascent_steps", self.follower.ascent_steps, "0: noise only")

    @property
    def raises(self) -> Raised:
        """See `Method`."""
        return "divergence"

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(self.regularisation.peak.graphs)  # no ascent: nothing as large as all logits

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """One batch; see `Method.step`."""
        views = TwoViews(game, accumulate, self.regularisation)
        z, _ = self.follower.begin(game)
        return views.end(added(z), views.masks(), weight, delta=z, gauges=gauges)
