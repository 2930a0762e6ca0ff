"""What a pass predicts, and losses of it that never hold all logits at once.

Logits are as large as the vocabulary. Losses and divergences are therefore taken from the hidden
states that logits are projected from, some rows at a time: their logits are computed, what is
wanted of them is added up, and the gradient goes back through the projection before the next rows
come. That takes the matrix products of an ordinary forward and backward pass, and no more.

`evaluate` does this for a sum of terms, each of one pass's predictions or of several passes';
`core.task_loss` and `core.divergence` have the terms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK = {"cpu": 2**20, "cuda": 2**24}
"""Logits at a time: on a CPU such that they stay in its caches, on a GPU enough to fill it."""


@dataclass(eq=False)
class Predictions:
    """Predictions of a batch: a row for each of its N predicted tokens, sentence by sentence.

    :param hidden: N x C, what the logits are projected from; without a projection, N x V, they are
        the logits.
    :param weight: V x C, the projection's; None where there is no projection.
    :param bias: V, the projection's; None where it has none.
    :param logits: N x V, constants, once they are kept (see `keep`).
    :param q: N x V, their probabilities, if these are kept as well.
    """

    hidden: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    logits: Tensor | None = None
    q: Tensor | None = None

    @property
    def words(self) -> int:
        """V, the size of the vocabulary."""
        return self.hidden.size(1) if self.weight is None else self.weight.size(0)

    @property
    def dtype(self) -> torch.dtype:
        """What probabilities are computed in: float32 or wider."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    @torch.no_grad()
    def keep(self, *, probabilities: bool) -> Predictions:
        """Keep all logits from now on; return the predictions that are given by them, constants.

        :param probabilities: keep these too. Whoever needs them twice takes less time then.
        """
        n, words = self.hidden.size(0), self.words
        if self.weight is None:
            logits = self.hidden.detach().to(self.dtype)
        else:
            logits = self.hidden.new_empty(n, words, dtype=self.dtype)
        q = torch.empty_like(logits) if probabilities else None
        for rows in self.rows():
            self.project(self.hidden, rows, logits[rows])
            if q is not None:
                torch.softmax(logits[rows], -1, out=q[rows])
        self.logits, self.q = logits, q
        return Predictions(logits, logits=logits, q=q)

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
        """An uninitialised tensor for the logits of rows that are treated together."""
        return self.hidden.new_empty(self._chunk, self.words, dtype=self.dtype)

    def project(self, vectors: Tensor, rows: slice, out: Tensor, *, linear: bool = False) -> Tensor:
        """Rows of vectors, N x C, through the projection, in `dtype`: `out`, if there is one.

        :param linear: without the bias.
        """
        if self.weight is None:
            return vectors[rows].to(self.dtype)
        if self.weight.dtype == self.dtype:
            torch.mm(vectors[rows], self.weight.t(), out=out)
        else:
            low, scale = _narrowed(vectors[rows], self.weight.dtype)
            torch.mul(torch.mm(low, self.weight.t()), scale, out=out)
        return out if self.bias is None or linear else out.add_(self.bias)


class Chunk:
    """Some rows of predictions, and the derivative in their logits of what is evaluated.

    :param logits: n x V.
    :param wanted: whether that derivative is.
    :param q: probabilities, if they are known; else space for them.
    """

    def __init__(
        self, rows: slice, logits: Tensor, wanted: bool, q: Tensor, *, known: bool
    ) -> None:
        self.rows, self.logits, self.wanted = rows, logits, wanted
        self.to_logits: Tensor | None = None
        self._q, self._known = q, known

    @cached_property
    def q(self) -> Tensor:
        """The rows' probabilities, n x V."""
        return self._q if self._known else torch.softmax(self.logits, -1, out=self._q)

    @cached_property
    def top(self) -> tuple[Tensor, Tensor]:
        """The largest logit of each row, and the largest probability: n x 1 each.

        That logit less the logarithm of that probability is what any logit has above its
        log-probability.
        """
        return self.logits.amax(-1, keepdim=True), self.q.amax(-1, keepdim=True)

    def add(self, to_logits: Tensor) -> None:
        """Add a term's derivative up: n x V, which is overwritten."""
        self.to_logits = to_logits if self.to_logits is None else self.to_logits.add_(to_logits)


def chunks(
    predictions: Sequence[Predictions], wanted: Sequence[bool] | None = None
) -> Iterator[list[Chunk]]:
    """The same rows of all predictions; what comes next overwrites it.

    :param wanted: see `Chunk`; of no predictions unless it says so.
    """
    logits = [p.workspace() if p.logits is None else None for p in predictions]
    space = [p.workspace() if p.q is None else None for p in predictions]
    for rows in predictions[0].rows():
        found = []
        for i, each in enumerate(predictions):
            z, q = _of(each.logits, logits[i], rows), _of(each.q, space[i], rows)
            if each.logits is None:
                z = each.project(each.hidden, rows, z)
            wants = wanted is not None and wanted[i]
            found.append(Chunk(rows, z, wants, q, known=each.q is not None))
        yield found


def _of(kept: Tensor | None, space: Tensor | None, rows: slice) -> Tensor:
    """The rows of what is kept; else as much space."""
    if kept is not None:
        return kept[rows]
    assert space is not None, "there is either"
    return space[: rows.stop - rows.start]


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
    tensors = {id(t): t for p in predictions for t in _parts(p)}
    total: Tensor = _Evaluation.apply(  # type: ignore[no-untyped-call]
        terms, predictions, torch.is_grad_enabled(), *tensors.values()
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
        # A tensor that several predictions have in common collects all of its gradient.
        gradients = {
            id(t): torch.zeros_like(t, dtype=predictions[0].dtype)
            for t in tensors
            if differentiable and t.requires_grad
        }
        back = [BackProjection(p, gradients) for p in predictions]
        places = [[predictions.index(p) for p in term.of] for term in terms]
        zero = predictions[0].hidden.new_zeros((), dtype=predictions[0].dtype)
        for term in terms:
            term.begin(zero)
        for rows in chunks(predictions, [b.wanted for b in back]):
            for term, place in zip(terms, places, strict=True):
                term.add(*(rows[i] for i in place))
            for b, chunk in zip(back, rows, strict=True):
                if chunk.to_logits is not None:
                    b.add(chunk.rows, chunk.to_logits)
        ctx.gradients = [gradients.get(id(t)) for t in tensors]
        ctx.dtypes = [t.dtype for t in tensors]
        return sum((term.total() for term in terms), zero)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairs = zip(ctx.gradients, ctx.dtypes, strict=True)
        ctx.gradients = ()
        gradients = (None if g is None else g.mul_(grad).to(dtype) for g, dtype in pairs)
        return None, None, None, *gradients


class BackProjection:
    """Adds up the gradient of what logits are projected from, from that of the logits.

    :param gradients: by the id of hidden states, weight and bias: what to add to, in float32 or
        wider. What is not there is not wanted.
    """

    def __init__(self, predictions: Predictions, gradients: Mapping[int, Tensor]) -> None:
        self.predictions = predictions
        self.wanted = any(id(t) in gradients for t in _parts(predictions))
        self._hidden = gradients.get(id(predictions.hidden))
        self._weight = gradients.get(id(predictions.weight))
        self._bias = gradients.get(id(predictions.bias))

    def add(self, rows: slice, to_logits: Tensor) -> None:
        """The gradient of the rows' logits, n x V."""
        projection = self.predictions.weight
        if projection is None:
            if self._hidden is not None:
                self._hidden[rows] += to_logits
            return
        if self._hidden is not None:
            hidden = self._hidden[rows]
            if projection.dtype == to_logits.dtype:
                hidden.addmm_(to_logits, projection)
            else:
                low, scale = _narrowed(to_logits, projection.dtype)
                hidden += torch.mm(low, projection).to(to_logits.dtype) * scale
        self.add_weight(rows, to_logits, self.predictions.hidden)
        if self._bias is not None:
            self._bias += to_logits.sum(0)

    def add_weight(self, rows: slice, to_logits: Tensor, vectors: Tensor) -> None:
        """The part of the weight's gradient where vectors, N x C, were projected."""
        if self._weight is None:
            return
        assert self.predictions.weight is not None
        dtype = self.predictions.weight.dtype
        if dtype == to_logits.dtype:
            self._weight.addmm_(to_logits.t(), vectors[rows])
        else:
            low, scale = _narrowed(to_logits, dtype)
            other, also = _narrowed(vectors[rows], dtype)
            self._weight += torch.mm(low.t(), other).to(to_logits.dtype) * (scale * also)


def _parts(predictions: Predictions) -> list[Tensor]:
    """What gradient flows into."""
    parts = (predictions.hidden, predictions.weight, predictions.bias)
    return [t for t in parts if t is not None]


def _narrowed(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x in 16 bits, and a scalar to multiply with what is computed from it.

    In float16, gradients of probabilities would vanish: x is scaled to its own largest number.
    """
    if x.dtype == dtype or dtype != torch.float16:
        return x.to(dtype), x.new_ones((), dtype=torch.float32)
    largest = x.abs().amax() if x.numel() else x.new_zeros(())
    scale = torch.where(largest == 0, 1.0, largest)
    return (x / scale).to(dtype), scale
