"""The gauges against what they say they are, computed another way."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fairseq_adv.core.divergence import Divergence
from fairseq_adv.core.gauges import delta_norm, interaction_share
from fairseq_adv.core.predictions import evaluate
from fairseq_adv.core.random_state import RandomState
from tests import tiny


def played(method: Any, game: Any) -> torch.Tensor:
    """The gradient of one game, in one vector."""
    game.model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    method.step(game, tiny.accumulate, weight=1.0).finish(tiny.accumulate)
    return torch.cat([p.grad.flatten() for p in game.parameters()])


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_interaction_is_the_part_of_the_gradient_that_vat_lacks(masks: str) -> None:
    game = tiny.game(tiny.transformer(dropout=0.2), tiny.batch())
    criterion = tiny.criterion(dropout_masks=masks)
    method, frozen = criterion.method, criterion.without_interaction
    whole, without = played(method, game), played(frozen, game)
    expected = (whole - without).norm() / whole.norm()
    assert expected > 0.01

    def play(method: Any) -> None:
        method.step(game, tiny.accumulate, weight=1.0).finish(tiny.accumulate)

    before = [torch.randn_like(p) for p in game.parameters()]
    for parameter, gradient in zip(game.parameters(), before, strict=True):
        parameter.grad = gradient.clone()
    torch.manual_seed(3)
    _, share = interaction_share(game.parameters(), lambda: play(method), lambda: play(frozen))
    torch.testing.assert_close(share, expected)
    # What was accumulated before is still there, and the game's gradient once.
    left = torch.cat([p.grad.flatten() for p in game.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(left, whole + torch.cat([b.flatten() for b in before]))


def test_gain_is_the_divergence_that_delta_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    game = tiny.game(tiny.transformer(dropout=0.2), tiny.batch())
    method = tiny.criterion(ascent_step_size=0.5).method
    drawn: list[RandomState] = []
    draw = RandomState.draw
    monkeypatch.setattr(RandomState, "draw", lambda: drawn.append(draw()) or drawn[-1])
    torch.manual_seed(3)
    step = method.step(game, tiny.accumulate, weight=1.0, gauges=True)
    assert len(drawn) == 2, "one ascent step, and the leader's pass"
    torch.manual_seed(3)
    with torch.no_grad():
        clean = game.clean()

        def at(delta: Any) -> torch.Tensor:
            return evaluate(Divergence(clean, game.perturbed(delta, drawn[-1]), "symmetric-kl"))

        with_delta, without = at(step.delta), at({s: d * 0 for s, d in step.delta.items()})
    torch.testing.assert_close(step.adv_loss, with_delta)
    torch.testing.assert_close(step.adv_gain, with_delta - without)
    assert step.adv_gain is not None
    assert step.adv_gain > 0, "the follower climbs"
    assert without > 0, "two dropout masks disagree even without an adversary"


def test_delta_norm_is_comparable_with_epsilon() -> None:
    delta = {"source": torch.zeros(2, 2, 2), "target": torch.zeros(2, 1, 2)}
    delta["source"][0] = torch.tensor([[3.0, 4.0], [0.0, 12.0]])  # 13; tokens of 5 and 12
    delta["target"][1, 0, 0] = -7.0
    follower = tiny.criterion(norm_scope="sentence").follower
    assert float(delta_norm(delta, follower)) == (13 + 0 + 0 + 7) / 4  # type: ignore[arg-type]
    follower = tiny.criterion(norm_scope="token").follower
    assert float(delta_norm(delta, follower)) == (12 + 0 + 0 + 7) / 4  # type: ignore[arg-type]
    follower = tiny.criterion(norm="linf").follower
    assert float(delta_norm(delta, follower)) == (12 + 0 + 0 + 7) / 4  # type: ignore[arg-type]
