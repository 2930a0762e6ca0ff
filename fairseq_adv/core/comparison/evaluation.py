"""Sums of terms of predictions, evaluated some rows at a time, with their gradient.

Each term is of one pass's predictions or of several passes'. Its value and the derivative in the
logits are added up while the rows are at hand. `task_loss`, `softmax` and `dense` have the terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_adv.core.comparison.chunks import Chunk, chunks
from fairseq_adv.core.comparison.predictions import Gradients, Predictions


class Term(ABC):
    """Something to evaluate: a sum over rows of predictions."""

    of: tuple[Predictions, ...]
    """What it is evaluated of: as many rows of each."""
    value: Tensor
    """After evaluation, without weights: a scalar."""

    @abstractmethod
    def begin(self, zero: Tensor) -> None:
        """Start anew, from a zero of the type, and where, values are added up in."""

    @abstractmethod
    def add(self, *chunks: Chunk) -> None:
        """Add up the value of some rows, and the derivatives in their logits that are wanted.

        :param chunks: of each of what it is evaluated of.
        """

    def total(self) -> Tensor:
        """What it is in a sum of terms, after all rows: a scalar."""
        return self.value


class Weighted(Term):
    """A term whose rows have weights.

    :param of: see `Term`; the last one's rows are weighted.
    :param weights: N, of the rows, or one for all.
    """

    def __init__(self, *of: Predictions, weights: Tensor | float) -> None:
        self.of = of
        last = of[-1]
        weights = torch.as_tensor(weights, dtype=last.dtype, device=last.vectors.device)
        self.weights = weights.expand(last.vectors.size(0)).unsqueeze(1)
        """N x 1."""

    def begin(self, zero: Tensor) -> None:
        """See `Term`."""
        self.value = self._total = zero

    def count(self, rows: Tensor, weights: Tensor) -> None:
        """Add up the values of some rows, n x 1, that have these weights."""
        self.value = self.value + rows.sum()
        self._total = self._total + (weights * rows).sum()

    def total(self) -> Tensor:
        """See `Term`."""
        return self._total


class Backflow(Term):
    """What is sent back into logits from elsewhere. Its value is 0.

    :param to_logits: N x V, a derivative in the logits of the predictions.
    """

    def __init__(self, predictions: Predictions, to_logits: Tensor) -> None:
        self.of = (predictions,)
        self._to_logits = to_logits

    def begin(self, zero: Tensor) -> None:
        """See `Term`."""
        self.value = zero

    def add(self, *chunks: Chunk) -> None:
        """See `Term`."""
        (chunk,) = chunks
        if chunk.wanted:
            sent = self._to_logits[chunk.rows]
            chunk.add(sent.clone() if chunk.to_logits is None else sent)


def evaluate(*terms: Term) -> Tensor:
    """The sum of the terms: a scalar, in float32 or wider.

    Its gradient flows into all predictions (through kept logits too: they are taken for what they
    are computed from). It is computed at once, beside the value, unless gradients are switched off,
    and as a constant: there is one backward pass, and no second derivative.
    """
    predictions = list(dict.fromkeys(p for term in terms for p in term.of))
    tensors: list[Tensor] = []
    for part in (part for p in predictions for part in p.parts):
        if not any(part is known for known in tensors):
            tensors.append(part)
    total: Tensor = _Evaluation.apply(  # type: ignore[no-untyped-call]
        terms, predictions, torch.is_grad_enabled(), *tensors
    )
    return total


class _Evaluation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        terms: Sequence[Term],
        predictions: Sequence[Predictions],
        differentiable: bool,
        *tensors: Tensor,
    ) -> Tensor:
        dtype = predictions[0].dtype
        wanted = (t for t in tensors if differentiable and t.requires_grad)
        gradients = Gradients(wanted, dtype)
        back = [p.back(gradients) for p in predictions]
        places = [[predictions.index(p) for p in term.of] for term in terms]
        zero = predictions[0].vectors.new_zeros((), dtype=dtype)
        for term in terms:
            term.begin(zero)
        for rows in chunks(predictions, [b.wanted for b in back]):
            for term, place in zip(terms, places, strict=True):
                term.add(*(rows[i] for i in place))
            for b, chunk in zip(back, rows, strict=True):
                if chunk.to_logits is not None:
                    b.add(chunk.rows, chunk.to_logits)
        ctx.gradients = [gradients.of(t) for t in tensors]
        ctx.dtypes = [t.dtype for t in tensors]
        return sum((term.total() for term in terms), zero)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.gradients, ctx.dtypes, strict=True)
        ctx.gradients = ()
        gradients = (None if g is None else g.mul_(grad).to(dtype) for g, dtype in pairs)
        return None, None, None, *gradients
