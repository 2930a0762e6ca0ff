"""Divergences between two predictive distributions, from logits, in nats.

Computed in float32 or wider from log-softmax, never as log(softmax), which overflows to -inf.
The derivatives are written out: only the two tensors of logits stay alive for the backward pass,
and where the two distributions are equal the derivative is zero exactly (autograd would leave
p - q * sum(p), a rounding error). They can be differentiated again.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

Kind = Literal["kl", "symmetric-kl"]

KINDS: tuple[Kind, ...] = get_args(Kind)


def divergence(reference: Tensor, logits: Tensor, predicted: Tensor, kind: Kind) -> Tensor:
    """Divergence of each sentence, summed over its predicted tokens: shape B, in nats.

    `kl` is KL(P || Q), with P from the reference and Q from the logits (SALT, section 3.1);
    `symmetric-kl` is (KL(P || Q) + KL(Q || P)) / 2, as in R-Drop and in SALT's released code.

    :param reference: logits of P, B x T x V. Gradient flows into it if it requires one.
    :param logits: logits of Q, B x T x V.
    :param predicted: B x T, false at padding; what lies there counts for nothing.
    """
    return _Divergence.apply(reference, logits, predicted, kind == "symmetric-kl")  # type: ignore[no-any-return, no-untyped-call]


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, reference: Tensor, logits: Tensor, predicted: Tensor, symmetric: bool
    ) -> Tensor:
        ctx.save_for_backward(reference, logits, predicted)
        ctx.symmetric = symmetric
        log_p, log_q = _log_softmax(reference), _log_softmax(logits)
        weight = (log_p.exp() - log_q.exp()) * 0.5 if symmetric else log_p.exp()
        rows = (weight * (log_p - log_q)).sum(-1)
        return rows.masked_fill(~predicted, 0.0).sum(1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        reference, logits, predicted = ctx.saved_tensors
        log_p, log_q = _log_softmax(reference), _log_softmax(logits)
        p, q = log_p.exp(), log_q.exp()
        ratio = log_p - log_q
        rows = grad[:, None, None] * predicted[:, :, None]
        to_reference = to_logits = None
        if ctx.needs_input_grad[0]:  # d KL(P||Q) / d z_p = p (log p/q - KL(P||Q))
            of_p = p * (ratio - (p * ratio).sum(-1, keepdim=True))
            if ctx.symmetric:
                of_p = (of_p + p - q) * 0.5
            to_reference = (rows * of_p).to(reference.dtype)
        if ctx.needs_input_grad[1]:  # d KL(P||Q) / d z_q = q - p
            of_q = q - p
            if ctx.symmetric:
                of_q = (of_q - q * (ratio - (q * ratio).sum(-1, keepdim=True))) * 0.5
            to_logits = (rows * of_q).to(logits.dtype)
        return to_reference, to_logits, None, None
