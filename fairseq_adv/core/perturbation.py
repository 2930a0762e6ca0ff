"""Perturbations of word embeddings: norms, the ball they live in, where they start; cut-off.

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

WordPlace = Literal["first", "last"]


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
    if std == 0:  # and nothing is drawn
        return zero
    return torch.randn_like(zero) * std * non_pad.unsqueeze(-1)


def uniform(zero: Tensor, non_pad: Tensor, epsilon: float, norm: Norm, scope: Scope) -> Tensor:
    """Initial perturbation within the ball of radius epsilon, 0 at padding.

    U(-epsilon, epsilon) in each component, in an l2 ball divided by the square root of the number
    of components that a norm is taken over (FreeLB, Algorithm 1).

    :param zero: zeros B x T x C that give shape, type and device.
    :param non_pad: B x T, false at padding.
    """
    noise = (2 * torch.rand_like(zero) - 1) * epsilon * non_pad.unsqueeze(-1)
    if norm == "linf":
        return noise
    words = non_pad.sum(1).clamp(min=1)[:, None, None] if scope == "sentence" else 1  # B x 1 x 1
    return noise * (words * zero.size(2)) ** -0.5


def kept_words(non_pad: Tensor, rate: float, spared: WordPlace) -> Tensor:
    """A random choice of words to keep, B x T: false with probability `rate`.

    Padding and the first or last word of each sentence are always kept.

    :param non_pad: B x T, false at padding.
    """
    keep = torch.rand(non_pad.shape, device=non_pad.device) >= rate
    number = non_pad.cumsum(1)  # 1 at a sentence's first word
    spare = number == (1 if spared == "first" else number[:, -1:])
    return keep | spare | ~non_pad
