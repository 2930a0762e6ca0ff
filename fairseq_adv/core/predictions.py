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
class Probabilities:
    """Of all words at all predicted tokens, N x V each, in float32 or wider.

    :param p: constants.
    :param log_p: their logarithms, which gradient may flow into.
    """

    p: Tensor
    log_p: Tensor


@dataclass(frozen=True)
class Predictions:
    """Predictions of a batch: a row for each of its N predicted tokens, sentence by sentence.

    :param hidden: N x C, what the logits are projected from; without a projection, N x V, they are
        the logits.
    :param weight: V x C, the projection's; None where there is no projection.
    :param bias: V, the projection's; None where it has none.
    :param kept: their probabilities, where these are kept (see `keeping`): constants.
    """

    hidden: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    kept: Probabilities | None = None

    @property
    def words(self) -> int:
        """V, the size of the vocabulary."""
        return self.hidden.size(1) if self.weight is None else self.weight.size(0)

    @property
    def dtype(self) -> torch.dtype:
        """What probabilities are computed in: float32 or wider."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    def keeping(self) -> Predictions:
        """The same, with what `probabilities` gives."""
        return replace(self, kept=self.probabilities())

    @torch.no_grad()
    def probabilities(self) -> Probabilities:
        """All probabilities, to compare other predictions with: constants."""
        p = self.hidden.new_empty(self.hidden.size(0), self.words, dtype=self.dtype)
        log_p = torch.empty_like(p)
        for rows, logits in self._logits_in_chunks():
            torch.softmax(logits, -1, out=p[rows])
            torch.log_softmax(logits, -1, out=log_p[rows])
        return Probabilities(p, log_p)

    def chunks(self) -> Iterator[Chunk]:
        """Some rows after others; the next overwrite what is not kept of those before."""
        if self.kept is not None:
            for rows in self.rows():
                yield Chunk(rows, None, self.kept.p[rows], self.kept.log_p[rows])
        else:
            q, log_q = self.workspace(), self.workspace()
            for rows, logits in self._logits_in_chunks():
                n = rows.stop - rows.start
                yield Chunk(rows, logits, q[:n], log_q[:n])

    def _logits_in_chunks(self) -> Iterator[tuple[slice, Tensor]]:
        space = self.workspace()
        for rows in self.rows():
            yield rows, self.project(self.hidden, rows, space)

    def rows(self) -> Iterator[slice]:
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
    """Some rows of predictions, and the derivative in their logits of what is evaluated.

    :param logits: n x V; None where probabilities are known.
    :param q: known, or space for them, n x V; so `log_q`.
    """

    def __init__(self, rows: slice, logits: Tensor | None, q: Tensor, log_q: Tensor) -> None:
        self.rows = rows
        self.to_logits: Tensor | None = None
        self._logits, self._q, self._log_q = logits, q, log_q

    @cached_property
    def q(self) -> Tensor:
        """The rows' probabilities, n x V."""
        if self._logits is None:
            return self._q
        return torch.softmax(self._logits, -1, out=self._q)

    @cached_property
    def log_q(self) -> Tensor:
        """The rows' log-probabilities, n x V."""
        if self._logits is None:
            return self._log_q
        return torch.log_softmax(self._logits, -1, out=self._log_q)

    def add(self, to_logits: Tensor) -> None:
        """Add a term's derivative up: n x V, which becomes the chunk's."""
        self.to_logits = to_logits if self.to_logits is None else self.to_logits.add_(to_logits)


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
    def add(self, chunk: Chunk, wanted: bool) -> None:
        """Add the value of some rows up, and, if it is wanted, its derivative in their logits."""

    @abstractmethod
    def total(self) -> Tensor:
        """The value, after all rows: a scalar."""

    def gradients(self) -> Sequence[Tensor | None]:
        """Derivatives of the value in the inputs, where they were wanted."""
        return ()


def evaluate(predictions: Predictions, *terms: Term) -> Tensor:
    """The sum of the terms: a scalar, in float32 or wider.

    Its gradient flows into the predictions (through kept probabilities too: they are taken for
    what they are computed from) and into the inputs of the terms. It is computed at once, beside
    the value, unless gradients are switched off, and as a constant: there is one backward pass, and
    no second derivative.
    """
    others = [tensor for term in terms for tensor in term.inputs]
    total: Tensor = _Evaluation.apply(  # type: ignore[no-untyped-call]
        predictions.kept,
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
        kept: Probabilities | None,
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
        predictions = Predictions(hidden, weight, bias, kept)
        back = BackProjection(predictions, *wanted[:3])
        zero, first = hidden.new_zeros((), dtype=predictions.dtype), 3
        for term in terms:
            term.begin(zero, wanted[first : first + len(term.inputs)])
            first += len(term.inputs)

        for chunk in predictions.chunks():
            for term in terms:
                term.add(chunk, back.wanted)
            if chunk.to_logits is not None:
                back.add(chunk.rows, chunk.to_logits)

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
