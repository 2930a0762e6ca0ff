"""Divergences between two predictive distributions, in nats.

Computed in float32 or wider from log-probabilities, never as log(softmax), which overflows. Where
the two distributions are equal the derivative is zero exactly. All derivatives are written out:
with q = softmax(z), r = log p - log q, E the mean under q and half the sum for the symmetric one,

    KL(p || q) = sum p r:              d / d log p = p r,            d / dz = q - p
    symmetric  = sum (p - q) r / 2:    d / d log p = (p - q + p r) / 2,
                                       d / dz      = (q - p - q (r - E r)) / 2

and, for a cotangent s of d / dz, with c = s - E s,

    KL:         d / d log p = -s p,                d / dz = q c
    symmetric:  d / d log p = -(s p + q c) / 2,    d / dz = q (2 c - c (r - E r) + E[c r]) / 2.

Those in log p are up to multiples of p, which make no difference: log p comes out of a log-softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fairseq_adv.core.predictions import BackProjection, Chunk, Predictions, Term

Kind = Literal["kl", "symmetric-kl"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Divergence(Term):
    """Divergence of predictions, Q, from given ones, P, summed over rows.

    `kl` is KL(P || Q) (SALT, section 3.1, with P the clean predictions); `symmetric-kl` is
    (KL(P || Q) + KL(Q || P)) / 2, as in R-Drop and in SALT's released code.

    :param log_p: log-probabilities of P, N x V. Gradient flows into them if they require one.
    :param kind: of divergence.
    :param weights: N, of the rows, or one for all.
    """

    def __init__(self, log_p: Tensor, kind: Kind, weights: Tensor | float = 1.0) -> None:
        self.inputs = (log_p,)
        self._kind = kind
        self._weights = torch.as_tensor(weights, dtype=log_p.dtype, device=log_p.device)
        self._weights = self._weights.expand(log_p.size(0)).unsqueeze(1)
        self.value: Tensor
        """Without weights, after evaluation: a scalar."""

    def begin(self, zero: Tensor, wanted: Sequence[bool]) -> None:
        """See `Term`."""
        (log_p,) = self.inputs
        self._total = self.value = zero
        self._to_log_p = torch.empty_like(log_p) if wanted[0] else None

    def add(self, chunk: Chunk) -> None:
        """See `Term`."""
        log_p, weight = self.inputs[0][chunk.rows], self._weights[chunk.rows]
        p = log_p.exp()
        r = log_p - chunk.log_q
        if self._kind == "kl":
            self._count(weight, _dot(p, r))
            if self._to_log_p is not None:
                torch.mul(p, r, out=self._to_log_p[chunk.rows]).mul_(weight)
            if chunk.gradient is not None:
                chunk.gradient.addcmul_(p.sub_(chunk.q), weight, value=-1)
            return
        difference = p - chunk.q
        self._count(weight, 0.5 * _dot(difference, r))
        if self._to_log_p is not None:
            to_log_p = torch.addcmul(difference, p, r, out=self._to_log_p[chunk.rows])
            to_log_p.mul_(0.5 * weight)
        if chunk.gradient is not None:
            to_log_q = difference.addcmul_(chunk.q, r)  # with the sign changed
            chunk.gradient.addcmul_(to_log_q, weight, value=-0.5)

    def _count(self, weight: Tensor, rows: Tensor) -> None:
        self.value = self.value + rows.sum()
        self._total = self._total + torch.dot(weight.squeeze(1), rows)

    def total(self) -> Tensor:
        """See `Term`."""
        return self._total

    def gradients(self) -> Sequence[Tensor | None]:
        """See `Term`."""
        return (self._to_log_p,)


def gradient_of_divergence(
    predictions: Predictions, log_p: Tensor, kind: Kind, *, differentiable: bool
) -> Tensor:
    """The derivative of the divergence from P in the hidden states of predictions, N x C.

    In float32 or wider. Nothing goes back through the projection's weight.

    :param differentiable: in the predictions and in log_p; all log-probabilities of Q are kept
        for that.
    """
    if not differentiable:
        return _to_hidden(predictions, log_p.detach(), kind)
    result: Tensor = _Gradient.apply(  # type: ignore[no-untyped-call]
        kind, predictions.hidden, predictions.weight, predictions.bias, log_p
    )
    return result


@torch.no_grad()
def _to_hidden(predictions: Predictions, log_p: Tensor, kind: Kind) -> Tensor:
    back = BackProjection(predictions, hidden=True, weight=False, bias=False)
    assert back.hidden is not None, "asked for"
    for rows, log_q, _ in predictions.log_probs_in_chunks():
        back.add(rows, _to_logits(kind, log_p[rows], log_q)[0])
    return back.hidden


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kind: Kind,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        log_p: Tensor,
    ) -> Tensor:
        predictions = Predictions(hidden, weight, bias).keeping()
        ctx.kind = kind
        ctx.save_for_backward(hidden, weight, bias, log_p, predictions.log_probs)
        return _to_hidden(predictions, log_p, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, log_p, log_q = ctx.saved_tensors
        predictions = Predictions(hidden, weight, bias)
        back = BackProjection(predictions, *ctx.needs_input_grad[1:4])
        to_log_p = torch.empty_like(log_p) if ctx.needs_input_grad[4] else None
        space = predictions.workspace()
        for rows in predictions.chunks():
            to_logits, p, q, r = _to_logits(ctx.kind, log_p[rows], log_q[rows])
            s = predictions.project(grad, rows, space, linear=True)
            c = s - _dot(q, s).unsqueeze(1)
            if ctx.kind == "kl":
                if to_log_p is not None:
                    torch.mul(s, p, out=to_log_p[rows]).neg_()
                again = q * c
            else:
                qc = q * c
                if to_log_p is not None:
                    torch.addcmul(qc, s, p, out=to_log_p[rows]).mul_(-0.5)
                covariance = _dot(qc, r).unsqueeze(1)
                mean = _dot(q, r).unsqueeze(1)
                again = qc.mul_(1 + 0.5 * mean - 0.5 * r).add_(q * (0.5 * covariance))
            back.add(rows, again)
            back.add_weight(rows, to_logits, grad)
        dtypes = (None if t is None else t.dtype for t in (hidden, weight, bias))
        pairs = zip(back.gradients(), dtypes, strict=True)
        return None, *(None if g is None else g.to(dtype) for g, dtype in pairs), to_log_p


def _to_logits(kind: Kind, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """d / dz, and with it p, q and r: n x V each."""
    p, q, r = log_p.exp(), log_q.exp(), log_p - log_q
    if kind == "kl":
        return q - p, p, q, r
    to_logits = torch.addcmul(p, q, r - _dot(q, r).unsqueeze(1)).sub_(q).mul_(-0.5)
    return to_logits, p, q, r


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each row of a, n x V, with that of b: shape n."""
    return torch.bmm(a.unsqueeze(1), b.unsqueeze(2)).flatten()
