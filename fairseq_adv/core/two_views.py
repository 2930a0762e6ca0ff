"""Two views of a batch, and how far apart their predictions are: one place for what methods share.

    F(theta) = L(view 1) + s L(view 2) + alpha D(view 1, view 2),    s in {0, 1}

View 1 is the clean pass. View 2 differs by its dropout masks (R-Drop, s = 1), by words that are cut
off (SimCut), by a perturbation that a follower has found (VAT, SALT, SMART), and by what is to
come. D is l_v of these papers: a divergence, in nats, summed over rows of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.backward import Accumulate
from fairseq_adv.core.comparison.comparison import KINDS, Kind
from fairseq_adv.core.comparison.evaluation import Backflow, Term, evaluate
from fairseq_adv.core.comparison.predictions import Logits, Predictions
from fairseq_adv.core.game import Game
from fairseq_adv.core.method import Peak, Step
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.settings import means, one_of
from fairseq_adv.core.sites import Delta, Edits, added

CleanBranch = Literal["detached", "differentiated"]
CLEAN_BRANCHES: tuple[CleanBranch, ...] = get_args(CleanBranch)

DropoutMasks = Literal["independent", "shared"]
DROPOUT_MASKS: tuple[DropoutMasks, ...] = get_args(DropoutMasks)


@dataclass(frozen=True, kw_only=True)
class Masks:
    """Dropout in the passes of a game.

    :param dropout_masks: `independent`: each pass draws its own; `shared`: every pass has those of
        the clean one.
    """

    dropout_masks: DropoutMasks = field(
        metadata=means("draw dropout masks for each pass, or share those of the clean pass")
    )

    def __post_init__(self) -> None:
        one_of("dropout_masks", self.dropout_masks, DROPOUT_MASKS)

    def next(self, clean: RandomState) -> RandomState:
        """Those of the next pass.

        :param clean: the clean pass's.
        """
        return clean if self.dropout_masks == "shared" else RandomState.draw()


@dataclass(frozen=True, kw_only=True)
class Regularisation(Masks):
    """How clean and perturbed predictions are compared.

    :param divergence: l_v: `kl` or `symmetric-kl`.
    :param clean_branch: whether gradient flows into the clean predictions too, in the ascent as
        well. `detached`: to the divergence they are constants; the task loss is accumulated at
        once, and its graph freed. `differentiated`: the graph of the clean pass stays alive to the
        end, but is walked backward only once: what each term sends into the clean predictions is
        summed first.
    """

    divergence: Kind = field(metadata=means("divergence between clean and perturbed predictions"))
    clean_branch: CleanBranch = field(
        metadata=means(
            "differentiated: the divergence's gradient flows through both of its arguments; "
            "detached: the clean predictions are constants"
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("divergence", self.divergence, KINDS)
        one_of("clean_branch", self.clean_branch, CLEAN_BRANCHES)

    @property
    def peak(self) -> Peak:
        """See `Method.peak`: the perturbed pass and, maybe, the clean one, with their graphs.

        Clean logits and their probabilities are kept for the ascent, and what goes back into them.
        """
        return Peak(2, 4) if self.clean_branch == "differentiated" else Peak(1, 2)


class TwoViews:
    """F in one game; see the module. Called with a perturbation it is l_v.

    :param descends: whether L(view 1) is part of F.
    """

    def __init__(
        self,
        game: Game,
        accumulate: Accumulate,
        settings: Regularisation,
        *,
        descends: bool = True,
    ) -> None:
        self.game = game
        self._settings = settings
        self._accumulate = accumulate
        self._differentiated = settings.clean_branch == "differentiated"
        self._descends = descends
        self._clean_masks = RandomState.capture()
        self.clean: Predictions = game.clean({})
        self.clean_loss = game.task_loss(self.clean)
        self._comparison = game.comparison(settings.divergence)
        self._cotangent: Tensor | None = None
        if not self._differentiated:
            given = self.given  # first: the task loss is evaluated from the same logits
            if descends:
                accumulate(evaluate(self.clean_loss))
            self.clean = given

    @cached_property
    def given(self) -> Logits:
        """What perturbed predictions are compared with before the end: the clean ones, kept."""
        given = self._comparison.keep(self.clean)
        given.vectors.requires_grad_(self._differentiated)
        return given

    @property
    def task_loss(self) -> Tensor:
        """Of the clean pass, detached: a scalar, nats. Known at the end."""
        return self.clean_loss.value

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """The clean logits if gradient flows into them; else nothing."""
        return (self.given.vectors,) if self._differentiated else ()

    def masks(self) -> RandomState:
        """Dropout masks for the next pass."""
        return self._settings.next(self._clean_masks)

    def __call__(self, delta: Delta, masks: RandomState, weights: Tensor | None = None) -> Tensor:
        """l_v, summed over sentences: a scalar, nats.

        :param weights: B, of the sentences; None: 1.
        """
        rows = 1.0 if weights is None else weights[self.game.sentences()]
        perturbed = self.game.perturbed(added(delta), masks)
        return evaluate(self._comparison.term(self.given, perturbed, rows))

    def gain(self, value: Tensor, masks: RandomState) -> Tensor:
        """What the second view adds to its dropout masks: its divergence less that without edits.

        Costs a forward pass.

        :param value: its divergence under these masks.
        """
        with torch.no_grad():
            return value.detach() - self({}, masks)

    def gradient(self, perturbed: Predictions, *, differentiable: bool) -> Tensor:
        """d l_v / d vectors of a perturbed pass, N x C: see `Comparison.gradient`."""
        return self._comparison.gradient(self.given, perturbed, differentiable=differentiable)

    def accumulate(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """`Accumulate`, for losses that depend on `given`."""
        if not self._differentiated:
            return self._accumulate(loss, leaves)
        *gradients, cotangent = self._accumulate(loss, (*leaves, *self.shared))
        self._cotangent = cotangent if self._cotangent is None else self._cotangent.add_(cotangent)
        return tuple(gradients)

    def close(self) -> None:
        """Accumulate what is left: the clean pass's own terms."""
        own = self._own_terms()
        if own:
            self._accumulate(evaluate(*own))

    def last(
        self, delta: Delta, masks: RandomState, weight: float, *others: Term
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Accumulate the last l_v, with its weight, and what is left of the clean pass.

        :param others: terms beside it.

        Returns l_v without its weight, detached; and the gradient of what is a leaf of delta.
        """
        leaves = tuple(d for d in delta.values() if d.requires_grad)
        return self._last(self.game.perturbed(added(delta), masks), weight, *others, leaves=leaves)

    def _last(
        self, second: Predictions, weight: float, *others: Term, leaves: Sequence[Tensor] = ()
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        divergence = self._comparison.term(self.clean, second, weight)
        loss = evaluate(*self._own_terms(), divergence, *others)
        gradients = self._accumulate(loss, leaves)
        return divergence.value, gradients

    def end(
        self,
        edits: Edits,
        masks: RandomState,
        weight: float,
        *,
        s: Literal[0, 1] = 0,
        delta: Delta | None = None,
        gauges: bool = False,
    ) -> Step:
        """The last term of F, and what happened in the whole game.

        :param s: whether the second view's task loss is part of F.
        :param delta: the follower's final move, if the edits are one.
        :param gauges: see `Method.step`.
        """
        second = self.game.perturbed(edits, masks)
        losses = (self.game.task_loss(second),) if s else ()
        value = self._last(second, weight, *losses)[0]
        objective = self.task_loss + weight * value
        for loss in losses:
            objective = objective + loss.value
        return Step(
            objective=objective,
            delta=delta or {},
            adv_loss=value,
            clean_loss=self.clean_loss,
            adv_gain=self.gain(value, masks) if gauges else None,
            task_losses=1 + s,
        )

    def _own_terms(self) -> tuple[Term, ...]:
        """Of the clean pass, as long as its graph is there."""
        if not self._differentiated:
            return ()
        terms: tuple[Term, ...] = (self.clean_loss,) if self._descends else ()
        if self._cotangent is not None:
            terms += (Backflow(self.clean, self._cotangent),)
        return terms
