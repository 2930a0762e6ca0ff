"""torch's kernels where a gradient is to be differentiated again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.backends import cudnn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def twice_differentiable_kernels() -> Iterator[None]:
    """Kernels whose backward pass has a derivative: fused attention and cuDNN's LSTM have none."""
    with (
        _layer_norm_in_float32(),
        sdpa_kernel(SDPBackend.MATH),
        cudnn.flags(
            enabled=False,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=cudnn.allow_tf32,
        ),
    ):
        yield


@contextmanager
def _layer_norm_in_float32() -> Iterator[None]:
    """In the place of one in float16, whose second derivative is not finite at a constant row.

    Padding is one to RoBERTa. The derivative has the cube of 1 / sqrt(variance + epsilon), 3e7.
    """
    layer_norm = functional.layer_norm

    def widened(
        x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> Tensor:
        if x.dtype != torch.float16:
            return layer_norm(x, shape, weight, bias, eps)
        weight, bias = (None if p is None else p.float() for p in (weight, bias))
        return layer_norm(x.float(), shape, weight, bias, eps).to(x.dtype)

    functional.layer_norm = widened  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.layer_norm = layer_norm
