"""The proof of a gradient: it is the derivative of the objective that is reported, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fairseq_adv.core.players.follower import Follower
from tests.methods.method_table import Match, Row
from tests.support import tiny
from tests.support.gradients import directional_derivative, directions


def takes(row: Row, option: str) -> bool:
    """Whether the row's criterion has such an option."""
    return hasattr(tiny.criterion(row.criterion).cfg, option)


def differentiated(row: Row) -> dict[str, str]:
    """Let the gradient flow into both arguments of the divergence: all that is reported counts."""
    return {"clean_branch": "differentiated"} if takes(row, "clean_branch") else {}


class FrozenFollower:
    """Holds the follower's moves constant, at their values of the first play."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves: list[Any] = []
        self.replayed: Iterator[Any] | None = None
        move = Follower.move

        def patched(follower: Follower, *arguments: Any) -> Any:
            if self.replayed is not None:
                return next(self.replayed)
            self.moves.append(move(follower, *arguments))
            return self.moves[-1]

        monkeypatch.setattr(Follower, "move", patched)


def check_derivative(match: Match, sample: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Total, or with the follower's moves and what is detached held constant.

    What is random is drawn from the same state in each play. The gradient is left in the match.
    """
    frozen = None if match.row.total else FrozenFollower(monkeypatch)
    match.play(sample)
    gradient = match.gradient
    along = directions(match.model)

    def objective() -> float:
        if frozen is not None:
            frozen.replayed = iter(frozen.moves)
        return float(match.play(sample).objective)

    expected = [directional_derivative(objective, match.model, d) for d in along]
    match.gradient = gradient
    for direction, derivative in zip(along, expected, strict=True):
        ours = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
        assert ours == pytest.approx(derivative, rel=1e-6, abs=1e-10)
