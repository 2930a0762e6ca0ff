"""What the log says of the game beside its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.players.follower import Follower
from fairseq_adv.core.sites import ATTENTION, Delta, within_sentence


def norms_of(follower: Follower) -> dict[str, list[str]]:
    """The names of the gauges of a follower's moves, and the sites that each is a mean over.

    `delta_norm` in embedding units, `attention_delta_norm` in units of scores.
    """
    found: dict[str, list[str]] = {}
    for site in follower.sites:
        name = "attention_delta_norm" if site == ATTENTION else "delta_norm"
        found.setdefault(name, []).append(site)
    return found


def delta_norms(delta: Delta, follower: Follower) -> dict[str, Tensor]:
    """`delta_norm` for each of these names."""
    return {
        name: delta_norm({site: delta[site] for site in sites}, follower.ball_of(sites[0]))
        for name, sites in norms_of(follower).items()
    }


def delta_norm(delta: Delta, ball: Ball) -> Tensor:
    """Mean norm of the perturbations over sentences and sites; to be compared with epsilon.

    In the ball's own norm, and of whole sentences if that is its scope. With the scope `token`, of
    each sentence's largest token.
    """
    norms = [ball.norm_of(d).amax(within_sentence(d)) for d in delta.values()]
    return torch.stack(norms).mean()


class PartOfGradient:
    """A part of an update's gradient, added up over the batches that the update is made of.

    In float32 or wider, beside the gradients that the optimizer will see, which stay as they are,
    also where there are none.

    :param parameters: whose gradients are meant.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        kind = torch.promote_types(parameters[0].dtype, torch.float32)
        size = sum(p.numel() for p in parameters)
        self.total = torch.zeros(size, dtype=kind, device=parameters[0].device)
        """All parameters' gradients, one after the other."""

    def add(self, play: Callable[[], None], scale: Tensor | float = 1.0) -> None:
        """Add what play accumulates in the parameters' gradients.

        :param scale: of the loss, which play's gradients are to be freed of.
        """
        before = [p.grad for p in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        try:
            play()
            start = 0
            for parameter in self._parameters:
                if parameter.grad is not None:
                    into = self.total[start : start + parameter.numel()]
                    into += parameter.grad.flatten().to(into.dtype) / scale
                start += parameter.numel()
        finally:
            for parameter, old in zip(self._parameters, before, strict=True):
                parameter.grad = old
