"""Backward passes by a fairseq optimizer, with the loss scale of 16 bits."""

from __future__ import annotations

from fairseq.optim import FairseqOptimizer
from torch import Tensor

from fairseq_adv.core.backward import Backward


class OptimizerBackward(Backward):
    """`core.backward.Accumulate` over a fairseq optimizer.

    :param ignore_grad: the batch is a stand-in of a worker that has run out of data: go through
        the same motions, and leave zeros.
    """

    def __init__(self, optimizer: FairseqOptimizer, ignore_grad: bool) -> None:
        self.optimizer = optimizer
        self.factor = 0.0 if ignore_grad else 1.0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the scale that --fp16 and --amp choose as they go."""
        scaler = getattr(self.optimizer, "scaler", None)
        return loss if scaler is None else scaler.scale(loss)

    def run(self, loss: Tensor) -> None:
        """The optimizer's backward pass, which scales the loss itself."""
        self.optimizer.backward(loss * self.factor)
