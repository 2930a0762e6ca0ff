"""The follower: which sites it perturbs, from where, by which steps, in which ball.

`Follower.move` is one update operator U^k of the paper's Eq. 3,

    delta^k = Pi(delta^{k-1} + eta * rule(d l_v / d delta^{k-1})),

and the noise of one who plays a mixed strategy (`core.players.mixed`) before projection, as a
differentiable function of delta^{k-1}, of the gradient and of the rule's state.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fairseq_adv.core.game import Game
from fairseq_adv.core.players.ball import Ball, radius
from fairseq_adv.core.players.directions import FREE, Directions
from fairseq_adv.core.players.mixed import COLD, Thermal, langevin_noise
from fairseq_adv.core.players.rule import Moments, Rule, State
from fairseq_adv.core.players.start import Sphere, Start, Uniform
from fairseq_adv.core.settings import at_least, means
from fairseq_adv.core.sites import ATTENTION, Delta


@dataclass(frozen=True, kw_only=True)
class AttentionLengths:
    """What attention scores have instead of the radius and step of embeddings; None: the same.

    :param attention_epsilon: radius of their ball, in units of scores.
    :param attention_step_size: eta of their steps, as `Rule.ascent_step_size` in units of scores.
    """

    attention_epsilon: float | None = field(
        metadata=means("--epsilon for attention, in units of scores (default: --epsilon)")
    )
    attention_step_size: float | None = field(
        metadata=means(
            "--ascent-step-size for attention, in units of scores (default: --ascent-step-size)"
        )
    )

    def __post_init__(self) -> None:
        if self.attention_epsilon is not None:
            radius("attention_epsilon", self.attention_epsilon)
        if self.attention_step_size is not None:
            at_least("attention_step_size", self.attention_step_size, 0)


_AS_EMBEDDINGS = AttentionLengths(attention_epsilon=None, attention_step_size=None)


@dataclass(frozen=True, kw_only=True)
class Follower:
    """The follower's strategy.

    :param sites: the names of those that it perturbs.
    :param ascent_steps: K. With 0 the start is all there is: a random perturbation.
    """

    sites: tuple[str, ...]
    start: Start
    ball: Ball
    rule: Rule
    ascent_steps: int = field(metadata=means("ascent steps K of the follower; 0: noise, its start"))
    attention: AttentionLengths = _AS_EMBEDDINGS
    directions: Directions = FREE
    thermal: Thermal = COLD

    def __post_init__(self) -> None:
        at_least("ascent_steps", self.ascent_steps, 0)
        self.directions.check(self.sites)
        if isinstance(self.start, Uniform | Sphere):
            for site in self.sites:
                named = site == ATTENTION and self.attention.attention_epsilon is not None
                name = "attention_epsilon" if named else "epsilon"
                radius(name, self.ball_of(site).epsilon, finite=True)

    def ball_of(self, site: str) -> Ball:
        """The ball that perturbations of a site lie in."""
        epsilon = self.attention.attention_epsilon
        if site != ATTENTION or epsilon is None:
            return self.ball
        return replace(self.ball, epsilon=epsilon)

    def rule_of(self, site: str) -> Rule:
        """The step at a site."""
        step_size = self.attention.attention_step_size
        if site != ATTENTION or step_size is None:
            return self.rule
        return replace(self.rule, ascent_step_size=step_size)

    def begin(self, game: Game) -> tuple[Delta, State]:
        """delta^0, in the ball if no step follows that sees to it; and a fresh state."""
        sites = {name: game.sites[name] for name in self.sites}
        delta = {name: self.start.draw(site, self.ball_of(name)) for name, site in sites.items()}
        if self.ascent_steps == 0:
            delta = self.projected(delta)
        return delta, self.rule.begin({name: site.zero for name, site in sites.items()})

    def projected(self, delta: Delta) -> Delta:
        """The nearest one in the balls."""
        return {name: self.ball_of(name).project(d) for name, d in delta.items()}

    def move(self, game: Game, delta: Delta, gradient: Delta, state: State) -> tuple[Delta, State]:
        """One step up the gradient, and back into the ball. Differentiable in all its tensors."""
        steps = state.steps + 1
        moved: Delta = {}
        moments: dict[str, Moments] = {}
        for name, before in delta.items():
            # Models may leak a gradient into padding; a perturbation of it has no meaning.
            g = gradient[name] * game.sites[name].mask
            ball, rule = self.ball_of(name), self.rule_of(name)
            known = rule.moments(g, state.moments.get(name))
            if known is not None:
                moments[name] = known
            step = rule.step(g, ball, known, steps)
            if self.thermal.thermal_noise:
                size, epsilon = rule.ascent_step_size, self.thermal.thermal_noise
                step = step + langevin_noise(before, size, epsilon) * game.sites[name].mask
            # The sign of NaN would be 0, infinity would be clamped: 0 * g keeps both to be seen.
            moved[name] = ball.project(before + step + 0 * gradient[name])
        return moved, State(steps, moments)
