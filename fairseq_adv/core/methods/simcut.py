"""SimCut: whole-token cut-off as a regulariser (Gao et al., NAACL 2022). There is no adversary.

The leader minimises (section 3)

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

from dataclasses import dataclass

import torch

from fairseq_adv.core.adv_objective import Regularisation
from fairseq_adv.core.clean_branch import CleanBranch
from fairseq_adv.core.divergence import Divergence
from fairseq_adv.core.follower import PERTURB, Perturb, sides_of
from fairseq_adv.core.game import Accumulate, Game, InvalidSetting, Peak, Side, Step
from fairseq_adv.core.perturbation import WordPlace, kept_words
from fairseq_adv.core.predictions import evaluate
from fairseq_adv.core.random_state import RandomState


@dataclass(frozen=True, kw_only=True)
class SimCut:
    """A clean pass, and one in which whole words are cut off.

    :param perturb: whose words: `source`, `target` or `both`.
    :param cutoff_rate: p_cut, the probability that a word is cut off.
    :param regularisation: the divergence, and what its gradient flows into.
    """

    perturb: Perturb
    cutoff_rate: float
    regularisation: Regularisation

    def __post_init__(self) -> None:
        if self.perturb not in PERTURB:
            raise InvalidSetting("perturb", self.perturb, ", ".join(PERTURB))
        if not 0 <= self.cutoff_rate <= 1:
            raise InvalidSetting("cutoff_rate", self.cutoff_rate, "0 to 1")

    @property
    def peak(self) -> Peak:
        """See `Method.peak`."""
        return Peak(self.regularisation.peak.graphs)  # no ascent: nothing as large as all logits

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """One batch; see `Method.step`."""
        settings = self.regularisation
        clean = CleanBranch(game, accumulate, settings.clean_branch)
        shared = settings.dropout_masks == "shared"
        masks = game.clean_masks() if shared else RandomState.draw()

        keep = {
            side: kept_words(game.non_pad(side), self.cutoff_rate, _SPARED[side])
            for side in sides_of(self.perturb)
        }
        last, value = clean.close_with(game.cut(keep, masks), settings.divergence, weight)
        gain = None
        if gauges:
            with torch.no_grad():
                whole = Divergence(clean.given, game.cut({}, masks), settings.divergence)
                gain = value - evaluate(whole)
        return Step(
            last=last,
            adv_loss=value,
            objective=clean.task_loss + weight * value,
            delta={},
            clean_loss=clean.clean_loss,
            adv_gain=gain,
        )


_SPARED: dict[Side, WordPlace] = {"source": "last", "target": "first"}
"""The end of the source sentence, and the token that the decoder starts from."""
