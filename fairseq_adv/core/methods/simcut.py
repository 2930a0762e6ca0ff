"""SimCut: whole-token cut-off as a regulariser (Gao et al., NAACL 2022). There is no adversary.

The leader minimises (section 3), in terms of `TwoViews` with s = 0 and words cut off in view 2,

    F(theta) = L(theta) + alpha * KL(f(x, y; theta) || f(x_cut, y_cut; theta)),

where the embedding of each source and target word is set to zero with probability p_cut, with
gradient through both predictions. (To hold the clean ones constant, as virtual adversarial training
does, is `Regularisation.clean_branch`.)

As in the authors' release (gpengzhi/Bi-SimCut) positions are kept, and neither the source's last
token (the end of the sentence) nor the decoder's first one is ever cut. The release spares the last
column of a batch, which is that token where sources are padded on the left; here it is that token
on either side.

Bi-SimCut is SimCut twice: on both translation directions at once, then on the one that matters. See
`recipes/bi-simcut.sh`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Step
from fairseq_adv.core.settings import InvalidSetting, means
from fairseq_adv.core.sites import Keep
from fairseq_adv.core.two_views import Regularisation, TwoViews

WordPlace = Literal["first", "last"]

_SPARED: dict[str, WordPlace] = {"source": "last", "target": "first"}
"""The end of the source sentence, and the token that the decoder starts from."""


@dataclass(frozen=True, kw_only=True)
class SimCut(Method):
    """A clean pass, and one in which whole words are cut off.

    :param sites: whose words: `source`, `target` or both.
    :param cutoff_rate: p_cut, the probability that a word is cut off.
    :param regularisation: the divergence, and what its gradient flows into.
    """

    sites: tuple[str, ...]
    cutoff_rate: float = field(metadata=means("probability that a word's embedding is set to zero"))
    regularisation: Regularisation

    follower = None

    @property
    def attacked(self) -> tuple[str, ...]:
        """See `Method`."""
        return self.sites

    def __post_init__(self) -> None:
        for site in self.sites:
            if site not in _SPARED:
                raise InvalidSetting("perturb", site, "source, target, both")
        if not 0 <= self.cutoff_rate <= 1:
            raise InvalidSetting("cutoff_rate", self.cutoff_rate, "0 to 1")

    @property
    def edits_passes(self) -> bool:
        """See `Method`."""
        return self.cutoff_rate > 0

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(self.regularisation.peak.graphs)  # no ascent: nothing as large as all logits

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """One batch; see `Method.step`."""
        views = TwoViews(game, accumulate, self.regularisation)
        masks = views.masks()
        keep = {
            site: Keep(kept_words(game.sites[site].mask, self.cutoff_rate, _SPARED[site]))
            for site in self.sites
        }
        return views.end(keep, masks, weight, gauges=gauges)


def kept_words(mask: Tensor, rate: float, spared: WordPlace) -> Tensor:
    """A random choice of words to keep, B x T x 1: false with probability `rate`.

    Padding and the first or last word of each sentence are always kept.

    :param mask: B x T x 1, false at padding.
    """
    keep = torch.rand(mask.shape, device=mask.device) >= rate
    number = mask.cumsum(1)  # 1 at a sentence's first word
    spare = number == (1 if spared == "first" else number[:, -1:])
    return keep | spare | ~mask
