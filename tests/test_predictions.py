"""Losses and divergences of predictions: by hand, against autograd, and in every precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core import predictions as module
from fairseq_adv.core.divergence import KINDS, Divergence, Kind, gradient_of_divergence
from fairseq_adv.core.predictions import Predictions, Probabilities, evaluate
from fairseq_adv.core.task_loss import Inner, TaskLoss

N, C, V = 7, 3, 5

# P = (1/4, 3/4) and Q = (1/2, 1/2).
P, Q = torch.tensor([0.0, math.log(3.0)]), torch.tensor([5.0, 5.0])
KL_PQ = 1 / 4 * math.log(1 / 2) + 3 / 4 * math.log(3 / 2)
KL_QP = 1 / 2 * math.log(2) + 1 / 2 * math.log(2 / 3)

every_kind = pytest.mark.parametrize("kind", KINDS)
projected = pytest.mark.parametrize("projection", ["none", "weight", "bias"])
in_chunks = pytest.mark.parametrize("chunk", [1, 2 * V, 3 * V, 2**20])


def numbers(*size: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def predicted(projection: str, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Hidden states, and a projection: what makes `Predictions`."""
    parts = [(N, V)] if projection == "none" else [(N, C), (V, C), (V,)]
    parts = parts[: 2 if projection == "weight" else 3]
    return [numbers(*size, seed=i, dtype=dtype) for i, size in enumerate(parts)]


def clean_logits() -> Tensor:
    return numbers(N, V, seed=9)


def probabilities(logits: Tensor) -> Probabilities:
    log_p = logits.log_softmax(-1)
    return Probabilities(log_p.detach().exp(), log_p)


def naive_log_probs(hidden: Tensor, weight: Tensor | None = None, bias: Any = 0) -> Tensor:
    return (hidden if weight is None else hidden @ weight.t() + bias).log_softmax(-1)


def naive_divergence(log_p: Tensor, log_q: Tensor, kind: Kind) -> Tensor:
    """Of each row."""
    forward = (log_p.exp() * (log_p - log_q)).sum(-1)
    if kind == "kl":
        return forward
    return 0.5 * (forward + (log_q.exp() * (log_q - log_p)).sum(-1))


@pytest.mark.parametrize(
    ("kind", "expected"), [("kl", KL_PQ), ("symmetric-kl", (KL_PQ + KL_QP) / 2)]
)
def test_a_divergence_by_hand(kind: Kind, expected: float) -> None:
    clean = probabilities(P.double().expand(3, 2))
    term = Divergence(clean, kind, torch.tensor([1.0, 2.0, 0.0]))
    value = evaluate(Predictions(Q.double().expand(3, 2)), term)
    assert float(value) == pytest.approx(3 * expected)
    assert float(term.value) == pytest.approx(3 * expected)  # one row each
    assert float(evaluate(Predictions(Q.double().expand(3, 2)), Divergence(clean, kind))) == (
        pytest.approx(3 * expected)
    )


def test_a_loss_by_hand() -> None:
    term = TaskLoss(torch.tensor([1]), 0.1)
    value = evaluate(Predictions(P.double().expand(1, 2)), term)
    assert float(term.nll) == pytest.approx(math.log(4 / 3))
    assert float(value) == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


@in_chunks
@projected
@every_kind
def test_terms_and_their_derivatives_are_autograd_s(
    kind: Kind, projection: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever chunks, with kept log-probabilities or without."""
    monkeypatch.setitem(module._CHUNK, "cpu", chunk)
    parts, logits, weights = predicted(projection), clean_logits(), numbers(N, seed=5).detach()
    clean = probabilities(logits)
    words, cotangent = torch.arange(N) % V, numbers(N, V, seed=6).detach()

    log_q = naive_log_probs(*parts)
    target = torch.full((N, V), 0.2 / (V - 1), dtype=torch.float64)
    target[torch.arange(N), words] = 0.8
    divergences = naive_divergence(clean.log_p, log_q, kind)
    total = -(target * log_q).sum() + weights @ divergences + (cotangent * log_q).sum()
    expected = torch.autograd.grad(3 * total, [*parts, logits], retain_graph=True)

    for kept in (False, True):
        predictions = Predictions(*parts)
        task, divergence = TaskLoss(words, 0.2), Divergence(clean, kind, weights)
        value = evaluate(
            predictions.keeping() if kept else predictions, task, divergence, Inner(cotangent)
        )
        torch.testing.assert_close(value, total)
        torch.testing.assert_close(task.nll, -log_q[torch.arange(N), words].sum())
        torch.testing.assert_close(divergence.value, divergences.sum())
        found = torch.autograd.grad(3 * value, [*parts, logits], retain_graph=True)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@in_chunks
@projected
@every_kind
def test_the_gradient_of_a_divergence_and_its_derivatives(
    kind: Kind, projection: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._CHUNK, "cpu", chunk)
    parts, logits = predicted(projection), clean_logits()
    clean = probabilities(logits)

    def gradient(*tensors: Tensor) -> Tensor:
        predictions, clean = Predictions(*tensors[:-1]), probabilities(tensors[-1])
        return gradient_of_divergence(predictions, clean, kind, differentiable=True)

    value = naive_divergence(clean.log_p, naive_log_probs(*parts), kind).sum()
    (expected,) = torch.autograd.grad(value, parts[:1], create_graph=True)
    torch.testing.assert_close(gradient(*parts, logits), expected)
    constant = gradient_of_divergence(Predictions(*parts), clean, kind, differentiable=False)
    torch.testing.assert_close(constant, expected.detach())
    assert not constant.requires_grad

    cotangent = numbers(*expected.shape, seed=4).detach()
    inputs = [*parts, logits]
    theirs = torch.autograd.grad((expected * cotangent).sum(), inputs, materialize_grads=True)
    ours = torch.autograd.grad((gradient(*inputs) * cotangent).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(gradient, inputs)


@projected
def test_what_is_not_wanted_is_not_computed(projection: str) -> None:
    parts, clean = predicted(projection), probabilities(clean_logits())
    for wanted in range(len(parts)):
        given = [t if i == wanted else t.detach() for i, t in enumerate(parts)]
        term = Divergence(replace(clean, log_p=clean.log_p.detach()), "kl")
        (gradient,) = torch.autograd.grad(evaluate(Predictions(*given), term), given[wanted])
        assert gradient.shape == parts[wanted].shape and term.gradients() == (None,)
    with torch.no_grad():
        term = Divergence(clean, "kl")
        assert not evaluate(Predictions(*parts), term).requires_grad
        assert term.gradients() == (None,)


def test_a_value_is_differentiated_once() -> None:
    (hidden,) = predicted("none")
    value = evaluate(Predictions(hidden), TaskLoss(torch.arange(N) % V, 0.1))
    (gradient,) = torch.autograd.grad(value, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@every_kind
def test_equal_distributions_have_gradient_zero_exactly(kind: Kind) -> None:
    logits = torch.randn(12, 1000, generator=torch.Generator().manual_seed(1)) * 3
    predictions = Predictions(logits.requires_grad_()).keeping()
    assert predictions.kept is not None
    clean = replace(predictions.kept, log_p=predictions.kept.log_p.clone().requires_grad_())
    value = evaluate(predictions, Divergence(clean, kind))
    value.backward()  # type: ignore[no-untyped-call]
    assert not value.any() and not logits.grad.any()  # type: ignore[union-attr]
    assert not clean.log_p.grad.any()  # type: ignore[union-attr]
    for again in (predictions, Predictions(logits)):
        assert not gradient_of_divergence(again, clean, kind, differentiable=False).any()


@every_kind
def test_impossible_words_do_not_overflow(kind: Kind) -> None:
    """log(softmax) of these logits is -inf in float32, and so was the released code's loss."""
    clean = probabilities(torch.tensor([[0.0, 300.0]]))
    hidden = torch.tensor([[300.0, 0.0]], requires_grad=True)
    value = evaluate(Predictions(hidden), Divergence(clean, kind))
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value) == pytest.approx(300.0)
    assert hidden.grad is not None and hidden.grad.isfinite().all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@projected
def test_16_bits_are_compared_in_float32(projection: str, half: torch.dtype) -> None:
    """Of float16, gradients far below its smallest number come back right, if they are scaled."""
    parts = predicted(projection, half)
    wide = [t.detach().float().requires_grad_() for t in parts]
    tolerance = 2e-2 if half == torch.bfloat16 else 3e-3  # logits are rounded
    tiny = 2.0**-30

    def play(parts: list[Tensor], evaluated: Callable[[Predictions], Tensor]) -> list[Tensor]:
        return [g.float() for g in torch.autograd.grad(evaluated(Predictions(*parts)), parts)]

    def evaluated(predictions: Predictions) -> Tensor:
        clean = probabilities(clean_logits().detach().float())
        value = evaluate(predictions, Divergence(clean, "symmetric-kl", tiny))
        assert value.dtype == torch.float32
        return value / tiny

    for ours, theirs in zip(play(parts, evaluated), play(wide, evaluated), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_no_rows_are_no_loss() -> None:
    """A prefix that is ignored may be all that there is."""
    hidden = torch.zeros(0, C, requires_grad=True)
    weight = torch.ones(V, C, requires_grad=True)
    predictions = Predictions(hidden, weight).keeping()
    assert predictions.kept is not None and predictions.kept.p.shape == (0, V)
    terms = TaskLoss(torch.zeros(0, dtype=torch.long), 0.1), Divergence(predictions.kept, "kl")
    value = evaluate(Predictions(hidden, weight), *terms)
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value) == 0.0 and weight.grad is not None and not weight.grad.any()
