"""SimCut: whole-token cut-off as a regulariser (Gao et al., NAACL 2022). There is no adversary.

The leader minimises (section 3), in terms of `TwoViews` with s = 0 and words cut off in view 2,

    F(theta) = L(theta) + alpha * KL(f(x, y; theta) || f(x_cut, y_cut; theta)),

where the embedding of each source and target word is set to zero with probability p_cut, with
gradient through both predictions. (To hold the clean ones constant, as virtual adversarial training
does, is `Regularisation.clean_branch`.)

As in the authors' release (gpengzhi/Bi-SimCut) positions are kept, and neither the source's last
token (the end of the sentence) nor the decoder's first one is ever cut (`Site.spared`). The release
spares the last column of a batch, which is that token where sources are padded on the left; here it
is that token on either side.

Bi-SimCut is SimCut twice: on both translation directions at once, then on the one that matters. See
`recipes/bi-simcut.sh`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Method, Peak, Step
from fairseq_adv.core.settings import InvalidSetting, means
from fairseq_adv.core.sites import Keep, Site
from fairseq_adv.core.two_views import Regularisation, TwoViews


@dataclass(frozen=True, kw_only=True)
class SimCut(Method):
    """A clean pass, and one in which whole words are cut off.

    :param sites: whose words.
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
        sites = {name: game.sites[name] for name in self.sites}
        keep = {name: Keep(kept_words(site, self.cutoff_rate)) for name, site in sites.items()}
        return views.end(keep, masks, weight, gauges=gauges)


def kept_words(site: Site, rate: float) -> Tensor:
    """A random choice of words to keep, as the site's mask: false with probability `rate`.

    Padding, and what the site spares, are always kept.
    """
    keep = torch.rand(site.mask.shape, device=site.mask.device) >= rate
    return keep | site.spared | ~site.mask
