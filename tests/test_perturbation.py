"""Norms and projection: by hand, by a naive loop, and on arbitrary perturbations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_adv.core.perturbation import NORMS, SCOPES, gaussian, norm_of, project

# One sentence of two tokens, of lengths 5 and 12 (and 13 together), largest component 12.
SENTENCE = torch.tensor([[[3.0, 4.0], [12.0, 0.0]]])


def test_norms_by_hand() -> None:
    assert norm_of(SENTENCE, "l2", "sentence").tolist() == [[[13.0]]]
    assert norm_of(SENTENCE, "l2", "token").tolist() == [[[5.0], [12.0]]]
    assert norm_of(SENTENCE, "linf", "sentence").tolist() == [[[12.0]]]
    assert norm_of(SENTENCE, "linf", "token").tolist() == [[[4.0], [12.0]]]


def test_projection_by_hand() -> None:
    torch.testing.assert_close(project(SENTENCE, 6.5, "l2", "sentence"), SENTENCE / 2)
    torch.testing.assert_close(
        project(SENTENCE, 10.0, "l2", "token"), torch.tensor([[[3.0, 4.0], [10.0, 0.0]]])
    )
    for scope in SCOPES:
        torch.testing.assert_close(
            project(SENTENCE, 3.5, "linf", scope), torch.tensor([[[3.0, 3.5], [3.5, 0.0]]])
        )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_sentences_have_balls_of_their_own(norm: str, scope: str) -> None:
    generator = torch.Generator().manual_seed(1)
    delta = torch.randn(4, 3, 5, generator=generator)
    together = project(delta, 0.7, norm, scope)  # type: ignore[arg-type]
    for i in range(4):
        alone = project(delta[i : i + 1], 0.7, norm, scope)  # type: ignore[arg-type]
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_derivative_of_projection(norm: str, scope: str) -> None:
    delta = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    delta[0] *= 0.01  # inside the ball
    delta.requires_grad_()
    assert torch.autograd.gradcheck(lambda d: project(d, 0.5, norm, scope), delta)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda d: norm_of(d, norm, scope), delta)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_derivative_at_zero_is_finite(norm: str, scope: str) -> None:
    zero = torch.zeros(2, 3, 4, requires_grad=True)
    (norm_of(zero, norm, scope).sum() + project(zero, 0.0, norm, scope).sum()).backward()  # type: ignore[arg-type]
    assert zero.grad is not None and zero.grad.isfinite().all()


@given(
    values=st.lists(
        st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=12, max_size=12
    ),
    epsilon=st.floats(0, 1e3),
    norm=st.sampled_from(NORMS),
    scope=st.sampled_from(SCOPES),
)
def test_a_perturbation_never_leaves_its_ball(
    values: list[float], epsilon: float, norm: str, scope: str
) -> None:
    delta = torch.tensor(values).view(2, 3, 2)
    projected = project(delta, epsilon, norm, scope)  # type: ignore[arg-type]
    for sentence in projected.tolist():
        groups = [[x for word in sentence for x in word]] if scope == "sentence" else sentence
        for group in groups:
            size = math.hypot(*group) if norm == "l2" else max(abs(x) for x in group)
            assert size <= epsilon * (1 + 1e-5) + 1e-30
    inside = norm_of(delta, norm, scope) <= epsilon  # type: ignore[arg-type]
    unchanged = projected == delta
    assert (unchanged | ~inside).all(), "what is inside already stays where it is"


def test_noise_spares_padding_and_has_the_right_size() -> None:
    torch.manual_seed(1)
    non_pad = torch.tensor([[True] * 40 + [False] * 10] * 50)
    noise = gaussian(torch.zeros(50, 50, 16), non_pad, 0.3)
    assert not noise[~non_pad].any()
    assert float(noise[non_pad].std()) == pytest.approx(0.3, rel=0.02)
    assert float(noise[non_pad].mean()) == pytest.approx(0.0, abs=0.01)
