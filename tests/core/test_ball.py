"""Norms and projection: by hand, by a naive loop, and on arbitrary perturbations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from fairseq_adv.core.methods.simcut import kept_words
from fairseq_adv.core.players.ball import NORMS, SCOPES, Ball
from fairseq_adv.core.players.start import NOISES, Gaussian, Noise, Sphere, Uniform

# One sentence of two tokens, of lengths 5 and 12 (and 13 together), largest component 12.
SENTENCE = torch.tensor([[[3.0, 4.0], [12.0, 0.0]]])


@dataclass
class Place:
    """A site."""

    zero: Tensor
    mask: Tensor


def project(delta: Tensor, epsilon: float, norm: Any, scope: Any) -> Tensor:
    return Ball(epsilon=epsilon, norm=norm, norm_scope=scope).project(delta)


def norm_of(x: Tensor, norm: Any, scope: Any) -> Tensor:
    return Ball(epsilon=1.0, norm=norm, norm_scope=scope).norm_of(x)


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
    together = project(delta, 0.7, norm, scope)
    for i in range(4):
        alone = project(delta[i : i + 1], 0.7, norm, scope)
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_derivative_of_projection(norm: str, scope: str) -> None:
    delta = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    delta[0] *= 0.01  # inside the ball
    delta.requires_grad_()
    assert torch.autograd.gradcheck(lambda d: project(d, 0.5, norm, scope), delta)
    assert torch.autograd.gradcheck(lambda d: norm_of(d, norm, scope), delta)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_derivative_at_zero_is_finite(norm: str, scope: str) -> None:
    zero = torch.zeros(2, 3, 4, requires_grad=True)
    (norm_of(zero, norm, scope).sum() + project(zero, 0.0, norm, scope).sum()).backward()
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
    projected = project(delta, epsilon, norm, scope)
    for sentence in projected.tolist():
        groups = [[x for word in sentence for x in word]] if scope == "sentence" else sentence
        for group in groups:
            size = math.hypot(*group) if norm == "l2" else max(abs(x) for x in group)
            assert size <= epsilon * (1 + 1e-5) + 1e-30
    inside = norm_of(delta, norm, scope) <= epsilon
    unchanged = projected == delta
    assert (unchanged | ~inside).all(), "what is inside already stays where it is"


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("factor", [1.0, 1e-12, 1e-24, 1e-36])
def test_the_length_of_what_is_tiny(factor: float, scope: str) -> None:
    """Its squares vanish in float32: a ball of radius 0 would not hold it."""
    tiny = (factor * SENTENCE).requires_grad_()
    lengths = norm_of(tiny, "l2", scope)
    expected = [[[13.0]]] if scope == "sentence" else [[[5.0], [12.0]]]
    torch.testing.assert_close(lengths / factor, torch.tensor(expected))
    (slope,) = torch.autograd.grad(lengths.sum(), tiny)
    torch.testing.assert_close(slope, SENTENCE / torch.tensor(expected))
    assert not project(tiny, 0.0, "l2", scope).any()
    inside = project(tiny, 4 * factor, "l2", scope)
    torch.testing.assert_close(inside / factor, project(SENTENCE, 4.0, "l2", scope))


def test_noise_spares_padding_and_has_the_right_size() -> None:
    torch.manual_seed(1)
    non_pad = torch.tensor([[True] * 40 + [False] * 10] * 50)
    noise = Gaussian(init_std=0.3).draw(
        Place(torch.zeros(50, 50, 16), non_pad.unsqueeze(-1)),
        Ball(epsilon=1.0, norm="l2", norm_scope="sentence"),
    )
    assert not noise[~non_pad].any()
    assert float(noise[non_pad].std()) == pytest.approx(0.3, rel=0.02)
    assert float(noise[non_pad].mean()) == pytest.approx(0.0, abs=0.01)


PLACES = torch.tensor([[False, True, True, True], [False, False, False, True]])


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_its_distribution_and_no_ball(noise: Any) -> None:
    """By scipy's test of Kolmogorov and Smirnov."""
    torch.manual_seed(1)
    ball = Ball(epsilon=1e-3, norm="l2", norm_scope="sentence")
    place = Place(torch.zeros(2, 4, 2000), PLACES.unsqueeze(-1))
    drawn = Noise(noise=noise, noise_size=0.3).draw(place, ball)
    assert not drawn[~PLACES].any()
    kind = stats.norm(0, 0.3) if noise == "normal" else stats.uniform(-0.3, 0.6)
    assert stats.kstest(drawn[PLACES].flatten().numpy(), kind.cdf).pvalue > 0.01


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_a_random_direction_has_the_length_of_the_radius(norm: Any, scope: Any) -> None:
    """Where there is anything; and each component is as often up as down."""
    torch.manual_seed(1)
    ball = Ball(epsilon=0.5, norm=norm, norm_scope=scope)
    drawn = Sphere().draw(Place(torch.zeros(2, 4, 2000), PLACES.unsqueeze(-1)), ball)
    assert not drawn[~PLACES].any()
    found = ball.norm_of(drawn)
    expected = PLACES.any(1)[:, None, None] if scope == "sentence" else PLACES[..., None]
    torch.testing.assert_close(found, 0.5 * expected)
    assert abs(float((drawn[PLACES] > 0).float().mean()) - 0.5) < 0.02
    assert not Sphere().draw(Place(torch.zeros(1, 2, 3), torch.zeros(1, 2, 1) > 0), ball).any()


def test_directions_are_uniform() -> None:
    """In three dimensions each coordinate is (Archimedes)."""
    torch.manual_seed(1)
    ball = Ball(epsilon=2.0, norm="l2", norm_scope="token")
    place = Place(torch.zeros(4, 1000, 3), torch.ones(4, 1000, 1) > 0)
    drawn = Sphere().draw(place, ball)
    for i in range(3):
        assert stats.kstest(drawn[..., i].flatten().numpy(), stats.uniform(-2, 4).cdf).pvalue > 0.01


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scope", ["sentence", "token"])
def test_a_uniform_start_is_within_the_ball(norm: Any, scope: Any) -> None:
    """Each component as far as FreeLB's algorithm lets it go: U(-epsilon, epsilon) / sqrt(N)."""
    torch.manual_seed(1)
    non_pad = torch.tensor([[False, True, True, True], [False, False, False, True]])
    epsilon, size = 0.5, 4000
    ball = Ball(epsilon=epsilon, norm=norm, norm_scope=scope)
    start = Uniform().draw(Place(torch.zeros(2, 4, size), non_pad.unsqueeze(-1)), ball)
    assert not start[~non_pad].any()
    assert float(ball.norm_of(start).max()) <= epsilon
    words = (3, 1) if scope == "sentence" else (1, 1)
    for i in (0, 1):
        furthest = epsilon if norm == "linf" else epsilon / (words[i] * size) ** 0.5
        components = start[i][non_pad[i]].flatten() / furthest
        assert components.abs().max() <= 1 + 1e-6
        assert abs(float(components.mean())) < 0.05
        assert float(components.square().mean()) == pytest.approx(1 / 3, rel=0.05)


@pytest.mark.parametrize("left_padded", [True, False])
def test_words_are_cut_off_at_their_rate(left_padded: bool) -> None:
    """But for padding and what is spared, here the first word of each sentence."""
    torch.manual_seed(1)
    lengths = torch.tensor([9, 5, 1])
    non_pad = torch.arange(9) < lengths[:, None]
    if left_padded:
        non_pad = non_pad.flip(1)
    mask = non_pad.unsqueeze(-1)
    site: Any = SimpleNamespace(mask=mask, spared=(mask.cumsum(1) == 1) & mask)
    draws = torch.stack([kept_words(site, 0.3).squeeze(-1) for _ in range(2000)])
    assert draws[:, ~non_pad].all()
    for i in range(3):
        words = draws[:, i, non_pad[i]].double().mean(0)  # how often each word was kept
        assert words[0] == 1
        assert ((words[1:] - 0.7).abs() < 0.05).all()
    assert kept_words(site, 0.0).all()
    assert torch.equal(kept_words(site, 1.0) & mask, site.spared)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", SCOPES)
def test_components_may_be_masked_one_by_one(norm: Any, scope: Any) -> None:
    """As scores of attention are, of keys that are padding: what is not there counts nowhere."""
    torch.manual_seed(1)
    mask = torch.rand(3, 4, 2000) < torch.tensor([0.2, 0.5, 1.0])[:, None, None]
    ball = Ball(epsilon=0.5, norm=norm, norm_scope=scope)
    start = Uniform().draw(Place(torch.zeros(3, 4, 2000), mask), ball)
    assert not start[~mask].any() and float(ball.norm_of(start).max()) <= 0.5
    there = mask.sum((1, 2) if scope == "sentence" else 2, keepdim=True)
    furthest = 0.5 if norm == "linf" else 0.5 * there**-0.5
    assert float((start.abs() / furthest).max()) == pytest.approx(1, abs=0.01)
