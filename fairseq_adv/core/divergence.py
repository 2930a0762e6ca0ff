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
from torch import Tensor, linalg
from torch.autograd.function import once_differentiable

from fairseq_adv.core.predictions import BackProjection, Chunk, Predictions, Probabilities, Term

Kind = Literal["kl", "symmetric-kl"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Divergence(Term):
    """Divergence of predictions, Q, from given ones, P, summed over rows.

    `kl` is KL(P || Q) (SALT, section 3.1, with P the clean predictions); `symmetric-kl` is
    (KL(P || Q) + KL(Q || P)) / 2, as in R-Drop and in SALT's released code.

    :param given: P. Gradient flows into its `log_p` if that requires one.
    :param kind: of divergence.
    :param weights: N, of the rows, or one for all.
    """

    def __init__(self, given: Probabilities, kind: Kind, weights: Tensor | float = 1.0) -> None:
        log_p = given.log_p
        self.inputs = (log_p,)
        self._given = given
        self._kind = kind
        self._weights = torch.as_tensor(weights, dtype=log_p.dtype, device=log_p.device)
        self._weights = self._weights.expand(log_p.size(0)).unsqueeze(1)
        self.value: Tensor
        """Without weights, after evaluation: a scalar."""

    def begin(self, zero: Tensor, wanted: Sequence[bool]) -> None:
        """See `Term`."""
        self._total = self.value = zero
        self._to_log_p = torch.empty_like(self._given.p) if wanted[0] else None

    def add(self, chunk: Chunk, wanted: bool) -> None:
        """See `Term`."""
        p, log_p = self._given.p[chunk.rows], self._given.log_p[chunk.rows]
        q, weight = chunk.q, self._weights[chunk.rows]
        r = log_p - chunk.log_q
        if self._kind == "kl":
            pr = r.mul_(p)
            self._count(weight, pr.sum(-1))
            if self._to_log_p is not None:
                torch.mul(pr, weight, out=self._to_log_p[chunk.rows])
            if wanted:
                chunk.add((q - p).mul_(weight))
            return
        difference = p - q
        self._count(weight, 0.5 * linalg.vecdot(difference, r))
        if self._to_log_p is not None:
            to_log_p = torch.addcmul(difference, p, r, out=self._to_log_p[chunk.rows])
            to_log_p.mul_(0.5 * weight)
        if wanted:
            r.sub_(linalg.vecdot(q, r).unsqueeze(1))
            chunk.add(difference.addcmul_(q, r).mul_(-0.5 * weight))

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
    predictions: Predictions, given: Probabilities, kind: Kind, *, differentiable: bool
) -> Tensor:
    """The derivative of the divergence from P in the hidden states of predictions, N x C.

    In float32 or wider. Nothing goes back through the projection's weight.

    :param given: P.
    :param differentiable: in the predictions and in `given.log_p`; Q's probabilities are kept for
        that.
    """
    if not differentiable:
        return _to_hidden(predictions, given, kind)
    result: Tensor = _Gradient.apply(  # type: ignore[no-untyped-call]
        kind, given.p, predictions.hidden, predictions.weight, predictions.bias, given.log_p
    )
    return result


@torch.no_grad()
def _to_hidden(predictions: Predictions, given: Probabilities, kind: Kind) -> Tensor:
    back = BackProjection(predictions, hidden=True, weight=False, bias=False)
    assert back.hidden is not None, "asked for"
    for chunk in predictions.chunks():
        back.add(chunk.rows, _to_logits(kind, given, chunk))
    return back.hidden


def _to_logits(kind: Kind, given: Probabilities, chunk: Chunk) -> Tensor:
    """d / dz, n x V."""
    p, q = given.p[chunk.rows], chunk.q
    if kind == "kl":
        return q - p
    r = given.log_p[chunk.rows] - chunk.log_q
    r.sub_(linalg.vecdot(q, r).unsqueeze(1))
    return (p - q).addcmul_(q, r).mul_(-0.5)


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kind: Kind,
        p: Tensor,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        log_p: Tensor,
    ) -> Tensor:
        predictions = Predictions(hidden, weight, bias).keeping()
        kept = predictions.kept
        assert kept is not None, "just computed"
        ctx.kind = kind
        ctx.save_for_backward(hidden, weight, bias, p, log_p, kept.p, kept.log_p)
        return _to_hidden(predictions, Probabilities(p, log_p), kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, all_p, all_log_p, q, log_q = ctx.saved_tensors
        given = Probabilities(all_p, all_log_p)
        predictions = Predictions(hidden, weight, bias, Probabilities(q, log_q))
        back = BackProjection(predictions, *ctx.needs_input_grad[2:5])
        to_log_p = torch.empty_like(all_p) if ctx.needs_input_grad[5] else None
        space = predictions.workspace()
        for chunk in predictions.chunks():
            rows, p, q = chunk.rows, all_p[chunk.rows], chunk.q
            s = predictions.project(grad, rows, space, linear=True)
            c = s - linalg.vecdot(q, s).unsqueeze(1)
            qc = c.mul_(q)
            if ctx.kind == "kl":
                if to_log_p is not None:
                    torch.mul(s, p, out=to_log_p[rows]).neg_()
                again = qc
            else:
                if to_log_p is not None:
                    torch.addcmul(qc, s, p, out=to_log_p[rows]).mul_(-0.5)
                r = all_log_p[rows] - chunk.log_q
                covariance = linalg.vecdot(qc, r).unsqueeze(1)
                mean = linalg.vecdot(q, r).unsqueeze(1)
                again = qc.mul_(r.mul_(-0.5).add_(1 + 0.5 * mean)).addcmul_(q, 0.5 * covariance)
            back.add(rows, again)
            back.add_weight(rows, _to_logits(ctx.kind, given, chunk), grad)
        dtypes = (None if t is None else t.dtype for t in (hidden, weight, bias))
        pairs = zip(back.gradients(), dtypes, strict=True)
        gradients = (None if g is None else g.to(dtype) for g, dtype in pairs)
        return None, None, *gradients, to_log_p
