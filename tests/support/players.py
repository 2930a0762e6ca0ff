"""Followers and comparisons from flat settings, as options are."""

from __future__ import annotations

from typing import Any

from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.rule import Rule
from fairseq_adv.core.players.start import Gaussian


def follower(
    *,
    sites: tuple[str, ...] = ("source", "target"),
    epsilon: float,
    norm: Any = "l2",
    norm_scope: Any = "sentence",
    init_std: float,
    ascent_steps: int = 1,
    ascent_step_size: float,
    ascent_rule: Any = "normalized",
) -> Follower:
    """One whose start is normally distributed."""
    return Follower(
        sites=sites,
        start=Gaussian(init_std=init_std),
        rule=Rule(ascent_step_size=ascent_step_size, ascent_rule=ascent_rule),
        ball=Ball(epsilon=epsilon, norm=norm, norm_scope=norm_scope),
        ascent_steps=ascent_steps,
    )
