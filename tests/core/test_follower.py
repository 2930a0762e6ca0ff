"""The follower's steps against values worked out by hand and against torch's Adam."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fairseq_adv.core.follower import ADAM_BETAS, Follower
from fairseq_adv.core.game import InvalidSetting


class Words:
    """The part of a game that a follower looks at: B x T words of C components on each side."""

    def __init__(self, non_pad: torch.Tensor, dim: int) -> None:
        self._non_pad, self.dim = non_pad, dim

    def non_pad(self, side: str) -> torch.Tensor:
        return self._non_pad

    def zero_delta(self, side: str) -> torch.Tensor:
        return torch.zeros(*self._non_pad.shape, self.dim)


SETTINGS: dict[str, Any] = {
    "perturb": "source",
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
    follower = Follower(**SETTINGS | settings)
    delta, state = follower.start(WORDS)
    moved, _ = follower.move(WORDS, delta, {"source": GRADIENT}, state)
    torch.testing.assert_close(moved["source"][0, :2], torch.tensor(expected))
    assert not moved["source"][0, 2].any(), "padding was perturbed"


def test_adam_is_torchs() -> None:
    follower = Follower(**SETTINGS | {"ascent_rule": "adam", "ascent_step_size": 0.1})
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(1, 3, 2, generator=generator) for _ in range(4)]
    theirs = torch.nn.Parameter(torch.zeros(1, 2, 2))
    optimizer = torch.optim.Adam([theirs], lr=0.1, betas=ADAM_BETAS, eps=1e-8, maximize=True)
    delta, state = follower.start(WORDS)
    for gradient in gradients:
        theirs.grad = gradient[:, :2].clone()
        optimizer.step()
        delta, state = follower.move(WORDS, delta, {"source": gradient}, state)
    torch.testing.assert_close(delta["source"][:, :2], theirs.data)


@pytest.mark.parametrize("perturb", ["source", "target", "both"])
def test_each_side_for_itself(perturb: str) -> None:
    follower = Follower(**SETTINGS | {"perturb": perturb, "init_std": 1.0})
    delta, _ = follower.start(WORDS)
    assert set(delta) == ({"source", "target"} if perturb == "both" else {perturb})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("perturb", "neither"),
        ("epsilon", -0.1),
        ("epsilon", float("nan")),
        ("norm", "l1"),
        ("norm_scope", "word"),
        ("init_std", -1.0),
        ("ascent_steps", 0),
        ("ascent_step_size", float("inf")),
        ("ascent_rule", "descent"),
    ],
)
def test_settings_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InvalidSetting) as error:
        Follower(**SETTINGS | {name: value})
    assert error.value.name == name
    assert name in str(error.value) and repr(value) in str(error.value)
