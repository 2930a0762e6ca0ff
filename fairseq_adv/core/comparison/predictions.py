"""What a pass predicts, and the way from there to logits and back, some rows at a time.

Logits are as large as the vocabulary. A pass therefore gives what they are projected from; some
rows of logits are computed when they are wanted, and their gradient goes back through the
projection before the next rows come. That takes the matrix products of an ordinary forward and
backward pass, and no more. Small heads give logits as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = {"cpu": 2**20, "cuda": 2**24}
"""Logits at a time: on a CPU such that they stay in its caches, on a GPU enough to fill it."""


@dataclass(frozen=True)
class Kept:
    """All logits of some predictions, N x V, constants; and, by name, what is known of them."""

    logits: Tensor
    known: dict[str, Tensor]


class Predictions(ABC):
    """Predictions of a batch: a row for each of its N predicted tokens, sentence by sentence."""

    kept: Kept | None = None
    """Its logits, if they are not to be computed again."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors
        """N x C, what comes out of the network: what logits are computed from, row by row."""

    @property
    @abstractmethod
    def size(self) -> int:
        """V, the number of logits in a row."""

    @property
    @abstractmethod
    def parts(self) -> tuple[Tensor, ...]:
        """What gradient flows into; `type(p)(*p.parts)` are the same predictions."""

    @abstractmethod
    def logits(self, vectors: Tensor, rows: slice, out: Tensor, *, linear: bool = False) -> Tensor:
        """Rows of vectors as logits, n x V in `dtype`: `out`, or as good as that.

        :param linear: without what is added in any case.
        """

    @abstractmethod
    def all_logits(self, vectors: Tensor) -> Tensor:
        """All vectors, N x C in `dtype`, as logits, N x V, with their graph: for small heads."""

    @abstractmethod
    def back(self, gradients: Gradients) -> Back:
        """The way back from the logits."""

    @property
    def dtype(self) -> torch.dtype:
        """What logits are computed in: float32 or wider."""
        return torch.promote_types(self.vectors.dtype, torch.float32)

    def detached(self) -> Predictions:
        """The same, as constants."""
        return type(self)(*(part.detach() for part in self.parts))

    @torch.no_grad()
    def keep(self, known: dict[str, Callable[[Tensor, Tensor], object]]) -> Logits:
        """Keep all logits from now on; return the predictions that are given by them, constants.

        :param known: what else to keep of them, by name: functions of some rows of logits, and of
            where to put what they find, n x V each.
        """
        logits = self._space_for_all()
        found = {name: torch.empty_like(logits) for name in known}
        for rows in self.rows():
            self.logits(self.vectors, rows, logits[rows])
            for name, find in known.items():
                find(logits[rows], found[name][rows])
        self.kept = Kept(logits, found)
        given = Logits(logits)
        given.kept = self.kept
        return given

    def _space_for_all(self) -> Tensor:
        return self.vectors.new_empty(self.vectors.size(0), self.size, dtype=self.dtype)

    def rows(self) -> Iterator[slice]:
        """Rows to be treated together: equal shares, but the last."""
        n, size = self.vectors.size(0), self._chunk
        return (slice(i, min(n, i + size)) for i in range(0, n, size))

    @property
    def _chunk(self) -> int:
        logits = max(1, self.vectors.size(0)) * self.size
        budget = _CHUNK.get(self.vectors.device.type, _CHUNK["cuda"])
        return -(-logits // (-(-logits // budget) * self.size))

    def workspace(self) -> Tensor:
        """An uninitialised tensor for the logits of rows that are treated together."""
        return self.vectors.new_empty(self._chunk, self.size, dtype=self.dtype)


class Logits(Predictions):
    """Predictions that are given by their logits, N x V."""

    @property
    def size(self) -> int:
        """See `Predictions`."""
        return self.vectors.size(1)

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """See `Predictions`."""
        return (self.vectors,)

    def logits(self, vectors: Tensor, rows: slice, out: Tensor, *, linear: bool = False) -> Tensor:
        """See `Predictions`."""
        return vectors[rows].to(self.dtype)

    def _space_for_all(self) -> Tensor:
        return self.vectors.detach().to(self.dtype)  # where they are already

    def all_logits(self, vectors: Tensor) -> Tensor:
        """See `Predictions`."""
        return vectors

    def back(self, gradients: Gradients) -> Back:
        """See `Predictions`."""
        return _BackToLogits(self, gradients)


class Projected(Predictions):
    """Predictions whose logits are projected from hidden states: vectors @ weight^T + bias.

    :param vectors: N x C, the hidden states.
    :param weight: V x C.
    :param bias: V, if there is one.
    """

    def __init__(self, vectors: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(vectors)
        self.weight, self.bias = weight, bias

    @property
    def size(self) -> int:
        """See `Predictions`."""
        return self.weight.size(0)

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """See `Predictions`."""
        return (self.vectors, self.weight, *(() if self.bias is None else (self.bias,)))

    def logits(self, vectors: Tensor, rows: slice, out: Tensor, *, linear: bool = False) -> Tensor:
        """See `Predictions`."""
        if self.weight.dtype == self.dtype:
            torch.mm(vectors[rows], self.weight.t(), out=out)
        else:
            low, scale = _narrowed(vectors[rows], self.weight.dtype)
            torch.mul(torch.mm(low, self.weight.t()), scale, out=out)
        return out if self.bias is None or linear else out.add_(self.bias)

    def all_logits(self, vectors: Tensor) -> Tensor:
        """See `Predictions`."""
        bias = None if self.bias is None else self.bias.to(self.dtype)
        return torch.nn.functional.linear(vectors, self.weight.to(self.dtype), bias)

    def back(self, gradients: Gradients) -> Back:
        """See `Predictions`."""
        return _BackThroughProjection(self, gradients)


class Gradients:
    """Gradients that are added up: one for each tensor, whoever has it in common.

    :param tensors: whose gradients are wanted.
    :param dtype: what they are added up in, float32 or wider.
    """

    def __init__(self, tensors: Iterable[Tensor], dtype: torch.dtype) -> None:
        self._found = [(t, torch.zeros_like(t, dtype=dtype)) for t in tensors]

    def of(self, tensor: Tensor | None) -> Tensor | None:
        """What to add to; None where nothing is wanted."""
        return next((total for known, total in self._found if known is tensor), None)


class Back(ABC):
    """The way back from some predictions' logits."""

    def __init__(self, predictions: Predictions, gradients: Gradients) -> None:
        self.wanted = any(gradients.of(part) is not None for part in predictions.parts)
        self.vectors = gradients.of(predictions.vectors)

    @abstractmethod
    def add(self, rows: slice, to_logits: Tensor) -> None:
        """Add up what the gradient of the rows' logits, n x V, is further back."""

    @abstractmethod
    def add_weight(self, rows: slice, to_logits: Tensor, vectors: Tensor) -> None:
        """The part of the projection's gradient where vectors, N x C, were projected."""


class _BackToLogits(Back):
    def add(self, rows: slice, to_logits: Tensor) -> None:
        if self.vectors is not None:
            self.vectors[rows] += to_logits

    def add_weight(self, rows: slice, to_logits: Tensor, vectors: Tensor) -> None:
        """There is none."""


class _BackThroughProjection(Back):
    def __init__(self, predictions: Projected, gradients: Gradients) -> None:
        super().__init__(predictions, gradients)
        self._predictions = predictions
        self._weight = gradients.of(predictions.weight)
        self._bias = gradients.of(predictions.bias)

    def add(self, rows: slice, to_logits: Tensor) -> None:
        weight = self._predictions.weight
        if self.vectors is not None:
            into = self.vectors[rows]
            if weight.dtype == to_logits.dtype:
                into.addmm_(to_logits, weight)
            else:
                low, scale = _narrowed(to_logits, weight.dtype)
                into += torch.mm(low, weight).to(to_logits.dtype) * scale
        self.add_weight(rows, to_logits, self._predictions.vectors)
        if self._bias is not None:
            self._bias += to_logits.sum(0)

    def add_weight(self, rows: slice, to_logits: Tensor, vectors: Tensor) -> None:
        if self._weight is None:
            return
        dtype = self._predictions.weight.dtype
        if dtype == to_logits.dtype:
            self._weight.addmm_(to_logits.t(), vectors[rows])
        else:
            low, scale = _narrowed(to_logits, dtype)
            other, also = _narrowed(vectors[rows], dtype)
            self._weight += torch.mm(low.t(), other).to(to_logits.dtype) * (scale * also)


def _narrowed(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x in 16 bits, and a scalar to multiply with what is computed from it.

    In float16, gradients of probabilities would vanish: x is scaled to its own largest number.
    """
    if x.dtype == dtype or dtype != torch.float16:
        return x.to(dtype), x.new_ones((), dtype=torch.float32)
    largest = x.abs().amax() if x.numel() else x.new_zeros(())
    scale = torch.where(largest == 0, 1.0, largest)
    return (x / scale).to(dtype), scale
