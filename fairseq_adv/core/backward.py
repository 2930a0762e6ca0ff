"""Backward passes: what a trainer hands to a method, to accumulate gradients with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Accumulate(Protocol):
    """Runs backward and frees the graph, so that one graph at a time is alive."""

    def __call__(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """Add d loss / d theta to the parameters' gradients; return d loss / d leaf for each leaf.

        What is returned is free of any loss scale that the optimizer works with.
        """


class Backward:
    """`Accumulate` by `Tensor.backward`.

    A trainer that scales losses, so that small gradients survive in 16 bits, overrides `scaled`.
    """

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the loss scale, which is 1 here."""
        return loss

    def run(self, loss: Tensor) -> None:
        """The backward pass of the loss, scaled."""
        self.scaled(loss).backward()  # type: ignore[no-untyped-call]

    def __call__(self, loss: Tensor, leaves: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """See `Accumulate`."""
        self.run(loss)
        gradients = []
        for leaf in leaves:
            grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            gradients.append(self._unscaled(grad))
            leaf.grad = None
        return tuple(gradients)

    def scale(self, like: Tensor) -> Tensor | float:
        """The loss scale, without waiting for a GPU to tell it.

        :param like: a tensor of the type, and where, the scale is wanted.
        """
        one = like.new_ones(())
        scale = self.scaled(one)
        return 1.0 if scale is one else scale

    def _unscaled(self, gradient: Tensor) -> Tensor:
        scale = self.scale(gradient)
        return gradient if isinstance(scale, float) else gradient / scale
