"""The clean pass as a regulariser sees it: constants, or predictions that gradient flows into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.game import Accumulate, Game
from fairseq_adv.core.predictions import Predictions, Probabilities, Term
from fairseq_adv.core.task_loss import Inner

CleanBranchKind = Literal["detached", "differentiated"]
CLEAN_BRANCHES: tuple[CleanBranchKind, ...] = get_args(CleanBranchKind)


class CleanBranch:
    """Runs the clean pass of a game, and owns the gradient that goes through it.

    `detached`: the task loss is accumulated at once and its graph freed; to the divergence, the
    clean predictions are constants. `differentiated`: the divergence's gradient flows through
    both of its arguments. The graph of the clean pass then stays alive to the end, but is walked
    backward only once: what each term sends into the clean predictions is summed first.

    `probabilities` are the clean ones; `task_loss` is detached.
    """

    def __init__(self, game: Game, accumulate: Accumulate, kind: CleanBranchKind) -> None:
        predictions = game.clean().keeping()
        assert predictions.kept is not None
        self.game = game
        self.probabilities = predictions.kept
        self._accumulate = accumulate
        self._predictions: Predictions | None = None
        self._cotangent: Tensor | None = None
        with torch.set_grad_enabled(kind == "detached"):
            loss = game.task_loss(predictions)
        self.task_loss = loss.detach()
        if kind == "detached":
            accumulate(loss)
        else:
            self._predictions = predictions
            p, log_p = predictions.kept.p, predictions.kept.log_p
            self.probabilities = Probabilities(p, log_p.detach().requires_grad_())

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """The clean log-probabilities if gradient flows into them; else nothing."""
        return () if self._predictions is None else (self.probabilities.log_p,)

    def accumulate(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """`Accumulate`, for losses that depend on `probabilities`."""
        if self._predictions is None:
            return self._accumulate(loss, leaves)
        *gradients, cotangent = self._accumulate(loss, (*leaves, *self.shared))
        self._cotangent = cotangent if self._cotangent is None else self._cotangent.add_(cotangent)
        return tuple(gradients)

    def close(self, last: Tensor, *others: Term) -> Tensor:
        """The last term of the whole step, from the last term of its adversarial part.

        :param others: terms of the clean predictions, where gradient flows into them.
        """
        if self._predictions is None:
            return last
        self.accumulate(last)
        assert self._cotangent is not None, "of the last term, at least"
        return self.game.task_loss(self._predictions, Inner(self._cotangent), *others)
