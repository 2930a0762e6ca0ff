"""The task loss: label-smoothed cross-entropy, as fairseq defines it, in nats."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fairseq_adv.core.predictions import Chunk, Term


class TaskLoss(Term):
    """Cross-entropy with 1 - s on the true word and s / (V - 1) on each other, summed over rows.

    :param targets: N, the true words.
    :param smoothing: s.
    """

    def __init__(self, targets: Tensor, smoothing: float) -> None:
        self._targets = targets.unsqueeze(1)
        self._smoothing = smoothing
        self.nll: Tensor
        """Without smoothing, after evaluation: a scalar."""

    def begin(self, zero: Tensor, wanted: Sequence[bool]) -> None:
        """See `Term`."""
        self._total = self.nll = zero

    def add(self, chunk: Chunk, wanted: bool) -> None:
        """See `Term`."""
        targets = self._targets[chunk.rows]
        each = self._smoothing / (chunk.log_q.size(1) - 1)
        true = 1 - self._smoothing - each
        nll = -chunk.log_q.gather(1, targets).sum()
        self.nll = self.nll + nll
        self._total = self._total + true * nll
        if each > 0:
            self._total = self._total - each * chunk.log_q.sum()
        if wanted:  # q minus what it should be
            to_logits = chunk.q - each
            share = to_logits.new_full((), -true).expand_as(targets)
            chunk.add(to_logits.scatter_add_(1, targets, share))

    def total(self) -> Tensor:
        """See `Term`."""
        return self._total


class Inner(Term):
    """The inner product of the log-probabilities with a constant.

    :param cotangent: N x V.
    """

    def __init__(self, cotangent: Tensor) -> None:
        self._cotangent = cotangent

    def begin(self, zero: Tensor, wanted: Sequence[bool]) -> None:
        """See `Term`."""
        self._total = zero

    def add(self, chunk: Chunk, wanted: bool) -> None:
        """See `Term`."""
        cotangent = self._cotangent[chunk.rows]
        self._total = self._total + torch.dot(cotangent.flatten(), chunk.log_q.flatten())
        if wanted:
            of_rows = cotangent.sum(-1, keepdim=True)
            chunk.add(torch.addcmul(cotangent, chunk.q, of_rows, value=-1))

    def total(self) -> Tensor:
        """See `Term`."""
        return self._total
