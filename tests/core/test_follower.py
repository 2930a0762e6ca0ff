"""The follower's steps against values worked out by hand and against torch's Adam."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from fairseq_adv.core.players.follower import AttentionLengths
from fairseq_adv.core.players.rule import ADAM_BETAS, State
from fairseq_adv.core.players.start import Sphere, Start, Uniform
from fairseq_adv.core.settings import InvalidSetting
from tests.support.players import follower


@dataclass
class Place:
    """A site."""

    zero: torch.Tensor
    mask: torch.Tensor


class Words:
    """The part of a game that a follower looks at: B x T words of C components on each side."""

    def __init__(self, non_pad: torch.Tensor, dim: int) -> None:
        place = Place(torch.zeros(*non_pad.shape, dim), non_pad.unsqueeze(-1))
        self.sites = {"source": place, "target": place}


SETTINGS: dict[str, Any] = {
    "sites": ("source",),
    "epsilon": 100.0,
    "norm": "l2",
    "norm_scope": "sentence",
    "init_std": 0.0,
    "ascent_steps": 1,
    "ascent_step_size": 2.0,
    "ascent_rule": "sgd",
}

# One sentence of two words and a padding, where a careless model leaks a gradient.
WORDS: Any = Words(torch.tensor([[True, True, False]]), 2)
GRADIENT = torch.tensor([[[3.0, 0.0], [0.0, -4.0], [7.0, 7.0]]])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [[6.0, 0.0], [0.0, -8.0]]),
        ({"epsilon": 5.0}, [[3.0, 0.0], [0.0, -4.0]]),  # of length 10 before
        ({"ascent_rule": "normalized"}, [[1.2, 0.0], [0.0, -1.6]]),
        ({"ascent_rule": "normalized", "norm_scope": "token"}, [[2.0, 0.0], [0.0, -2.0]]),
        ({"ascent_rule": "normalized", "norm": "linf"}, [[1.5, 0.0], [0.0, -2.0]]),
        ({"ascent_rule": "sign"}, [[2.0, 0.0], [0.0, -2.0]]),
        ({"ascent_rule": "adam"}, [[2.0, 0.0], [0.0, -2.0]]),
    ],
)
def test_one_step_by_hand(settings: dict[str, Any], expected: list[list[float]]) -> None:
    player = follower(**SETTINGS | settings)
    delta, state = player.begin(WORDS)
    moved, _ = player.move(WORDS, delta, {"source": GRADIENT}, state)
    torch.testing.assert_close(moved["source"][0, :2], torch.tensor(expected))
    assert not moved["source"][0, 2].any(), "padding was perturbed"


def test_adam_is_torchs() -> None:
    player = follower(**SETTINGS | {"ascent_rule": "adam", "ascent_step_size": 0.1})
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(1, 3, 2, generator=generator) for _ in range(4)]
    theirs = torch.nn.Parameter(torch.zeros(1, 2, 2))
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=ADAM_BETAS, eps=1e-8, maximize=True)
    delta, state = player.begin(WORDS)
    for gradient in gradients:
        theirs.grad = gradient[:, :2].clone()
        optimizer.step()
        delta, state = player.move(WORDS, delta, {"source": gradient}, state)
    torch.testing.assert_close(delta["source"][:, :2], theirs.data)


@pytest.mark.parametrize("sites", [("source",), ("target",), ("source", "target")])
def test_each_site_for_itself(sites: tuple[str, ...]) -> None:
    delta, _ = follower(**SETTINGS | {"sites": sites, "init_std": 1.0}).begin(WORDS)
    assert tuple(delta) == sites


def test_a_follower_that_only_starts_is_in_its_ball_and_without_one_anywhere() -> None:
    torch.manual_seed(1)
    settings = SETTINGS | {"ascent_steps": 0, "init_std": 3.0}
    delta, _ = follower(**settings | {"epsilon": 0.5}).begin(WORDS)
    assert float(delta["source"].norm()) == pytest.approx(0.5)
    torch.manual_seed(1)
    free, _ = follower(**settings | {"epsilon": float("inf")}).begin(WORDS)
    torch.testing.assert_close(delta["source"], 0.5 * free["source"] / free["source"].norm())
    moved, _ = follower(**settings | {"epsilon": float("inf")}).move(
        WORDS, free, {"source": 1e6 * GRADIENT}, State(0, {})
    )
    assert float(moved["source"].norm()) > 1e6


@pytest.mark.parametrize("start", [Sphere(), Uniform()])
def test_what_is_measured_by_the_radius_needs_one(start: Start) -> None:
    infinite = SETTINGS | {"epsilon": float("inf")}
    with pytest.raises(InvalidSetting, match=r"^epsilon is inf; allowed: a number from 0 up$"):
        replace(follower(**infinite), start=start)
    lengths = AttentionLengths(attention_epsilon=float("inf"), attention_step_size=None)
    both = follower(**SETTINGS | {"sites": ("source", "attention")})
    with pytest.raises(InvalidSetting, match=r"^attention_epsilon is inf; allowed"):
        replace(both, start=start, attention=lengths)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", -0.1),
        ("epsilon", float("nan")),
        ("norm", "l1"),
        ("norm_scope", "word"),
        ("init_std", -1.0),
        ("ascent_steps", -1),
        ("ascent_step_size", float("inf")),
        ("ascent_rule", "descent"),
    ],
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InvalidSetting) as error:
        follower(**SETTINGS | {name: value})
    assert error.value.name == name
    assert name in str(error.value) and repr(value) in str(error.value)
