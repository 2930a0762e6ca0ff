"""Divergences between two predictive distributions, in nats.

Computed in float32 or wider from log-probabilities, never as log(softmax), which overflows. The
derivatives are written out: nothing of the vocabulary's size is kept for the backward pass but
the log-probabilities themselves, and where the two distributions are equal the derivative is zero
exactly. They can be differentiated again.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

Kind = Literal["kl", "symmetric-kl"]

KINDS: tuple[Kind, ...] = get_args(Kind)


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over the last dimension, in float32 or wider."""
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def divergence(log_p: Tensor, log_q: Tensor, predicted: Tensor, kind: Kind) -> Tensor:
    """Divergence of each sentence, summed over its predicted tokens: shape B, in nats.

    `kl` is KL(P || Q) (SALT, section 3.1, with P the clean predictions); `symmetric-kl` is
    (KL(P || Q) + KL(Q || P)) / 2, as in R-Drop and in SALT's released code.

    :param log_p: log-probabilities of P, B x T x V. Gradient flows into them if they require one.
    :param log_q: log-probabilities of Q, B x T x V.
    :param predicted: B x T, false at padding; what lies there counts for nothing.
    """
    function = _SymmetricKL if kind == "symmetric-kl" else _KL
    rows: Tensor = function.apply(log_p, log_q)  # type: ignore[no-untyped-call]
    return rows.masked_fill(~predicted, 0.0).sum(1)


class _SymmetricKL(torch.autograd.Function):
    """sum (p - q) (log p - log q) / 2 over the last dimension."""

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_q: Tensor) -> Tensor:
        ctx.save_for_backward(log_p, log_q)
        return log_p.exp().sub_(log_q.exp()).mul_(log_p - log_q).sum(-1).mul_(0.5)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        log_p, log_q = ctx.saved_tensors
        p, q, half = log_p.exp(), log_q.exp(), 0.5 * grad.unsqueeze(-1)
        ratio = log_p - log_q
        to_p = half * (p - q + p * ratio) if ctx.needs_input_grad[0] else None
        to_q = half * (q - p - q * ratio) if ctx.needs_input_grad[1] else None
        return to_p, to_q


class _KL(torch.autograd.Function):
    """sum p (log p - log q) over the last dimension.

    Its derivative in log q is taken as q - p and not as -p: the two differ by the derivative of
    sum q = 1, that is by nothing, but only the first is zero for q = p.
    """

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_q: Tensor) -> Tensor:
        ctx.save_for_backward(log_p, log_q)
        return (log_p - log_q).mul_(log_p.exp()).sum(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        log_p, log_q = ctx.saved_tensors
        p, row = log_p.exp(), grad.unsqueeze(-1)
        to_p = row * p * (log_p - log_q) if ctx.needs_input_grad[0] else None
        to_q = row * (log_q.exp() - p) if ctx.needs_input_grad[1] else None
        return to_p, to_q
