"""Divergences against values worked out by hand, and their derivatives against autograd's."""

from __future__ import annotations

import math

import pytest
import torch

from fairseq_adv.core.divergence import KINDS, Kind, log_probabilities
from fairseq_adv.core.divergence import divergence as of_log_probabilities


def divergence(
    p: torch.Tensor, q: torch.Tensor, predicted: torch.Tensor, kind: Kind
) -> torch.Tensor:
    """From logits."""
    return of_log_probabilities(log_probabilities(p), log_probabilities(q), predicted, kind)


# P = (1/4, 3/4) and Q = (1/2, 1/2).
P, Q = torch.tensor([0.0, math.log(3.0)]), torch.tensor([5.0, 5.0])
KL_PQ = 1 / 4 * math.log(1 / 2) + 3 / 4 * math.log(3 / 2)
KL_QP = 1 / 2 * math.log(2) + 1 / 2 * math.log(2 / 3)


@pytest.mark.parametrize(
    ("kind", "expected"), [("kl", KL_PQ), ("symmetric-kl", (KL_PQ + KL_QP) / 2)]
)
def test_by_hand(kind: str, expected: float) -> None:
    p, q = P.double().expand(2, 3, 2), Q.double().expand(2, 3, 2)
    predicted = torch.tensor([[True, True, True], [True, False, False]])
    value = divergence(p, q, predicted, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(value, torch.tensor([3 * expected, expected]).double())


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_of_first_and_second_order(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    p, q = (
        torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    predicted = torch.tensor([[True, True, True], [True, False, True]])

    def value(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return divergence(p, q, predicted, kind)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(value, (p, q))
    assert torch.autograd.gradgradcheck(value, (p, q))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_distributions_have_gradient_zero_exactly(kind: str) -> None:
    logits = torch.randn(3, 4, 1000, generator=torch.Generator().manual_seed(1)) * 3
    p, q = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = divergence(p, q, torch.ones(3, 4, dtype=torch.bool), kind)  # type: ignore[arg-type]
    value.sum().backward()
    assert not value.any() and not p.grad.any() and not q.grad.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_words_do_not_overflow(kind: str) -> None:
    """log(softmax) of these logits is -inf in float32, and so was the released code's loss."""
    p = torch.tensor([[[0.0, 300.0]]])
    q = torch.tensor([[[300.0, 0.0]]], requires_grad=True)
    value = divergence(p, q, torch.ones(1, 1, dtype=torch.bool), kind)  # type: ignore[arg-type]
    value.sum().backward()
    assert float(value) == pytest.approx(300.0)
    assert q.grad is not None and q.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_compared_in_float32(kind: str, half: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    p, q = (torch.randn(2, 3, 50, generator=generator).to(half).requires_grad_() for _ in range(2))
    predicted = torch.ones(2, 3, dtype=torch.bool)
    value = divergence(p, q, predicted, kind)  # type: ignore[arg-type]
    wide = divergence(p.float(), q.float(), predicted, kind)  # type: ignore[arg-type]
    assert value.dtype == torch.float32 and torch.equal(value, wide)
    value.sum().backward()
    assert q.grad is not None and q.grad.dtype == half


def test_padding_counts_for_nothing_even_if_it_is_not_finite() -> None:
    p, q = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    q[0, 1] = torch.nan
    value = divergence(p, q, torch.tensor([[True, False]]), "kl")
    assert torch.equal(value, torch.zeros(1))
