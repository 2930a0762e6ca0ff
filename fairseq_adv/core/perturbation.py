"""Perturbations of word embeddings: their norms, the ball they live in, and where they start.

Every tensor here is B x T x C and zero at padding, so that padding never counts in a norm.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Norm = Literal["l2", "linf"]
Scope = Literal["sentence", "token"]

NORMS: tuple[Norm, ...] = get_args(Norm)
SCOPES: tuple[Scope, ...] = get_args(Scope)


def norm_of(x: Tensor, norm: Norm, scope: Scope) -> Tensor:
    """Norm of each sentence (B x 1 x 1) or of each token (B x T x 1) of x.

    At x = 0, where the norm has no derivative, its derivative is taken as 0 (and not NaN, which
    would reach every parameter).
    """
    dims = (1, 2) if scope == "sentence" else (2,)
    if norm == "linf":
        return x.abs().amax(dims, keepdim=True)
    square = x.square().sum(dims, keepdim=True)
    positive = square > 0
    return torch.where(positive, square, 1.0).sqrt() * positive


def project(delta: Tensor, epsilon: float, norm: Norm, scope: Scope) -> Tensor:
    """The point of the ball of radius epsilon that is nearest to delta (Eq. 3's Pi).

    Nearest in Euclidean distance: l2 rescales a sentence (or token) that is too long, linf clamps
    each component, so that its scope makes no difference.
    """
    if norm == "linf":
        return delta.clamp(-epsilon, epsilon)
    length = norm_of(delta, norm, scope)
    outside = length > epsilon
    return delta * torch.where(outside, epsilon / torch.where(outside, length, 1.0), 1.0)


def gaussian(zero: Tensor, non_pad: Tensor, std: float) -> Tensor:
    """Initial perturbation delta^0 ~ N(0, std^2) at the words, 0 at padding.

    :param zero: zeros B x T x C that give shape, type and device.
    :param non_pad: B x T, false at padding.
    """
    return torch.randn_like(zero) * std * non_pad.unsqueeze(-1)
