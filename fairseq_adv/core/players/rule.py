"""How one ascent step goes along the gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.settings import at_least, means, one_of

RuleName = Literal["sgd", "normalized", "sign", "adam", "rmsprop"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
REMEMBERS: tuple[RuleName, ...] = ("adam", "rmsprop")
"""Rules with moments."""

Moments = tuple[Tensor, Tensor]
"""Running means of the gradient (Adam's) and of its square, B x T x C each."""

ADAM_BETAS = (0.9, 0.98)
"""The paper's, Appendix B (given there for the optimizers of both players)."""
RMSPROP_DECAY = 0.99
"""torch's, of the running mean of squares."""
STABILITY = 1e-8


@dataclass(frozen=True)
class State:
    """What the ascent rule remembers between steps: nothing, except for Adam and RMSprop."""

    steps: int
    moments: dict[str, Moments]
    """By site."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The step along a gradient.

    :param ascent_step_size: eta. With `normalized`, `sign`, `adam` and `rmsprop` it is a length in
        the units of the embeddings (per sentence or token; of the others per component); with
        `sgd` it multiplies the gradient.
    :param ascent_rule: `sgd`; `normalized` (gradient divided by its norm); `sign`; `adam`;
        `rmsprop` (Hinton et al. 2012; as torch has it, without momentum).
    """

    ascent_step_size: float = field(
        metadata=means(
            "size eta of an ascent step: a length in embedding units for the rules normalized, "
            "sign, adam and rmsprop; a multiplier of the gradient for sgd"
        )
    )
    ascent_rule: RuleName = field(metadata=means("how the follower steps along its gradient"))

    def __post_init__(self) -> None:
        at_least("ascent_step_size", self.ascent_step_size, 0)
        one_of("ascent_rule", self.ascent_rule, RULES)

    @property
    def reacts(self) -> bool:
        """Whether a move depends smoothly on the gradient.

        The sign of a gradient is constant almost everywhere: with that rule the derivative of the
        follower's move with respect to theta is zero, and there is nothing to unroll.
        """
        return self.ascent_rule != "sign"

    def begin(self, zeros: dict[str, Tensor]) -> State:
        """A fresh state, from zeros for each site."""
        remembers = self.ascent_rule in REMEMBERS
        return State(0, {site: (zero, zero) for site, zero in zeros.items() if remembers})

    def step(self, g: Tensor, ball: Ball, moments: Moments | None, steps: int) -> Tensor:
        """eta * rule(g)."""
        if self.ascent_rule == "normalized":
            length = ball.norm_of(g)
            g = g / torch.where(length > 0, length, 1.0)
        elif self.ascent_rule == "sign":
            g = g.sign()
        elif moments is not None and self.ascent_rule == "rmsprop":
            g = _over_root(g, moments[1])
        elif moments is not None:
            g = _adam_direction(moments, steps)
        return self.ascent_step_size * g

    def moments(self, g: Tensor, before: Moments | None) -> Moments | None:
        """The moments with this gradient; None of rules that have none."""
        if before is None:
            return None
        (beta1, beta2), (mean, square) = ADAM_BETAS, before
        if self.ascent_rule == "rmsprop":
            beta1, beta2 = 0.0, RMSPROP_DECAY
        return beta1 * mean + (1 - beta1) * g, beta2 * square + (1 - beta2) * g.square()


def _adam_direction(moments: Moments, steps: int) -> Tensor:
    """Adam's direction (Kingma and Ba 2015, Algorithm 1), with both moments bias-corrected."""
    (beta1, beta2), (mean, square) = ADAM_BETAS, moments
    return _over_root(mean / (1 - beta1**steps), square / (1 - beta2**steps))


def _over_root(mean: Tensor, square: Tensor) -> Tensor:
    """A mean divided by the root of a mean of squares."""
    # sqrt has an infinite slope at 0, which is where padding is: 0 * inf would be NaN.
    positive = square > 0
    root = torch.where(positive, square, 1.0).sqrt() * positive
    return mean / (root + STABILITY)
