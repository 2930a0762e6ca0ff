"""The clean pass as a regulariser sees it: constants, or predictions that gradient flows into."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

from torch import Tensor

from fairseq_adv.core.divergence import Divergence, Kind
from fairseq_adv.core.game import Accumulate, Game
from fairseq_adv.core.predictions import Backflow, Predictions, Term, evaluate

_NARROW = 256
"""Channels of the hidden states up to which keeping probabilities is worth the memory.

From few channels logits are projected fast, and a softmax takes a share of that time: keeping them
saves a game on the small model of `benchmarks` 3 %, and on one with 512 channels nothing.
"""

CleanBranchKind = Literal["detached", "differentiated"]
CLEAN_BRANCHES: tuple[CleanBranchKind, ...] = get_args(CleanBranchKind)


class CleanBranch:
    """Runs the clean pass of a game, and owns the gradient that goes through it.

    `detached`: the task loss is accumulated at once and its graph freed; to the divergence, the
    clean predictions are constants. `differentiated`: the divergence's gradient flows through
    both of its arguments. The graph of the clean pass then stays alive to the end, but is walked
    backward only once: what each term sends into the clean predictions is summed first.

    :param descends: whether the leader descends the task loss of this pass.
    """

    def __init__(
        self,
        game: Game,
        accumulate: Accumulate,
        kind: CleanBranchKind,
        *,
        descends: bool = True,
    ) -> None:
        self.game = game
        self.predictions = game.clean()
        self._accumulate = accumulate
        self._differentiated = kind == "differentiated"
        self._descends = descends
        self.clean_loss = game.task_loss(self.predictions)
        self._cotangent: Tensor | None = None
        if kind == "detached":
            given = self.given  # first: the task loss is evaluated from the same logits
            if descends:
                accumulate(evaluate(self.clean_loss))
            self.predictions = given

    @cached_property
    def given(self) -> Predictions:
        """What perturbed predictions are compared with before the end: all clean logits, kept."""
        narrow = self.predictions.hidden.size(1) <= _NARROW
        given = self.predictions.keep(probabilities=narrow)
        given.hidden.requires_grad_(self._differentiated)
        return given

    @property
    def task_loss(self) -> Tensor:
        """Of the clean pass, detached: a scalar, nats. Known after the last term."""
        return self.clean_loss.value

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """The clean logits if gradient flows into them; else nothing."""
        return (self.given.hidden,) if self._differentiated else ()

    def accumulate(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """`Accumulate`, for losses that depend on `given`."""
        if not self._differentiated:
            return self._accumulate(loss, leaves)
        *gradients, cotangent = self._accumulate(loss, (*leaves, *self.shared))
        self._cotangent = cotangent if self._cotangent is None else self._cotangent.add_(cotangent)
        return tuple(gradients)

    def close(self, last: Tensor) -> Tensor:
        """The last term of the whole step, from the last one that depends on `given`."""
        if not self._differentiated:
            return last
        self.accumulate(last)
        return evaluate(*self._own_terms())

    def close_with(
        self, perturbed: Predictions, kind: Kind, weight: float, *others: Term
    ) -> tuple[Tensor, Tensor]:
        """The last term of the whole step, and in it the divergence without its weight, detached.

        :param perturbed: whose divergence from the clean ones is the last.
        :param others: terms beside it.
        """
        divergence = Divergence(self.predictions, perturbed, kind, weight)
        own = self._own_terms() if self._differentiated else ()
        last = evaluate(*own, divergence, *others)
        return last, divergence.value

    def _own_terms(self) -> tuple[Term, ...]:
        terms: tuple[Term, ...] = (self.clean_loss,) if self._descends else ()
        if self._cotangent is not None:
            terms += (Backflow(self.predictions, self._cotangent),)
        return terms
