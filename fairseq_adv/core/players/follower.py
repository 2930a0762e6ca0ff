"""The follower: which sites it perturbs, from where, by which steps, in which ball.

`Follower.move` is one update operator U^k of the paper's Eq. 3,

    delta^k = Pi(delta^{k-1} + eta * rule(d l_v / d delta^{k-1})),

as a differentiable function of delta^{k-1}, of the gradient and of the rule's state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fairseq_adv.core.game import Game
from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.players.rule import Moments, Rule, State
from fairseq_adv.core.players.start import Start
from fairseq_adv.core.settings import at_least, means
from fairseq_adv.core.sites import Delta


@dataclass(frozen=True, kw_only=True)
class Follower:
    """The follower's strategy.

    :param sites: the names of those that it perturbs.
    :param ascent_steps: K.
    """

    sites: tuple[str, ...]
    start: Start
    ball: Ball
    rule: Rule
    ascent_steps: int = field(metadata=means("ascent steps K of the follower"))

    def __post_init__(self) -> None:
        at_least("ascent_steps", self.ascent_steps, 1)

    def begin(self, game: Game) -> tuple[Delta, State]:
        """delta^0, and a fresh state."""
        sites = {name: game.sites[name] for name in self.sites}
        delta = {name: self.start.draw(site) for name, site in sites.items()}
        return delta, self.rule.begin({name: site.zero for name, site in sites.items()})

    def move(self, game: Game, delta: Delta, gradient: Delta, state: State) -> tuple[Delta, State]:
        """One step up the gradient, and back into the ball. Differentiable in all its tensors."""
        steps = state.steps + 1
        moved: Delta = {}
        moments: dict[str, Moments] = {}
        for name, before in delta.items():
            # Models may leak a gradient into padding; a perturbation of it has no meaning.
            g = gradient[name] * game.sites[name].mask
            known = self.rule.moments(g, state.moments.get(name))
            if known is not None:
                moments[name] = known
            step = self.rule.step(g, self.ball, known, steps)
            # The sign of NaN would be 0, infinity would be clamped: 0 * g keeps both to be seen.
            moved[name] = self.ball.project(before + step + 0 * gradient[name])
        return moved, State(steps, moments)
