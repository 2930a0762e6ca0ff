"""Gradients of a whole model: finite differences of a loss, and distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def directions(model: Any, count: int = 2) -> list[list[Tensor]]:
    """Random unit directions in theta; 0 in the embeddings of padding, which have no gradient."""
    pads = {
        id(m.weight): m.padding_idx
        for m in model.modules()
        if isinstance(m, torch.nn.Embedding) and m.padding_idx is not None
    }
    generator = torch.Generator().manual_seed(5)
    result = []
    for _ in range(count):
        direction = []
        for p in model.parameters():
            d = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            if id(p) in pads:
                d[pads[id(p)]] = 0.0
            direction.append(d)
        length = float(torch.stack([d.norm() for d in direction]).norm())
        result.append([d / length for d in direction])
    return result


def directional_derivative(
    value: Callable[[], float], model: Any, direction: list[Tensor], h: float = 2e-5
) -> float:
    """Five-point stencil: error O(h^4)."""

    def at(t: float) -> float:
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p.add_(d, alpha=t)
        try:
            return value()
        finally:
            with torch.no_grad():
                for p, d in zip(model.parameters(), direction, strict=True):
                    p.add_(d, alpha=-t)

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def distance(ours: list[Tensor], reference: list[Tensor]) -> float:
    """Relative distance of two gradients, over all parameters together."""
    error = torch.stack([(a - b).norm() for a, b in zip(ours, reference, strict=True)]).norm()
    return float(error / torch.stack([b.norm() for b in reference]).norm())


def gradients(model: Any) -> list[Tensor]:
    """Copies of all parameters' gradients: zeros where there is none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
