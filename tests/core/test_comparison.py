"""Losses and divergences of predictions: by hand, against autograd, and in every precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fairseq_adv.core.comparison import chunks, dense
from fairseq_adv.core.comparison import predictions as module
from fairseq_adv.core.comparison.comparison import KINDS, Comparison, Kind, OneOutput
from fairseq_adv.core.comparison.evaluation import Backflow, evaluate
from fairseq_adv.core.comparison.predictions import Logits, Predictions, Projected
from fairseq_adv.core.comparison.softmax import Divergence, Softmax
from fairseq_adv.core.comparison.task_loss import TaskLoss

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


def given_by(*parts: Tensor) -> Predictions:
    """Predictions of logits, or of hidden states and a projection."""
    return Logits(*parts) if len(parts) == 1 else Projected(*parts)


COMPARISONS: dict[str, Callable[[Kind], Comparison]] = {
    "softmax": Softmax,
    "dense": dense.divergence,
}
in_both_ways = pytest.mark.parametrize("way", COMPARISONS)


def naive_logits(hidden: Tensor, weight: Tensor | None = None, bias: Any = 0) -> Tensor:
    return hidden if weight is None else hidden @ weight.t() + bias


def naive_divergence(y: Tensor, z: Tensor, kind: Kind) -> Tensor:
    """Of each row."""
    log_p, log_q = y.log_softmax(-1), z.log_softmax(-1)
    forward = (log_p.exp() * (log_p - log_q)).sum(-1)
    if kind == "kl":
        return forward
    return 0.5 * (forward + (log_q.exp() * (log_q - log_p)).sum(-1))


@pytest.mark.parametrize(
    ("kind", "expected"), [("kl", KL_PQ), ("symmetric-kl", (KL_PQ + KL_QP) / 2)]
)
@in_both_ways
def test_a_divergence_by_hand(way: str, kind: Kind, expected: float) -> None:
    p, q = (Logits(logits.double().expand(3, 2)) for logits in (P, Q))
    compare = COMPARISONS[way](kind)
    term = compare.term(p, q, torch.tensor([1.0, 2.0, 0.0]))
    assert float(evaluate(term)) == pytest.approx(3 * expected)
    assert float(term.value) == pytest.approx(3 * expected)  # one row each
    assert float(evaluate(compare.term(p, q))) == pytest.approx(3 * expected)


def test_a_loss_by_hand() -> None:
    term = TaskLoss(Logits(P.double().expand(1, 2)), torch.tensor([1]), 0.1)
    value = evaluate(term)
    assert float(term.nll) == pytest.approx(math.log(4 / 3))
    assert float(value) == pytest.approx(0.9 * math.log(4 / 3) + 0.1 * math.log(4))


@in_chunks
@projected
@every_kind
@in_both_ways
@pytest.mark.parametrize("kept", [False, True])
def test_terms_and_their_derivatives_are_autograd_s(
    kind: Kind, projection: str, chunk: int, way: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two passes at once that share a projection, in whatever chunks."""
    monkeypatch.setitem(module._CHUNK, "cpu", chunk)
    parts, weights = predicted(projection), numbers(N, seed=5).detach()
    other = numbers(*parts[0].shape, seed=8)
    words, to_logits = torch.arange(N) % V, numbers(N, V, seed=6).detach()

    z, y = naive_logits(*parts), naive_logits(other, *parts[1:])
    target = torch.full((N, V), 0.2 / (V - 1), dtype=torch.float64)
    target[torch.arange(N), words] = 0.8
    losses = [-(target * logits.log_softmax(-1)).sum() for logits in (y, z)]
    divergences = naive_divergence(y, z, kind)
    total = losses[0] + losses[1] + weights @ divergences
    sent = (to_logits * y).sum()
    expected = torch.autograd.grad(3 * (total + sent), [*parts, other], retain_graph=True)

    p, q = given_by(other, *parts[1:]), given_by(*parts)
    compare = COMPARISONS[way](kind)
    if kept:
        compare.keep(p)
        compare.keep(q)
    first, second = TaskLoss(p, words, 0.2), TaskLoss(q, words, 0.2)
    divergence = compare.term(p, q, weights)
    value = evaluate(first, Backflow(p, to_logits), divergence, second)
    torch.testing.assert_close(value, total)
    torch.testing.assert_close(first.value, losses[0])
    torch.testing.assert_close(second.nll, -z.log_softmax(-1)[torch.arange(N), words].sum())
    torch.testing.assert_close(divergence.value, divergences.sum())
    found = torch.autograd.grad(3 * value, [*parts, other])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_is_sent_back_is_not_overwritten() -> None:
    (hidden,), sent = predicted("none"), numbers(N, V, seed=6).detach()
    predictions, before = Logits(hidden), sent.clone()
    terms = Backflow(predictions, sent), TaskLoss(predictions, torch.arange(N) % V, 0.1)
    evaluate(*terms)
    assert torch.equal(sent, before)


@in_chunks
@projected
@every_kind
@in_both_ways
def test_the_gradient_of_a_divergence_and_its_derivatives(
    way: str, kind: Kind, projection: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._CHUNK, "cpu", chunk)
    parts, logits = predicted(projection), clean_logits()
    compare = COMPARISONS[way](kind)

    def kept(logits: Tensor) -> Logits:
        given = Logits(logits)
        compare.keep(given)
        return given

    def gradient(*tensors: Tensor) -> Tensor:
        given, predictions = kept(tensors[-1]), given_by(*tensors[:-1])
        return compare.gradient(given, predictions, differentiable=True)

    value = naive_divergence(logits, naive_logits(*parts), kind).sum()
    (expected,) = torch.autograd.grad(value, parts[:1], create_graph=True)
    torch.testing.assert_close(gradient(*parts, logits), expected)
    constant = compare.gradient(kept(logits), given_by(*parts), differentiable=False)
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
def test_what_is_not_wanted_is_not_computed(
    projection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, clean = predicted(projection), Logits(clean_logits().detach())
    asked, add = [], chunks.Chunk.add

    def noted(chunk: chunks.Chunk, to_logits: Tensor) -> None:
        asked.append(chunk.logits)
        add(chunk, to_logits)

    monkeypatch.setattr(chunks.Chunk, "add", noted)
    for wanted in range(len(parts)):
        given = [t if i == wanted else t.detach() for i, t in enumerate(parts)]
        value = evaluate(Divergence(clean, given_by(*given), "symmetric-kl"))
        (gradient,) = torch.autograd.grad(value, given[wanted])
        assert gradient.shape == parts[wanted].shape
    assert len(asked) == len(parts), "and nothing of what is constant"
    with torch.no_grad():
        term = Divergence(Logits(clean_logits()), given_by(*parts), "kl")
        assert not evaluate(term).requires_grad
    assert len(asked) == len(parts)


def test_a_value_is_differentiated_once() -> None:
    (hidden,) = predicted("none")
    value = evaluate(TaskLoss(Logits(hidden), torch.arange(N) % V, 0.1))
    (gradient,) = torch.autograd.grad(value, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@every_kind
def test_equal_distributions_have_gradient_zero_exactly(kind: Kind) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(12, 16, generator=generator)
    weight = torch.randn(1000, 16, generator=generator)
    compare = Softmax(kind)
    clean = compare.keep(Projected(hidden, weight))
    clean.vectors.requires_grad_()
    hidden.requires_grad_()
    value = evaluate(compare.term(clean, Projected(hidden, weight)))
    value.backward()  # type: ignore[no-untyped-call]
    assert not value.any()
    for tensor in (hidden, clean.vectors):
        assert tensor.grad is not None and not tensor.grad.any()
    again = Projected(hidden, weight)
    assert not compare.gradient(clean, again, differentiable=False).any()


@every_kind
@in_both_ways
def test_impossible_words_do_not_overflow(way: str, kind: Kind) -> None:
    """log(softmax) of these logits is -inf in float32, and so was the released code's loss."""
    clean = Logits(torch.tensor([[0.0, 300.0]], requires_grad=True))
    hidden = torch.tensor([[300.0, 0.0]], requires_grad=True)
    value = evaluate(COMPARISONS[way](kind).term(clean, Logits(hidden)))
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value) == pytest.approx(300.0)
    for tensor in (hidden, clean.vectors):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


@every_kind
@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("difference", [1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("spread", [0.1, 3.0, 6.0])
def test_small_divergences_in_float32(
    kind: Kind, offset: float, difference: float, spread: float
) -> None:
    """Early in an ascent two predictions differ by little, whatever their logits have in common.

    A word's difference d is known to a few roundings of probabilities, 2^-24 each, and its part of
    the divergence is as d^2: no row may be off by more than that amounts to.
    """
    y = numbers(50, 1000, seed=1).detach() * spread + offset
    z = y + difference * numbers(50, 1000, seed=2).detach() - offset / 2
    y, z = y.float(), z.float()
    tolerance = 32 * 2.0**-24 * (1 + 1 / difference)
    for i in range(len(y)):
        p, q = (Logits(logits[i : i + 1]) for logits in (y, z))
        expected = naive_divergence(y[i].double(), z[i].double(), kind)
        found = evaluate(Divergence(p, q, kind)).double()
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@projected
def test_16_bits_are_compared_in_float32(projection: str, half: torch.dtype) -> None:
    """Of float16, gradients far below its smallest number come back right, if they are scaled."""
    parts = predicted(projection, half)
    wide = [t.detach().float().requires_grad_() for t in parts]
    tolerance = 2e-2 if half == torch.bfloat16 else 3e-3  # logits are rounded
    tiny = 2.0**-30

    def play(parts: list[Tensor], evaluated: Callable[[Predictions], Tensor]) -> list[Tensor]:
        return [g.float() for g in torch.autograd.grad(evaluated(given_by(*parts)), parts)]

    def evaluated(predictions: Predictions) -> Tensor:
        clean = Logits(clean_logits().detach().float())
        value = evaluate(Divergence(clean, predictions, "symmetric-kl", tiny))
        assert value.dtype == torch.float32
        return value / tiny

    for ours, theirs in zip(play(parts, evaluated), play(wide, evaluated), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_no_rows_are_no_loss() -> None:
    """A prefix that is ignored may be all that there is."""
    hidden = torch.zeros(0, C, requires_grad=True)
    weight = torch.ones(V, C, requires_grad=True)
    predictions = Projected(hidden, weight)
    clean = Softmax("kl").keep(predictions)
    assert clean.vectors.shape == (0, V)
    words = torch.zeros(0, dtype=torch.long)
    value = evaluate(TaskLoss(predictions, words, 0.1), Divergence(clean, predictions, "kl"))
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value) == 0.0 and weight.grad is not None and not weight.grad.any()


@every_kind
@in_both_ways
def test_a_softmax_of_one_output_is_refused(way: str, kind: Kind) -> None:
    """It is 1 in every pass: the divergence would be 0 without a word."""
    given, predictions = Logits(numbers(N, 1)), Projected(numbers(N, C), numbers(1, C))
    compare = COMPARISONS[way](kind)
    with pytest.raises(OneOutput):
        compare.term(given, predictions)
    with pytest.raises(OneOutput):
        compare.gradient(given, predictions, differentiable=False)
    with pytest.raises(OneOutput):
        TaskLoss(predictions, torch.zeros(N, dtype=torch.long), 0.1)


def test_any_distance_can_be_compared() -> None:
    """Of numbers, say: sum (z - y)^2, whose derivatives are 2 (z - y) and minus that, then 2."""
    compare = dense.Dense(lambda y, z: (z - y).square().sum(-1))
    y, hidden, weight = numbers(N, 1, seed=2), numbers(N, C, seed=3), numbers(1, C, seed=4)
    given, predictions = Logits(y), Projected(hidden, weight)
    value = evaluate(compare.term(given, predictions))
    z = hidden @ weight.t()
    torch.testing.assert_close(value, (z - y).square().sum())
    found = torch.autograd.grad(value, [y, hidden, weight])
    expected = torch.autograd.grad((z - y).square().sum(), [y, hidden, weight], create_graph=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach())
    gradient = compare.gradient(given, predictions, differentiable=True)
    torch.testing.assert_close(gradient, expected[1])
    second = torch.autograd.grad(gradient.square().sum(), [y, hidden, weight])
    wanted = torch.autograd.grad(expected[1].square().sum(), [y, hidden, weight])
    for ours, theirs in zip(second, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@every_kind
@projected
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_the_gradient_of_a_small_head_in_half_precision_is_in_float32(
    half: torch.dtype, projection: str, kind: Kind
) -> None:
    """Where in 16 bits it would vanish: of rows that hardly differ from the given ones."""
    compare, parts = dense.divergence(kind), [part.detach() for part in predicted(projection, half)]
    near = given_by(*parts).keep({}).vectors + 1e-4 * numbers(N, V, seed=7).detach().float()
    found = compare.gradient(Logits(near), given_by(*parts), differentiable=False)
    wide = given_by(*(part.double() for part in parts))
    expected = compare.gradient(Logits(near.double()), wide, differentiable=False)
    assert found.dtype == torch.float32 and found.abs().max() < 1e-2
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-6)


def test_a_distance_may_leave_one_side_out() -> None:
    compare = dense.Dense(lambda y, z: (z - y.detach()).square().sum(-1))
    y, z = numbers(N, 2, seed=2), numbers(N, 2, seed=3)
    value = evaluate(compare.term(Logits(y), Logits(z)))
    to_y, to_z = torch.autograd.grad(value, [y, z])
    assert not to_y.any()
    torch.testing.assert_close(to_z, 2 * (z - y).detach())
