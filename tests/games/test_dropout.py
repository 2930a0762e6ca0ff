"""Dropout as it is in games: its distribution, its derivatives, and where it holds."""

from __future__ import annotations

import math

import pytest
import torch
from fairseq.modules import FairseqDropout
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from fairseq_adv.core.random_state import RandomState
from fairseq_adv.games.dropout import draw_mask, fast_dropout

SHAPE = torch.Size((7, 11, 13))


def within(count: int, number: int, probability: float) -> bool:
    """Whether a count lies within five standard deviations of a binomial's mean."""
    deviation = math.sqrt(number * probability * (1 - probability))
    return abs(count - number * probability) <= 5 * deviation


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.3, 0.5, 1 / 3, 0.9])
def test_each_element_is_kept_with_the_rate_independently_of_its_neighbours(rate: float) -> None:
    """Four come from one random number: a pair may be in one of them, or in two."""
    torch.manual_seed(3)
    number = 1 << 22
    kept = draw_mask(torch.Size((number,)), rate)
    assert within(int(kept.sum()), number, 1 - rate)
    for place in range(4):
        assert within(int(kept[place::4].sum()), number // 4, 1 - rate)
    for distance in (1, 2, 3, 4, 5, 8, 64):
        pairs = kept[:-distance] & kept[distance:]
        # pairs overlap: take every second stretch, so that those which are counted do not
        apart = pairs[: number // (2 * distance) * 2 * distance - distance]
        apart = torch.cat([apart, apart.new_zeros(distance)]).view(-1, 2 * distance)[:, :distance]
        assert within(int(apart.sum()), apart.numel(), (1 - rate) ** 2)


@pytest.mark.parametrize("rate", [1e-6, 2.3e-5, 1 - 1e-6, 1 - 2.3e-5])
def test_the_rate_is_not_rounded_to_the_bits_that_are_drawn(rate: float) -> None:
    """1 / 65,536 is 1.5e-5: rounded down or up, these rates would be off by a third and more."""
    torch.manual_seed(4)
    number = 1 << 24
    kept = int(draw_mask(torch.Size((number,)), rate).sum())
    rare, probability = (number - kept, rate) if rate < 0.5 else (kept, 1 - rate)
    assert within(rare, number, probability)
    assert not within(round(number / 65_536), number, probability), "it could not be told"


def test_an_odd_size_is_filled_and_a_state_gives_the_same_mask_again() -> None:
    state = RandomState.draw()
    with state.replay():
        first, other = draw_mask(SHAPE, 0.3), draw_mask(SHAPE, 0.3)
    with state.replay():
        again = draw_mask(SHAPE, 0.3)
    assert first.shape == SHAPE
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def dropped(x: Tensor, rate: float = 0.3) -> Tensor:
    torch.manual_seed(5)
    with fast_dropout():
        result: Tensor = FairseqDropout(rate)(x)
    return result


def test_what_is_kept_is_scaled_as_torch_scales_it() -> None:
    x = torch.randn(SHAPE, dtype=torch.float64)
    torch.manual_seed(5)
    kept = draw_mask(SHAPE, 0.3)
    torch.testing.assert_close(dropped(x), torch.where(kept, x / 0.7, 0.0))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert dropped(x.to(dtype)).dtype == dtype


def test_first_and_second_derivatives() -> None:
    x = torch.randn(SHAPE[:1], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: dropped(x.sin()), x)
    assert gradgradcheck(lambda x: dropped(x.sin()), x)


def test_outside_a_game_and_where_nothing_is_dropped_it_is_fairseqs_own() -> None:
    x = torch.randn(SHAPE)
    module = FairseqDropout(0.3)
    torch.manual_seed(6)
    expected = torch.dropout(x, 0.3, True)
    with pytest.raises(KeyError), fast_dropout():
        raise KeyError
    torch.manual_seed(6)
    assert torch.equal(module(x), expected)
    with fast_dropout():
        torch.manual_seed(6)
        assert not torch.equal(module(x), expected)
        assert FairseqDropout(0.0)(x) is x
        assert module.eval()(x) is x
        assert not FairseqDropout(1.0)(x).any()
        module.apply_during_inference = True
        assert module(x).eq(0).any()
