"""What the log says of the game beside its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fairseq_adv.core.follower import Follower
from fairseq_adv.core.game import Delta
from fairseq_adv.core.perturbation import norm_of
from fairseq_adv.core.random_state import RandomState

Result = TypeVar("Result")


def delta_norm(delta: Delta, follower: Follower) -> Tensor:
    """Mean norm of the perturbations over sentences and sides; to be compared with epsilon.

    In the ball's own norm, and of whole sentences if that is its scope. With the scope `token`, of
    each sentence's largest token.
    """
    norms = [norm_of(d, follower.norm, follower.norm_scope).amax((1, 2)) for d in delta.values()]
    return torch.stack(norms).mean()


def interaction_share(
    parameters: Sequence[Tensor],
    play: Callable[[], Result],
    play_without_interaction: Callable[[], object],
) -> tuple[Result, Tensor]:
    """Norm of the leader-follower interaction's gradient, relative to the whole gradient's.

    Plays the game twice, under the same random numbers, and compares what the two leave in the
    parameters' gradients. What `play` accumulates, and the random state that it leaves, stay as if
    it alone had been called; what it returns comes first.
    """
    before = [p.grad for p in parameters]
    start = RandomState.capture()
    result, whole = _gradients_of(parameters, play)
    with start.replay():
        _, frozen = _gradients_of(parameters, play_without_interaction)
    for parameter, old, new in zip(parameters, before, whole, strict=True):
        parameter.grad = new if old is None else old.add_(new)
    interaction = torch.stack([(w - f).norm() for w, f in zip(whole, frozen, strict=True)]).norm()
    total = torch.stack([w.norm() for w in whole]).norm()
    share = torch.where(total > 0, interaction / torch.where(total > 0, total, 1.0), 0.0)
    return result, share


def _gradients_of(
    parameters: Sequence[Tensor], play: Callable[[], Result]
) -> tuple[Result, list[Tensor]]:
    for parameter in parameters:
        parameter.grad = None
    result = play()
    return result, [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
