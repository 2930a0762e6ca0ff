"""R-Drop: regularised dropout (Liang et al., NeurIPS 2021). There is no adversary.

Each batch passes twice, with independent dropout masks, and the leader minimises

    F(theta) = L_1 + L_2 + alpha * (KL(P_1 || P_2) + KL(P_2 || P_1)) / 2,

the task losses of both passes and the symmetric divergence of their predictions, with gradient
through both. It is the neighbour of all methods here whose perturbed pass has dropout masks of its
own: what they gain may be R-Drop's.

It is `TwoViews` with s = 1, and F has two task losses. Its gradient is averaged over them, as if
the batch held each sentence twice, so that a learning rate means what it does in plain training:
without dropout this is plain training. The released code (dropreg/R-Drop) does pass such a batch,
but divides by the tokens of one half; to Adam the two are nearly the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Step
from fairseq_adv.core.two_views import Regularisation, TwoViews

_BOTH = Regularisation(
    divergence="symmetric-kl", clean_branch="differentiated", dropout_masks="independent"
)


@dataclass(frozen=True, kw_only=True)
class RDrop(Method):
    """Two passes that differ by their dropout masks."""

    follower = None

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(graphs=2)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        views = TwoViews(game, accumulate, _BOTH)
        return views.end({}, views.masks(), weight, s=1)
