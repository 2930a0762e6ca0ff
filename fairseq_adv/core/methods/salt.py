"""SALT: adversarial regularisation as a Stackelberg game (Zuo et al., EMNLP 2021), and VAT.

The leader minimises, over theta (Eq. 2),

    F(theta) = L(theta) + alpha * l_v(delta^K(theta), theta),

knowing that the follower will answer with delta^K(theta), K steps of projected gradient ascent on
l_v from delta^0 ~ N(0, sigma^2) (Eq. 3). Its gradient (Eq. 4) is total:

    dF = dL + alpha * partial l_v / partial theta
            + alpha * (d l_v / d delta^K) (d delta^K / d theta).

The last term, the leader-follower interaction, is what SALT adds to virtual adversarial training
(VAT, Miyato et al. 2017; Algorithm 2 in the paper's appendix): with no step unrolled, this is VAT.

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

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.clean_branch import CLEAN_BRANCHES, CleanBranch, CleanBranchKind
from fairseq_adv.core.divergence import KINDS, Kind, divergence, log_probabilities
from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import Accumulate, Delta, Game, InvalidSetting, Step
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.stackelberg import UNROLL_METHODS, Ascent, Unrolled, UnrollMethod

DropoutMasks = Literal["independent", "shared"]
DROPOUT_MASKS: tuple[DropoutMasks, ...] = get_args(DropoutMasks)


@dataclass(frozen=True, kw_only=True)
class SALT:
    """The Stackelberg game, K = `follower.ascent_steps` ascent steps, the last U unrolled.

    :param divergence: l_v: `kl` or `symmetric-kl`.
    :param clean_branch: whether gradient flows into the clean predictions too, in the ascent as
        well; see `CleanBranch`.
    :param dropout_masks: `independent`: each pass draws its own; `shared`: every pass has those of
        the clean one.
    :param unroll_steps: U, from 0 (VAT) to K; earlier steps are taken as constants.
    :param unroll_method: how to differentiate through a step; see `core.stackelberg`.
    :param difference_radius: length of a finite difference's step in the units of the
        embeddings, per sentence over both sides together. The default is what
        `benchmarks/unroll_methods.py` finds to be good in float32 with smooth activations. With
        ReLU no radius is: the difference crosses kinks, which double backward does not see.
    """

    follower: Follower
    divergence: Kind
    clean_branch: CleanBranchKind
    dropout_masks: DropoutMasks
    unroll_steps: int
    unroll_method: UnrollMethod
    difference_radius: float = 1e-2

    def __post_init__(self) -> None:
        for name, allowed in (
            ("divergence", KINDS),
            ("clean_branch", CLEAN_BRANCHES),
            ("dropout_masks", DROPOUT_MASKS),
            ("unroll_method", UNROLL_METHODS),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidSetting(name, getattr(self, name), ", ".join(allowed))
        if not 0 <= self.unroll_steps <= self.follower.ascent_steps:
            raise InvalidSetting(
                "unroll_steps", self.unroll_steps, f"0 to {self.follower.ascent_steps} (all steps)"
            )

    @property
    def unrolled(self) -> int:
        """U, or 0 where the follower's answer does not depend smoothly on the leader."""
        return self.unroll_steps if self.follower.reacts else 0

    def without_interaction(self) -> SALT:
        """The same game with the follower's answer taken as a constant: VAT."""
        return replace(self, unroll_steps=0)

    def step(
        self, game: Game, accumulate: Accumulate, *, weight: float, gauges: bool = False
    ) -> Step:
        """Algorithm 1, one batch; see `Method.step`."""
        clean = CleanBranch(game, accumulate, self.clean_branch)

        def regulariser(delta: Delta, masks: RandomState) -> Tensor:
            log_probs = log_probabilities(game.perturbed(delta, masks))
            return divergence(clean.log_probs, log_probs, game.predicted(), self.divergence)

        def masks() -> RandomState:
            shared = self.dropout_masks == "shared"
            return game.clean_masks() if shared else RandomState.draw()

        # The follower: delta^0, then K times Eq. 3.
        ascent = Ascent(game, self.follower, regulariser, clean.shared)
        for _ in range(self.follower.ascent_steps - self.unrolled):
            ascent.climb(masks())
        answer = self._unroll(ascent, [masks() for _ in range(self.unrolled)])

        # The leader's own part of Eq. 4: alpha * partial l_v / partial theta, at delta^K.
        final = masks()
        delta = {side: d.requires_grad_(self.unrolled > 0) for side, d in answer.delta.items()}
        value = regulariser(delta, final).sum()
        if self.unrolled == 0:
            last = weight * value
        else:  # and the interaction: v^T d delta^K / d theta, with v from the same backward pass
            v = clean.accumulate(weight * value, tuple(delta.values()))
            last = answer.pull_back(dict(zip(delta, v, strict=True)), clean.accumulate)

        gain = None
        if gauges:
            with torch.no_grad():
                at_zero = regulariser({side: game.zero_delta(side) for side in delta}, final)
                gain = value.detach() - at_zero.sum()
        return Step(
            last=clean.close(last),
            task_loss=clean.task_loss,
            adv_loss=value.detach(),
            objective=clean.task_loss + weight * value.detach(),
            delta={side: d.detach() for side, d in delta.items()},
            adv_gain=gain,
        )

    def _unroll(self, ascent: Ascent, masks: list[RandomState]) -> Unrolled:
        if self.unroll_method == "exact" or not masks:
            return ascent.exact(masks)
        if self.unroll_method == "central":
            return ascent.central(masks, self.difference_radius)
        return ascent.one_sided(masks, self.difference_radius)
