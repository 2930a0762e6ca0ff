"""The Stackelberg gradient: what the leader gains by knowing how the follower will react.

With delta^K(theta) the end of the ascent, the last term of the paper's Eq. 4 is

    v^T d delta^K / d theta,     v = alpha * d l_v / d delta^K,

a vector-Jacobian product. It is pulled back through the ascent, step by step, from the last one to
the first that is unrolled. Write one step (Eq. 3) as

    g = d l_v(delta^{k-1}, theta) / d delta^{k-1},     delta^k = U(delta^{k-1}, g),

and let u and w be the cotangents of delta^{k-1} and of g that U's vector-Jacobian product gives
for v. Then the step contributes d<w, g> / d theta, and v becomes u + d<w, g> / d delta^{k-1}: both
are products of w with second derivatives of l_v. There are three ways to them:

- `exact`: the ascent's gradients are themselves differentiated (double backward).
- `central`: <w, d l_v / d delta> is the derivative of l_v along w, so that
  d<w, g> = [d l_v(delta + r w) - d l_v(delta - r w)] / 2r + O(r^2): two ordinary gradients. Each
  sentence has its own r, such that the step r w has length `radius`.
- `one-sided`: [d l_v(delta + r w) - d l_v(delta)] / r + O(r), where the second gradient is a
  by-product of the ascent step. Its weight 1/r has to be common to the batch.

The points of a difference see the dropout masks of their ascent step.

The paper computes Eq. 6 forward (its d delta^k / d theta is the Jacobian); backward is the same
chain rule in the order that never needs a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from fairseq_adv.core.game import Game
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.players.kernels import twice_differentiable_kernels
from fairseq_adv.core.players.rule import State
from fairseq_adv.core.random_state import RandomState
from fairseq_adv.core.sites import Delta, added, as_leaves, per_sentence, within_sentence
from fairseq_adv.core.two_views import TwoViews

UnrollMethod = Literal["exact", "central", "one-sided"]
UNROLL_METHODS: tuple[UnrollMethod, ...] = get_args(UnrollMethod)


@dataclass(frozen=True)
class Unrolled:
    """The end of the ascent, and the way back."""

    delta: Delta
    """delta^K, detached."""
    pull_back: Callable[[Delta], None]
    """Given v, accumulates v^T d delta^K / d theta."""


@dataclass(frozen=True)
class _Move:
    """An ascent step taken: where it began, and the gradient that it followed."""

    masks: RandomState
    before: Delta
    gradient: Delta
    state: State


class Ascent:
    """K ascent steps on l_v, of which the last ones may be unrolled."""

    def __init__(self, game: Game, follower: Follower, l_v: TwoViews) -> None:
        self.game = game
        self.follower = follower
        self.l_v = l_v
        self.delta, self.state = follower.begin(game)

    def climb(self, masks: RandomState) -> None:
        """One ascent step whose result is a constant: only delta's gradient is computed."""
        leaf = as_leaves(self.delta)
        gradient = l_v_gradient(self.l_v, leaf, masks)
        self._step(gradient)

    def _step(self, gradient: Delta) -> None:
        with torch.no_grad():
            self.delta, self.state = self.follower.move(self.game, self.delta, gradient, self.state)

    def exact(self, masks: Sequence[RandomState]) -> Unrolled:
        """Unroll one step for each of the masks by double backward."""
        delta, state = as_leaves(self.delta), self.state
        with twice_differentiable_kernels():
            for mask in masks:
                gradient = l_v_gradient(self.l_v, delta, mask, create_graph=True)
                delta, state = self.follower.move(self.game, delta, gradient, state)

        def pull_back(v: Delta) -> None:
            products = [(v[site] * d).sum() for site, d in delta.items()]
            self.l_v.accumulate(torch.stack(products).sum())

        return Unrolled({site: d.detach() for site, d in delta.items()}, pull_back)

    def central(self, masks: Sequence[RandomState], radius: float) -> Unrolled:
        """Unroll one step for each of the masks by central differences."""
        moves = []
        for mask in masks:
            leaf = as_leaves(self.delta)
            gradient = l_v_gradient(self.l_v, leaf, mask)
            moves.append(_Move(mask, self.delta, gradient, self.state))
            self._step(gradient)

        def pull_back(v: Delta) -> None:
            state_bar: list[Tensor] | None = None
            for move in reversed(moves):
                u, w, state_bar = self._pull_back_move(move, v, state_bar)
                length = _length(w)  # B
                r = torch.where(length > 0, radius / torch.where(length > 0, length, 1.0), 0.0)
                weight = length / (2 * radius)
                plus = as_leaves(_shifted(move.before, w, r))
                upper = self.l_v(plus, move.masks, weight)
                at_plus = self.l_v.accumulate(upper, tuple(plus.values()))
                del upper
                minus = as_leaves(_shifted(move.before, w, -r))
                lower = self.l_v(minus, move.masks, -weight)
                at_minus = self.l_v.accumulate(lower, tuple(minus.values()))
                v = _sum(u, at_plus, at_minus)

        return Unrolled(self.delta, pull_back)

    def one_sided(self, masks: Sequence[RandomState], radius: float) -> Unrolled:
        """Unroll one step for each of the masks by forward differences."""
        theta = (*self.game.parameters(), *self.l_v.shared)
        moves = []
        for mask in masks:
            leaf = as_leaves(self.delta)
            value = self.l_v(leaf, mask)
            gradients = torch.autograd.grad(value, (*leaf.values(), *theta), materialize_grads=True)
            gradient = dict(zip(leaf, gradients, strict=False))
            moves.append((_Move(mask, self.delta, gradient, self.state), gradients[len(leaf) :]))
            self._step(gradient)

        def pull_back(v: Delta) -> None:
            state_bar: list[Tensor] | None = None
            while moves:
                move, at_before = moves.pop()
                u, w, state_bar = self._pull_back_move(move, v, state_bar)
                length = _length(w)
                whole = length.square().mean().sqrt()  # one radius for the batch
                r = torch.where(whole > 0, radius / torch.where(whole > 0, whole, 1.0), 0.0)
                weight = whole / radius
                # A linear function of theta whose gradient is the one that the step left.
                pairs = zip(theta, at_before, strict=True)
                linear = [(-weight * g * t).sum() for t, g in pairs]
                self.l_v.accumulate(torch.stack(linear).sum())
                plus = as_leaves(_shifted(move.before, w, r.expand_as(length)))
                upper = weight * self.l_v(plus, move.masks)
                at_plus = self.l_v.accumulate(upper, tuple(plus.values()))
                at_move = tuple(-weight * g for g in move.gradient.values())
                v = _sum(u, at_plus, at_move)

        return Unrolled(self.delta, pull_back)

    def _pull_back_move(
        self, move: _Move, v: Delta, state_bar: list[Tensor] | None
    ) -> tuple[Delta, Delta, list[Tensor]]:
        """Cotangents of delta^{k-1}, of the gradient and of the rule's state, from those after."""
        before, gradient = as_leaves(move.before), as_leaves(move.gradient)
        moments = {
            site: (mean.detach().requires_grad_(), square.detach().requires_grad_())
            for site, (mean, square) in move.state.moments.items()
        }
        with torch.enable_grad():
            after, state = self.follower.move(
                self.game, before, gradient, State(move.state.steps, moments)
            )
        outputs = [*after.values(), *(m for pair in state.moments.values() for m in pair)]
        inputs = [
            *before.values(),
            *gradient.values(),
            *(m for pair in moments.values() for m in pair),
        ]
        n = len(before)
        if state_bar is None:
            state_bar = [torch.zeros_like(m) for m in outputs[n:]]
        bars = torch.autograd.grad(
            outputs, inputs, [*v.values(), *state_bar], allow_unused=True, materialize_grads=True
        )
        u = dict(zip(before, bars[:n], strict=True))
        w = dict(zip(before, bars[n : 2 * n], strict=True))
        return u, w, list(bars[2 * n :])


def l_v_gradient(
    l_v: TwoViews, delta: Delta, masks: RandomState, *, create_graph: bool = False
) -> Delta:
    """d l_v / d delta, for each site. The parameters' gradients are not computed.

    In float16 it would vanish on its way back through the model, and in a double backward pass
    the ascent's answer, which a normalized rule divides by the gradient's length, would
    overflow. Each sentence's part therefore goes back so scaled that it is of size 1 where
    it enters the model. It is free of that when it comes out.
    """
    perturbed = l_v.game.perturbed(added(delta), masks)
    entering = l_v.gradient(perturbed, differentiable=create_graph)
    scale: Tensor | None = None
    if perturbed.vectors.dtype == torch.float16:
        sentences, size = l_v.game.sentences(), next(iter(delta.values())).size(0)
        rows = entering.detach().abs().amax(1)
        largest = rows.new_zeros(size).scatter_reduce(0, sentences, rows, "amax")
        scale = torch.where(largest > 0, 1 / torch.where(largest > 0, largest, 1.0), 1.0)
        entering = entering * scale[sentences].unsqueeze(1)
    gradients = torch.autograd.grad(
        perturbed.vectors,
        list(delta.values()),
        entering.to(perturbed.vectors.dtype),
        create_graph=create_graph,
        materialize_grads=True,
    )
    return {
        site: g if scale is None else g / per_sentence(scale, g)
        for site, g in zip(delta, gradients, strict=True)
    }


def _length(w: Delta) -> Tensor:
    """Euclidean length of each sentence over all sites together: shape B."""
    squares = [d.square().sum(within_sentence(d)) for d in w.values()]
    return torch.stack(squares).sum(0).sqrt()


def _shifted(delta: Delta, w: Delta, r: Tensor) -> Delta:
    return {site: d + per_sentence(r, d) * w[site] for site, d in delta.items()}


def _sum(first: Delta, *others: Sequence[Tensor]) -> Delta:
    return {
        site: d + sum(other[i] for other in others) for i, (site, d) in enumerate(first.items())
    }
