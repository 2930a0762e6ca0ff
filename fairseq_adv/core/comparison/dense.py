"""Comparisons for small heads, by plain autograd.

What there is to compare is written as a function of two rows of logits; its first and second
derivatives are autograd's. That holds all logits of a batch at once, with their graph, which a
vocabulary would not fit: for those there is `softmax`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_adv.core.comparison.comparison import Kind, refuse_one_output
from fairseq_adv.core.comparison.evaluation import Weighted
from fairseq_adv.core.comparison.predictions import Chunk, Logits, Predictions, Projected

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of given logits, n x V, and those of another pass: how far apart they are, n, in nats."""


@dataclass(frozen=True)
class Dense:
    """Any distance between rows of logits; see `Comparison`."""

    distance: Distance

    def keep(self, predictions: Predictions) -> Logits:
        """See `Comparison`."""
        return predictions.keep({})

    def term(
        self, given: Predictions, predictions: Predictions, weights: Tensor | float = 1.0
    ) -> Apart:
        """See `Comparison`."""
        return Apart(given, predictions, self.distance, weights)

    def gradient(self, given: Logits, predictions: Predictions, *, differentiable: bool) -> Tensor:
        """See `Comparison`."""
        vectors = predictions.vectors
        if not differentiable:
            vectors = vectors.detach().requires_grad_()
        with torch.enable_grad():
            z = type(predictions)(vectors, *predictions.parts[1:])
            apart = self.distance(given.vectors, _all_logits(z)).sum()
        (gradient,) = torch.autograd.grad(apart, vectors, create_graph=differentiable)
        return gradient.to(predictions.dtype)


def _all_logits(predictions: Predictions) -> Tensor:
    """N x V in `dtype`, with their graph."""
    z = predictions.vectors.to(predictions.dtype)
    if not isinstance(predictions, Projected):
        return z
    bias = None if predictions.bias is None else predictions.bias.to(predictions.dtype)
    return torch.nn.functional.linear(z, predictions.weight.to(predictions.dtype), bias)


class Apart(Weighted):
    """The distance of predictions from given ones, summed over rows.

    :param weights: N, of the rows, or one for all.
    """

    def __init__(
        self,
        given: Predictions,
        predictions: Predictions,
        distance: Distance,
        weights: Tensor | float = 1.0,
    ) -> None:
        super().__init__(given, predictions, weights=weights)
        self._distance = distance

    def add(self, *chunks: Chunk) -> None:
        """See `Term`."""
        weights = self.weights[chunks[-1].rows]
        with torch.enable_grad():
            logits = [c.logits.detach().requires_grad_(c.wanted) for c in chunks]
            rows = self._distance(*logits).unsqueeze(1)
        self.count(rows.detach(), weights)
        wanted = [(c, z) for c, z in zip(chunks, logits, strict=True) if c.wanted]
        if wanted:
            gradients = torch.autograd.grad(rows, [z for _, z in wanted], weights)
            for (chunk, _), gradient in zip(wanted, gradients, strict=True):
                chunk.add(gradient)


def divergence(kind: Kind) -> Dense:
    """The divergence of `Softmax` between classes, for heads of few of them."""

    def kl(y: Tensor, z: Tensor) -> Tensor:
        log_p, log_q = y.log_softmax(-1), z.log_softmax(-1)
        r = log_p - log_q
        p, q = log_p.exp(), log_q.exp()
        return (p * r - (p + q) * (r / 2).tanh()).sum(-1)  # p r + q - p: see `softmax`

    def distance(y: Tensor, z: Tensor) -> Tensor:
        refuse_one_output(Logits(z))
        return kl(y, z) if kind == "kl" else 0.5 * (kl(y, z) + kl(z, y))

    return Dense(distance)
