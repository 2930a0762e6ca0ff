"""What a pass predicts, and losses of it that never hold all logits at once.

Logits are as large as the vocabulary. Losses and divergences are therefore taken from the hidden
states that logits are projected from, some rows at a time: their logits are computed, what is
wanted of them is added up, and the gradient goes back through the projection before the next rows
come. That takes the matrix products of an ordinary forward and backward pass, and no more.

`evaluate` does this for a sum of terms; `core.task_loss` and `core.divergence` have the terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = {"cpu": 2**20, "cuda": 2**24}
"""Logits at a time: on a CPU such that they stay in its caches, on a GPU enough to fill it."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a batch: a row for each of its N predicted tokens, sentence by sentence.

    :param hidden: N x C, what the logits are projected from; without a projection, N x V, they are
        the logits.
    :param weight: V x C, the projection's; None where there is no projection.
    :param bias: V, the projection's; None where it has none.
    :param log_probs: N x V, where they are kept (see `keeping`): a constant.
    """

    hidden: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    log_probs: Tensor | None = None

    @property
    def words(self) -> int:
        """V, the size of the vocabulary."""
        return self.hidden.size(1) if self.weight is None else self.weight.size(0)

    @property
    def dtype(self) -> torch.dtype:
        """What log-probabilities are computed in: float32 or wider."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    def keeping(self) -> Predictions:
        """The same, with all log-probabilities, to compare other predictions with."""
        return replace(self, log_probs=self._all_log_probs())

    @torch.no_grad()
    def _all_log_probs(self) -> Tensor:
        kept = self.hidden.new_empty(self.hidden.size(0), self.words, dtype=self.dtype)
        logits = self.workspace()
        for rows in self.chunks():
            torch.log_softmax(self.project(self.hidden, rows, logits), -1, out=kept[rows])
        return kept

    def log_probs_in_chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, their log-probabilities, n x V, and as much space to work in.

        The next rows overwrite both.
        """
        space = self.workspace()
        log_q = self.workspace() if self.log_probs is None else None
        for rows in self.chunks():
            n = rows.stop - rows.start
            if log_q is None:
                assert self.log_probs is not None, "they are kept"
                yield rows, self.log_probs[rows], space[:n]
            else:
                logits = self.project(self.hidden, rows, space)
                yield rows, torch.log_softmax(logits, -1, out=log_q[:n]), space[:n]

    def chunks(self) -> Iterator[slice]:
        """Rows to be treated together: equal shares, but the last."""
        n, size = self.hidden.size(0), self._chunk
        return (slice(i, min(n, i + size)) for i in range(0, n, size))

    @property
    def _chunk(self) -> int:
        logits = max(1, self.hidden.size(0)) * self.words
        budget = _CHUNK.get(self.hidden.device.type, _CHUNK["cuda"])
        return -(-logits // (-(-logits // budget) * self.words))

    def workspace(self) -> Tensor:
        """An uninitialised tensor for a chunk of logits."""
        return self.hidden.new_empty(self._chunk, self.words, dtype=self.dtype)

    def project(self, vectors: Tensor, rows: slice, out: Tensor, *, linear: bool = False) -> Tensor:
        """Rows of vectors, N x C, through the projection, in `dtype`. May be written to `out`.

        :param linear: without the bias.
        """
        if self.weight is None:
            return vectors[rows].to(self.dtype)
        if self.weight.dtype == self.dtype:
            result = torch.mm(vectors[rows], self.weight.t(), out=out[: rows.stop - rows.start])
        else:
            low, scale = _narrowed(vectors[rows], self.weight.dtype)
            result = torch.mm(low, self.weight.t()).to(self.dtype).mul_(scale)
        return result if self.bias is None or linear else result.add_(self.bias)


class Chunk:
    """Some rows of predictions, and the derivative in them of what is evaluated.

    :param log_q: the rows' log-probabilities, n x V.
    :param gradient: what a term adds its derivative in `log_q` to; None where it is not wanted.
    :param space: for `q`.
    """

    def __init__(self, rows: slice, log_q: Tensor, gradient: Tensor | None, space: Tensor) -> None:
        self.rows, self.log_q, self.gradient = rows, log_q, gradient
        self._space = space

    @cached_property
    def q(self) -> Tensor:
        """The rows' probabilities, n x V."""
        return torch.exp(self.log_q, out=self._space)


class Term(ABC):
    """Something to evaluate of predictions: a sum over their rows."""

    inputs: tuple[Tensor, ...] = ()
    """What else it depends on and has derivatives in."""

    @abstractmethod
    def begin(self, zero: Tensor, wanted: Sequence[bool]) -> None:
        """Start anew.

        :param zero: a scalar where, and in the type that, values are added up in.
        :param wanted: for each of the inputs, whether its derivative is wanted.
        """

    @abstractmethod
    def add(self, chunk: Chunk) -> None:
        """Add the value of some rows up, and its derivative to the chunk's."""

    @abstractmethod
    def total(self) -> Tensor:
        """The value, after all rows: a scalar."""

    def gradients(self) -> Sequence[Tensor | None]:
        """Derivatives of the value in the inputs, where they were wanted."""
        return ()


def evaluate(predictions: Predictions, *terms: Term) -> Tensor:
    """The sum of the terms: a scalar, in float32 or wider.

    Its gradient flows into the predictions (through kept log-probabilities too: they are taken for
    what they are computed from) and into the inputs of the terms. It is computed at once, beside
    the value, unless gradients are switched off, and as a constant: there is one backward pass, and
    no second derivative.
    """
    others = [tensor for term in terms for tensor in term.inputs]
    total: Tensor = _Evaluation.apply(  # type: ignore[no-untyped-call]
        predictions.log_probs,
        terms,
        torch.is_grad_enabled(),
        predictions.hidden,
        predictions.weight,
        predictions.bias,
        *others,
    )
    return total


class _Evaluation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        log_probs: Tensor | None,
        terms: Sequence[Term],
        differentiable: bool,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        *others: Tensor,
    ) -> Tensor:
        wanted = [
            differentiable and tensor is not None and tensor.requires_grad
            for tensor in (hidden, weight, bias, *others)
        ]
        predictions = Predictions(hidden, weight, bias, log_probs)
        back = BackProjection(predictions, *wanted[:3])
        zero, first = hidden.new_zeros((), dtype=predictions.dtype), 3
        for term in terms:
            term.begin(zero, wanted[first : first + len(term.inputs)])
            first += len(term.inputs)

        q = predictions.workspace()
        for rows, log_q, space in predictions.log_probs_in_chunks():
            gradient = space.zero_() if back.wanted else None
            chunk = Chunk(rows, log_q, gradient, q[: rows.stop - rows.start])
            for term in terms:
                term.add(chunk)
            if gradient is not None:  # of the log-probabilities; now of the logits
                gradient.addcmul_(chunk.q, gradient.sum(-1, keepdim=True), value=-1)
                back.add(rows, gradient)

        ctx.gradients = [*back.gradients(), *(g for term in terms for g in term.gradients())]
        ctx.dtypes = [None if t is None else t.dtype for t in (hidden, weight, bias, *others)]
        return sum((term.total() for term in terms), zero)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.gradients, ctx.dtypes, strict=True)
        ctx.gradients = ()
        gradients = (None if g is None else g.mul_(grad).to(dtype) for g, dtype in pairs)
        return None, None, None, *gradients


class BackProjection:
    """Adds up the gradient of what logits are projected from, from that of the logits."""

    def __init__(self, predictions: Predictions, hidden: bool, weight: bool, bias: bool) -> None:
        self.predictions = predictions
        self.wanted = hidden or weight or bias
        self.hidden = self._zeros(predictions.hidden) if hidden else None
        self.weight = self._zeros(predictions.weight) if weight else None
        self.bias = self._zeros(predictions.bias) if bias else None

    def _zeros(self, like: Tensor | None) -> Tensor:
        assert like is not None, "its gradient is wanted"
        return torch.zeros_like(like, dtype=self.predictions.dtype)

    def add(self, rows: slice, to_logits: Tensor) -> None:
        """The gradient of the rows' logits, n x V."""
        projection = self.predictions.weight
        if projection is None:
            if self.hidden is not None:
                self.hidden[rows] = to_logits
            return
        if self.hidden is not None:
            if projection.dtype == to_logits.dtype:
                torch.mm(to_logits, projection, out=self.hidden[rows])
            else:
                low, scale = _narrowed(to_logits, projection.dtype)
                self.hidden[rows] = torch.mm(low, projection).to(to_logits.dtype) * scale
        self.add_weight(rows, to_logits, self.predictions.hidden)
        if self.bias is not None:
            self.bias += to_logits.sum(0)

    def add_weight(self, rows: slice, to_logits: Tensor, vectors: Tensor) -> None:
        """The part of the weight's gradient where vectors, N x C, were projected."""
        if self.weight is None:
            return
        assert self.predictions.weight is not None
        dtype = self.predictions.weight.dtype
        if dtype == to_logits.dtype:
            self.weight.addmm_(to_logits.t(), vectors[rows])
        else:
            low, scale = _narrowed(to_logits, dtype)
            other, also = _narrowed(vectors[rows], dtype)
            self.weight += torch.mm(low.t(), other).to(to_logits.dtype) * (scale * also)

    def gradients(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of hidden states, weight and bias, in float32 or wider; None where not wanted."""
        return self.hidden, self.weight, self.bias


def _narrowed(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x in 16 bits, and a scalar to multiply with what is computed from it.

    In float16, gradients of probabilities would vanish: x is scaled to its own largest number.
    """
    if x.dtype == dtype or dtype != torch.float16:
        return x.to(dtype), x.new_ones((), dtype=torch.float32)
    largest = x.abs().amax() if x.numel() else x.new_zeros(())
    scale = torch.where(largest == 0, 1.0, largest)
    return (x / scale).to(dtype), scale
