"""Divergences between two predictive distributions, in nats.

Computed in float32 or wider from logits, never as log(softmax), which overflows. Where the two
distributions are equal the derivatives are zero exactly. All of them are written out. With logits
y of p and z of q, r = log p - log q, E the mean under p or q, E_p or E_q, and half the sum for the
symmetric one,

    KL(p || q) = E_p r:                 d / dy = p (r - E_p r),
                                        d / dz = q - p
    symmetric  = sum (p - q) r / 2:     d / dy = (p - q + p (r - E_p r)) / 2,
                                        d / dz = (q - p - q (r - E_q r)) / 2

and, for a cotangent s of d / dz, with c = s - E_q s,

    KL:         d / dy = -p (s - E_p s),
                d / dz = q c
    symmetric:  d / dy = -(p (s - E_p s) + q c) / 2,
                d / dz = q (2 c - c (r - E_q r) + E_q[c r]) / 2.

But for the value of KL, a constant in r makes no difference: y - z is as good.

Small divergences are far smaller than the rounding of 1: E_p r of KL is a sum of terms of both
signs that nearly cancel. With q - p = -(p + q) tanh(r / 2), which is exact for small r too,

    KL(p || q) = sum (p r + q - p)

has none but positive terms, and what is rounded in the normalisers of p and q, a constant in r,
changes it in second order only. The symmetric one is of that kind as it stands: with p - q taken
from probabilities each term is off by no more than the rounding of the logits costs.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, linalg
from torch.autograd.function import once_differentiable

from fairseq_adv.core.predictions import BackProjection, Chunk, Predictions, Term, chunks

Kind = Literal["kl", "symmetric-kl"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Divergence(Term):
    """Divergence of predictions, Q, from given ones, P, summed over rows.

    `kl` is KL(P || Q) (SALT, section 3.1, with P the clean predictions); `symmetric-kl` is
    (KL(P || Q) + KL(Q || P)) / 2, as in R-Drop and in SALT's released code.

    :param given: P.
    :param predictions: Q.
    :param kind: of divergence.
    :param weights: N, of the rows, or one for all.
    """

    def __init__(
        self,
        given: Predictions,
        predictions: Predictions,
        kind: Kind,
        weights: Tensor | float = 1.0,
    ) -> None:
        self.of = (given, predictions)
        self._kind = kind
        hidden = predictions.hidden
        weights = torch.as_tensor(weights, dtype=predictions.dtype, device=hidden.device)
        self._weights = weights.expand(hidden.size(0)).unsqueeze(1)

    def begin(self, zero: Tensor) -> None:
        """See `Term`."""
        self.value = self._total = zero

    def add(self, *chunks: Chunk) -> None:
        """See `Term`."""
        given, chunk = chunks
        p, q, weight = given.q, chunk.q, self._weights[chunk.rows]
        r = given.logits - chunk.logits  # up to a constant
        if self._kind == "kl":
            (y_top, p_top), (z_top, q_top) = given.top, chunk.top
            constant = y_top - z_top - (p_top / q_top).log()
            half = torch.add(0.5 * constant, r, alpha=-0.5)  # (log q - log p) / 2
            mean = linalg.vecdot(p, half).mul_(-2).unsqueeze(1)
            difference = half.tanh_().mul_(p + q)  # q - p
            self._count(weight, mean + difference.sum(-1, keepdim=True))
            if chunk.wanted:
                chunk.add(difference.mul_(weight))
            if given.wanted:
                given.add(r.sub_(mean + constant).mul_(p).mul_(weight))
            return
        difference = p - q
        r.sub_(linalg.vecdot(q, r).unsqueeze(1))
        mean = linalg.vecdot(difference, r).unsqueeze(1)  # under p, now that it is 0 under q
        self._count(weight, 0.5 * mean)
        if given.wanted:
            given.add(torch.addcmul(difference, p, r - mean).mul_(0.5 * weight))
        if chunk.wanted:
            chunk.add(difference.addcmul_(q, r).mul_(-0.5 * weight))

    def _count(self, weight: Tensor, rows: Tensor) -> None:
        self.value = self.value + rows.sum()
        self._total = self._total + (weight * rows).sum()

    def total(self) -> Tensor:
        """See `Term`."""
        return self._total


def gradient_of_divergence(
    given: Predictions, predictions: Predictions, kind: Kind, *, differentiable: bool
) -> Tensor:
    """The derivative of the divergence in the hidden states of predictions, N x C.

    In float32 or wider. Nothing goes back through the projection's weight.

    :param given: P, which has no projection.
    :param predictions: Q.
    :param differentiable: in both; Q's logits are kept for that.
    """
    if not differentiable:
        return _to_hidden(given, predictions, kind)
    predictions.keep(probabilities=False)
    result: Tensor = _Gradient.apply(  # type: ignore[no-untyped-call]
        kind,
        given.q,
        predictions.logits,
        predictions.hidden,
        predictions.weight,
        predictions.bias,
        given.hidden,
    )
    return result


@torch.no_grad()
def _to_hidden(given: Predictions, predictions: Predictions, kind: Kind) -> Tensor:
    hidden = torch.zeros_like(predictions.hidden, dtype=predictions.dtype)
    back = BackProjection(predictions, {id(predictions.hidden): hidden})
    for p, q in chunks((given, predictions)):
        back.add(q.rows, _to_logits(kind, p, q))
    return hidden


def _to_logits(kind: Kind, given: Chunk, chunk: Chunk) -> Tensor:
    """d / dz, n x V."""
    p, q = given.q, chunk.q
    if kind == "kl":
        return q - p
    r = given.logits - chunk.logits
    r.sub_(linalg.vecdot(q, r).unsqueeze(1))
    return (p - q).addcmul_(q, r).mul_(-0.5)


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kind: Kind,
        given_q: Tensor | None,
        logits: Tensor,
        hidden: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        given_logits: Tensor,
    ) -> Tensor:
        ctx.kind = kind
        ctx.save_for_backward(given_q, logits, hidden, weight, bias, given_logits)
        given = Predictions(given_logits, q=given_q)
        return _to_hidden(given, Predictions(hidden, weight, bias, logits), kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given_q, logits, *saved = ctx.saved_tensors
        hidden, weight, bias, given_logits = saved
        predictions = Predictions(hidden, weight, bias, logits)
        given = Predictions(given_logits, q=given_q)
        gradients = {
            id(t): torch.zeros_like(t, dtype=predictions.dtype)
            for t, wanted in zip(saved, ctx.needs_input_grad[3:], strict=True)
            if wanted
        }
        back, to_given = BackProjection(predictions, gradients), BackProjection(given, gradients)
        space = predictions.workspace()
        for p_chunk, chunk in chunks((given, predictions)):
            rows, p, q = chunk.rows, p_chunk.q, chunk.q
            s = predictions.project(grad, rows, space[: q.size(0)], linear=True)
            qc = (s - linalg.vecdot(q, s).unsqueeze(1)).mul_(q)
            if to_given.wanted:
                again = (s - linalg.vecdot(p, s).unsqueeze(1)).mul_(p).neg_()
                to_given.add(rows, again if ctx.kind == "kl" else again.sub_(qc).mul_(0.5))
            if ctx.kind == "kl":
                again = qc
            else:
                r = p_chunk.logits - chunk.logits
                covariance = linalg.vecdot(qc, r).unsqueeze(1)
                mean = linalg.vecdot(q, r).unsqueeze(1)
                again = qc.mul_(r.mul_(-0.5).add_(1 + 0.5 * mean)).addcmul_(q, 0.5 * covariance)
            back.add(rows, again)
            back.add_weight(rows, _to_logits(ctx.kind, p_chunk, chunk), grad)
        found = (None if t is None else gradients.get(id(t)) for t in saved)
        pairs = zip(found, saved, strict=True)
        return None, None, None, *(None if g is None else g.to(t.dtype) for g, t in pairs)
