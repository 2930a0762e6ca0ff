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

from fairseq_adv.core.comparison.chunks import Chunk
from fairseq_adv.core.comparison.comparison import Kind, OneOutput
from fairseq_adv.core.comparison.evaluation import Weighted
from fairseq_adv.core.comparison.predictions import Logits, Predictions

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of given logits, n x V, and those of another pass: how far apart they are, n."""


@dataclass(frozen=True)
class Dense:
    """Any distance between rows of logits; see `Comparison`.

    :param outputs: how many logits it needs in a row.
    """

    distance: Distance
    outputs: int = 1

    def keep(self, predictions: Predictions) -> Logits:
        """See `Comparison`."""
        return predictions.keep({})

    def term(
        self, given: Predictions, predictions: Predictions, weights: Tensor | float = 1.0
    ) -> Apart:
        """See `Comparison`."""
        self._check(predictions)
        return Apart(given, predictions, self.distance, weights)

    def gradient(self, given: Logits, predictions: Predictions, *, differentiable: bool) -> Tensor:
        """See `Comparison`."""
        self._check(predictions)
        # Widened first: in 16 bits a small gradient would be lost before it is widened.
        vectors = predictions.vectors.to(predictions.dtype)
        if not differentiable:
            vectors = vectors.detach().requires_grad_()
        with torch.enable_grad():
            apart = self.distance(given.vectors, predictions.all_logits(vectors)).sum()
        (gradient,) = torch.autograd.grad(
            apart, vectors, create_graph=differentiable, materialize_grads=True
        )
        return gradient

    def _check(self, predictions: Predictions) -> None:
        if predictions.size < self.outputs:
            raise OneOutput


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
            gradients = torch.autograd.grad(
                rows, [z for _, z in wanted], weights, allow_unused=True, materialize_grads=True
            )
            for (chunk, _), gradient in zip(wanted, gradients, strict=True):
                chunk.add(gradient)


def squared_difference() -> Dense:
    """The squared difference of numbers, summed over those of a row (SALT, section 3.1)."""
    return Dense(lambda y, z: (z - y).square().sum(-1))


def divergence(kind: Kind) -> Dense:
    """The divergence of `Softmax` between classes, for heads of few of them."""

    def kl(y: Tensor, z: Tensor) -> Tensor:
        log_p, log_q = y.log_softmax(-1), z.log_softmax(-1)
        r = log_p - log_q
        p, q = log_p.exp(), log_q.exp()
        return (p * r - (p + q) * (r / 2).tanh()).sum(-1)  # p r + q - p: see `softmax`

    def distance(y: Tensor, z: Tensor) -> Tensor:
        return kl(y, z) if kind == "kl" else 0.5 * (kl(y, z) + kl(z, y))

    return Dense(distance, outputs=2)
