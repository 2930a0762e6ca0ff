"""Dropout on a CPU, in games: the same distribution as torch's, drawn several times as fast.

torch decides on one element after another, on one thread however many there are. A game runs a
small model several times per update, and a tenth of that was waiting for masks. Here sixteen random
bits decide on an element, and what they leave of the rate is made up for exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.modules import FairseqDropout
from torch import Tensor

from fairseq_adv.replaced import replaced

_STEPS = 2**16


def draw_mask(shape: torch.Size, rate: float) -> Tensor:
    """Return what dropout keeps: each element is True with probability 1 - rate, independently.

    Drawn from torch's CPU generator, so that a state of it gives the same mask again.

    :param rate: 0 < rate < 1. It is not rounded: bits alone keep an element with the probability
        `coarse`, a multiple of 1 / 65,536. Then all elements are hit as by rain, each a Poisson
        number of times, and one that is hit is kept. Over the elements together, a Poisson number
        of hits falls on places that are uniform and independent: nearly always very few.
    """
    size = shape.numel()
    words = torch.empty(-(-size // 4), dtype=torch.int64)
    bits = words.random_(-(2**63), None).view(torch.int16)[:size]  # uniform, from -2^15 up
    steps = math.floor((1 - rate) * _STEPS)
    kept = bits < steps - _STEPS // 2
    coarse = steps / _STEPS
    intensity = math.log1p((1 - rate - coarse) / rate)  # of rain: exp(-intensity) stay dry
    if intensity > 0:
        hits = torch.poisson(torch.tensor(size * intensity, dtype=torch.float64))
        kept[torch.randint(size, (int(hits),))] = True
    return kept.view(shape)


class _Kept(torch.autograd.Function):
    """x / (1 - rate) where the mask is True, else 0. Its derivative is itself, to any order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, rate: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.rate = rate
        return (x * mask).mul_(1 / (1 - rate))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return _Kept.apply(grads[0], mask, ctx.rate), None, None


@contextmanager
def fast_dropout() -> Iterator[None]:
    """Let fairseq's dropout modules draw their masks by `draw_mask` inside the block, on a CPU.

    Checkpointed layers draw them again in the backward pass, which is to be inside, too. Attention
    weights, where fairseq leaves attention to torch, have masks of torch's.
    """
    fairseq_s = FairseqDropout.forward

    def forward(module: FairseqDropout, x: Tensor, inplace: bool = False) -> Any:
        drops = (module.training or module.apply_during_inference) and 0 < module.p < 1
        if not drops or inplace or x.device.type != "cpu":
            return fairseq_s(module, x, inplace)
        return _Kept.apply(x, draw_mask(x.shape, module.p), module.p)

    with replaced(FairseqDropout, "forward", forward):
        yield
