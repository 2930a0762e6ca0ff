"""Dropout masks that can be drawn again.

A pass through a model takes its dropout masks from torch's generators. Two points of a finite
difference must see the same masks, else the noise between masks swamps the difference; and the
perturbed pass may be asked to share the clean pass's masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


def _on_cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class RandomState:
    """The state of torch's generators: the CPU's and, where it is in use, the current GPU's."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def capture(cls) -> RandomState:
        """The state as it is now: what a pass that comes next will draw from."""
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if _on_cuda() else None)

    @classmethod
    def draw(cls) -> RandomState:
        """A fresh state, independent of earlier ones.

        It is drawn from torch's CPU generator, so that a run which is killed and resumed sees the
        same masks as one which was not, and without waiting for the GPU.
        """
        seed = int(torch.randint(2**62, ()))
        cpu = torch.Generator().manual_seed(seed).get_state()
        cuda = torch.Generator("cuda").manual_seed(seed).get_state() if _on_cuda() else None
        return cls(cpu, cuda)

    @contextmanager
    def replay(self) -> Iterator[None]:
        """Draw from this state inside the block; go on as if nothing had happened after it."""
        outside = RandomState.capture()
        self._restore()
        try:
            yield
        finally:
            outside._restore()

    def _restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
