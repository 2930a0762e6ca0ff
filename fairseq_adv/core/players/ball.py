"""The ball that a perturbation lives in: its norm, and the way back into it.

Perturbations are B x T x C, or of more dimensions, with the batch first, and zero where there is
nothing to perturb, so that padding never counts in a norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.settings import InvalidSetting, means, one_of
from fairseq_adv.core.sites import within_sentence

Norm = Literal["l2", "linf"]
Scope = Literal["sentence", "token"]

NORMS: tuple[Norm, ...] = get_args(Norm)
SCOPES: tuple[Scope, ...] = get_args(Scope)

_SQUARE_VANISHES = 2.0**-50
"""Where the largest component is below this, all are measured by it: in float32 squares lose digits
below 2^-63, and from 2^-75 on they are 0."""


def radius(name: str, value: float, *, finite: bool = False) -> None:
    """Raise InvalidSetting if the value is no radius.

    :param finite: whether a ball without end will not do.
    """
    if not value >= 0 or (finite and math.isinf(value)):
        raise InvalidSetting(name, value, "a number from 0 up" + ("" if finite else ", or inf"))


@dataclass(frozen=True, kw_only=True)
class Ball:
    """Where a perturbation may lie: each site has a ball of its own, of this radius.

    :param epsilon: radius, in the units of the embeddings. It may be infinite.
    :param norm: `l2` or `linf`, of the ball and of the `normalized` rule.
    :param norm_scope: what the norm is taken over: a whole `sentence`, or each `token`.
    """

    epsilon: float = field(
        metadata=means(
            "radius of the ball that a perturbation stays in, in embedding units; inf: no ball"
        )
    )
    norm: Norm = field(metadata=means("norm of the ball and of normalized ascent"))
    norm_scope: Scope = field(metadata=means("take the norm over a whole sentence or each token"))

    def __post_init__(self) -> None:
        radius("epsilon", self.epsilon)
        one_of("norm", self.norm, NORMS)
        one_of("norm_scope", self.norm_scope, SCOPES)

    def norm_of(self, x: Tensor) -> Tensor:
        """Norm of each sentence (B x 1 x 1) or of each token (B x T x 1) of x.

        At x = 0, where the norm has no derivative, its derivative is taken as 0 (and not NaN, which
        would reach every parameter). What is so small that its square would vanish has its length.
        """
        dims = within_sentence(x) if self.norm_scope == "sentence" else within_sentence(x)[1:]
        if self.norm == "linf":
            return x.abs().amax(dims, keepdim=True)
        with torch.no_grad():  # a constant that is taken out of a norm changes nothing
            largest = x.abs().amax(dims, keepdim=True)
            unit = torch.where((largest > 0) & (largest < _SQUARE_VANISHES), largest, 1.0)
        square = (x / unit).square().sum(dims, keepdim=True)
        positive = square > 0
        return torch.where(positive, square, 1.0).sqrt() * positive * unit

    def project(self, delta: Tensor) -> Tensor:
        """The point of the ball that is nearest to delta (Eq. 3's Pi).

        Nearest in Euclidean distance: l2 rescales a sentence (or token) that is too long, linf
        clamps each component, so that its scope makes no difference.
        """
        if self.norm == "linf":
            return delta.clamp(-self.epsilon, self.epsilon)
        length = self.norm_of(delta)
        outside = length > self.epsilon
        return delta * torch.where(outside, self.epsilon / torch.where(outside, length, 1.0), 1.0)
