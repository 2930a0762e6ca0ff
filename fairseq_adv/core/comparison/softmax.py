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

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, linalg
from torch.autograd.function import once_differentiable

from fairseq_adv.core.comparison.chunks import Chunk, chunks
from fairseq_adv.core.comparison.comparison import Kind, refuse_one_output
from fairseq_adv.core.comparison.evaluation import Weighted
from fairseq_adv.core.comparison.predictions import Gradients, Kept, Logits, Predictions

_NARROW = 256
"""Channels of the hidden states up to which keeping probabilities is worth the memory.

From few channels logits are projected fast, and a softmax takes a share of that time: keeping them
saves a game on the small model of `benchmarks` 3 %, and on one with 512 channels nothing.
"""
_Q = "probabilities"


@dataclass(frozen=True)
class Softmax:
    """Divergence of distributions over V words; see `Comparison`.

    `kl` is KL(P || Q) (SALT, section 3.1, with P the given predictions); `symmetric-kl` is
    (KL(P || Q) + KL(Q || P)) / 2, as in R-Drop and in SALT's released code.
    """

    kind: Kind

    def keep(self, predictions: Predictions) -> Logits:
        """See `Comparison`. Probabilities are kept, too, where that saves time."""
        narrow = predictions.vectors.size(1) <= _NARROW
        return predictions.keep({_Q: _softmax} if narrow else {})

    def term(
        self, given: Predictions, predictions: Predictions, weights: Tensor | float = 1.0
    ) -> Divergence:
        """See `Comparison`."""
        return Divergence(given, predictions, self.kind, weights)

    def gradient(self, given: Logits, predictions: Predictions, *, differentiable: bool) -> Tensor:
        """See `Comparison`. With `differentiable`, the predictions' logits are kept."""
        refuse_one_output(predictions)
        if not differentiable:
            return _to_vectors(given, predictions, self.kind)
        kept = predictions.keep({}).kept
        assert kept is not None and given.kept is not None, "both have been kept"
        result: Tensor = _Gradient.apply(  # type: ignore[no-untyped-call]
            self.kind,
            type(predictions),
            kept.logits,
            given.kept.known.get(_Q),
            given.vectors,
            *predictions.parts,
        )
        return result


def _softmax(logits: Tensor, out: Tensor) -> Tensor:
    return torch.softmax(logits, -1, out=out)


def probabilities(chunk: Chunk) -> Tensor:
    """The rows' probabilities, n x V."""
    return chunk.once(_Q, lambda: _softmax(chunk.logits, chunk.space(_Q)))


def top(chunk: Chunk) -> tuple[Tensor, Tensor]:
    """The largest logit of each row, and the largest probability: n x 1 each.

    That logit less the logarithm of that probability is what any logit has above its
    log-probability.
    """
    return (
        chunk.once("top logit", lambda: chunk.logits.amax(-1, keepdim=True)),
        chunk.once("top probability", lambda: probabilities(chunk).amax(-1, keepdim=True)),
    )


class Divergence(Weighted):
    """Divergence of predictions, Q, from given ones, P, summed over rows; see `Softmax`.

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
        refuse_one_output(predictions)
        super().__init__(given, predictions, weights=weights)
        self._kind = kind

    def add(self, *chunks: Chunk) -> None:
        """See `Term`."""
        given, chunk = chunks
        p, q, weight = probabilities(given), probabilities(chunk), self.weights[chunk.rows]
        r = given.logits - chunk.logits  # up to a constant
        if self._kind == "kl":
            (y_top, p_top), (z_top, q_top) = top(given), top(chunk)
            constant = y_top - z_top - (p_top / q_top).log()
            half = torch.add(0.5 * constant, r, alpha=-0.5)  # (log q - log p) / 2
            mean = linalg.vecdot(p, half).mul_(-2).unsqueeze(1)
            difference = half.tanh_().mul_(p + q)  # q - p
            self.count(mean + difference.sum(-1, keepdim=True), weight)
            if chunk.wanted:
                chunk.add(difference.mul_(weight))
            if given.wanted:
                given.add(r.sub_(mean + constant).mul_(p).mul_(weight))
            return
        difference = p - q
        r.sub_(linalg.vecdot(q, r).unsqueeze(1))
        mean = linalg.vecdot(difference, r).unsqueeze(1)  # under p, now that it is 0 under q
        self.count(0.5 * mean, weight)
        if given.wanted:
            given.add(torch.addcmul(difference, p, r - mean).mul_(0.5 * weight))
        if chunk.wanted:
            chunk.add(difference.addcmul_(q, r).mul_(-0.5 * weight))


@torch.no_grad()
def _to_vectors(given: Predictions, predictions: Predictions, kind: Kind) -> Tensor:
    gradients = Gradients([predictions.vectors], predictions.dtype)
    back = predictions.back(gradients)
    for p, q in chunks((given, predictions)):
        back.add(q.rows, _to_logits(kind, p, q))
    assert back.vectors is not None, "it is what is asked for"
    return back.vectors


def _to_logits(kind: Kind, given: Chunk, chunk: Chunk) -> Tensor:
    """d / dz, n x V."""
    p, q = probabilities(given), probabilities(chunk)
    if kind == "kl":
        return q - p
    r = given.logits - chunk.logits
    r.sub_(linalg.vecdot(q, r).unsqueeze(1))
    return (p - q).addcmul_(q, r).mul_(-0.5)


def _known(logits: Tensor, q: Tensor | None, predictions: Predictions) -> Predictions:
    predictions.kept = Kept(logits, {} if q is None else {_Q: q})
    return predictions


class _Gradient(torch.autograd.Function):
    """The derivative of the divergence in Q's vectors, as a function of all that it depends on."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: Kind,
        predictions: type[Predictions],
        logits: Tensor,
        given_q: Tensor | None,
        given_logits: Tensor,
        *parts: Tensor,
    ) -> Tensor:
        ctx.kind, ctx.predictions = kind, predictions
        ctx.save_for_backward(logits, given_q, given_logits, *parts)
        given = _known(given_logits, given_q, Logits(given_logits))
        return _to_vectors(given, _known(logits, None, predictions(*parts)), kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, given_q, *saved = ctx.saved_tensors
        given_logits, *parts = saved
        predictions = _known(logits, None, ctx.predictions(*parts))
        given = _known(given_logits, given_q, Logits(given_logits))
        wanted = [t for t, w in zip(saved, ctx.needs_input_grad[4:], strict=True) if w]
        gradients = Gradients(wanted, predictions.dtype)
        back, to_given = predictions.back(gradients), given.back(gradients)
        space = predictions.workspace()
        for p_chunk, chunk in chunks((given, predictions)):
            rows, p, q = chunk.rows, probabilities(p_chunk), probabilities(chunk)
            s = predictions.logits(grad, rows, space[: q.size(0)], linear=True)
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
        found = [(gradients.of(t), t.dtype) for t in saved]
        return None, None, None, None, *(None if g is None else g.to(d) for g, d in found)
