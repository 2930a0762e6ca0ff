"""The follower: how it starts, and how one ascent step moves it.

`Follower.move` is one update operator U^k of the paper's Eq. 3,

    delta^k = Pi(delta^{k-1} + eta * rule(d l_v / d delta^{k-1})),

as a differentiable function of delta^{k-1}, of the gradient and of the rule's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.game import Delta, Game, InvalidSetting, Side
from fairseq_adv.core.perturbation import (
    NORMS,
    SCOPES,
    Norm,
    Scope,
    gaussian,
    norm_of,
    project,
    uniform,
)

Perturb = Literal["source", "target", "both"]
RuleName = Literal["sgd", "normalized", "sign", "adam"]

PERTURB: tuple[Perturb, ...] = get_args(Perturb)
RULES: tuple[RuleName, ...] = get_args(RuleName)

Moments = tuple[Tensor, Tensor]
"""Adam's running means of the gradient and of its square, B x T x C each."""

ADAM_BETAS = (0.9, 0.98)
"""The paper's, Appendix B (given there for the optimizers of both players)."""
ADAM_STABILITY = 1e-8


@dataclass(frozen=True)
class State:
    """What the ascent rule remembers between steps: nothing, except for Adam."""

    steps: int
    moments: dict[Side, Moments]


@dataclass(frozen=True, kw_only=True)
class Follower:
    """The follower's strategy. Each perturbed side has a ball of its own.

    :param perturb: whose word embeddings: `source`, `target` or `both`.
    :param epsilon: radius of the ball, in the units of the embeddings.
    :param norm: `l2` or `linf`, of the ball and of the `normalized` rule.
    :param norm_scope: what the norm is taken over: all words of a `sentence`, or each `token`.
    :param init_std: sigma, standard deviation of each component of delta^0, which is normally
        distributed; None: delta^0 is uniformly distributed within the ball, as FreeLB's.
    :param ascent_steps: K.
    :param ascent_step_size: eta. With `normalized`, `sign` and `adam` it is a length in the units
        of the embeddings (per sentence or token, per component, per component); with `sgd` it
        multiplies the gradient.
    :param ascent_rule: `sgd`; `normalized` (gradient divided by its norm); `sign`; `adam`.
    """

    perturb: Perturb
    epsilon: float
    norm: Norm
    norm_scope: Scope
    init_std: float | None
    ascent_steps: int
    ascent_step_size: float
    ascent_rule: RuleName

    def __post_init__(self) -> None:
        _one_of("perturb", self.perturb, PERTURB)
        _at_least("epsilon", self.epsilon, 0)
        _one_of("norm", self.norm, NORMS)
        _one_of("norm_scope", self.norm_scope, SCOPES)
        if self.init_std is not None:
            _at_least("init_std", self.init_std, 0)
        _at_least("ascent_steps", self.ascent_steps, 1)
        _at_least("ascent_step_size", self.ascent_step_size, 0)
        _one_of("ascent_rule", self.ascent_rule, RULES)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are perturbed."""
        return sides_of(self.perturb)

    @property
    def reacts(self) -> bool:
        """Whether a move depends smoothly on the gradient.

        The sign of a gradient is constant almost everywhere: with that rule the derivative of the
        follower's move with respect to theta is zero, and there is nothing to unroll.
        """
        return self.ascent_rule != "sign"

    def start(self, game: Game) -> tuple[Delta, State]:
        """delta^0, not projected (the first step does that), and a fresh state."""
        delta: Delta = {}
        moments: dict[Side, Moments] = {}
        for side in self.sides:
            zero = game.zero_delta(side)
            non_pad = game.non_pad(side)
            if self.init_std is None:
                delta[side] = uniform(zero, non_pad, self.epsilon, self.norm, self.norm_scope)
            else:
                delta[side] = gaussian(zero, non_pad, self.init_std)
            if self.ascent_rule == "adam":
                moments[side] = (zero, zero)
        return delta, State(0, moments)

    def move(self, game: Game, delta: Delta, gradient: Delta, state: State) -> tuple[Delta, State]:
        """One step up the gradient, and back into the ball. Differentiable in all its tensors."""
        steps = state.steps + 1
        moved: Delta = {}
        moments: dict[Side, Moments] = {}
        for side, before in delta.items():
            # Models may leak a gradient into padding; a perturbation of it has no meaning.
            g = gradient[side] * game.non_pad(side).unsqueeze(-1)
            if self.ascent_rule == "normalized":
                length = norm_of(g, self.norm, self.norm_scope)
                g = g / torch.where(length > 0, length, 1.0)
            elif self.ascent_rule == "sign":
                g = g.sign()
            elif self.ascent_rule == "adam":
                g, moments[side] = _adam(g, state.moments[side], steps)
            # The sign of NaN would be 0, infinity would be clamped: 0 * g keeps both to be seen.
            up = before + self.ascent_step_size * g + 0 * gradient[side]
            moved[side] = project(up, self.epsilon, self.norm, self.norm_scope)
        return moved, State(steps, moments)


def sides_of(perturb: Perturb) -> tuple[Side, ...]:
    """The sides that are perturbed."""
    return ("source", "target") if perturb == "both" else (perturb,)


def as_leaves(delta: Delta) -> Delta:
    """The same values as new tensors that gradients can be taken for."""
    return {side: d.detach().requires_grad_() for side, d in delta.items()}


def _adam(g: Tensor, moments: Moments, steps: int) -> tuple[Tensor, Moments]:
    """Adam's direction (Kingma and Ba 2015, Algorithm 1), with both moments bias-corrected."""
    beta1, beta2 = ADAM_BETAS
    mean = beta1 * moments[0] + (1 - beta1) * g
    square = beta2 * moments[1] + (1 - beta2) * g.square()
    corrected = square / (1 - beta2**steps)
    # sqrt has an infinite slope at 0, which is where padding is: 0 * inf would be NaN.
    positive = corrected > 0
    root = torch.where(positive, corrected, 1.0).sqrt() * positive
    return mean / (1 - beta1**steps) / (root + ADAM_STABILITY), (mean, square)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidSetting(name, value, ", ".join(allowed))


def _at_least(name: str, value: float, lowest: int) -> None:
    if not lowest <= value < float("inf"):  # also refuses NaN
        raise InvalidSetting(name, value, f"a number from {lowest} up")
