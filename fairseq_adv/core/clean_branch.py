"""The clean pass as a regulariser sees it: constants, or predictions that gradient flows into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.divergence import log_probabilities
from fairseq_adv.core.game import Accumulate, Game

CleanBranchKind = Literal["detached", "differentiated"]
CLEAN_BRANCHES: tuple[CleanBranchKind, ...] = get_args(CleanBranchKind)


class CleanBranch:
    """Runs the clean pass of a game, and owns the gradient that goes through it.

    `detached`: the task loss is accumulated at once and its graph freed; to the divergence, the
    clean predictions are constants. `differentiated`: the divergence's gradient flows through
    both of its arguments. The graph of the clean pass then stays alive to the end, but is walked
    backward only once: what each term sends into the clean predictions is summed first.

    `log_probs` are the clean log-probabilities, B x T x V; `task_loss` is detached.
    """

    def __init__(self, game: Game, accumulate: Accumulate, kind: CleanBranchKind) -> None:
        logits = game.clean()
        loss = game.task_loss(logits)
        self.game = game
        self._accumulate = accumulate
        self.task_loss = loss.detach()
        if kind == "detached":
            accumulate(loss)
            self._graph = None
            self.log_probs = log_probabilities(logits.detach())
        else:
            log_probs = log_probabilities(logits)
            self._graph = (loss, log_probs)
            self.log_probs = log_probs.detach().requires_grad_()
            self._cotangent = torch.zeros_like(self.log_probs)

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """The clean log-probabilities if gradient flows into them; else nothing."""
        return () if self._graph is None else (self.log_probs,)

    def accumulate(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """`Accumulate`, for losses that depend on `log_probs`."""
        if self._graph is None:
            return self._accumulate(loss, leaves)
        *gradients, cotangent = self._accumulate(loss, (*leaves, self.log_probs))
        self._cotangent += cotangent
        return tuple(gradients)

    def close(self, last: Tensor) -> Tensor:
        """The last term of the whole step, from the last term of its adversarial part."""
        if self._graph is None:
            return last
        self.accumulate(last)
        loss, log_probs = self._graph
        return loss + (self._cotangent * log_probs).sum()
