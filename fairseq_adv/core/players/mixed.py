"""Mixed strategies by sampling: Langevin noise, and means of samples (Zhong et al., IJCAI 2023).

A step of Langevin dynamics is an ordinary one and noise, Eqs. 11 and 12,

    z^(k+1) = z^(k) - gamma rule(grad h(z^(k))) + sqrt(2 gamma) epsilon xi,     xi ~ N(0, 1),

whose stationary distribution is, for small gamma and epsilon = 1, proportional to exp(-h).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fairseq_adv.core.settings import InvalidSetting, at_least, means


def share(name: str, value: float) -> None:
    """Raise InvalidSetting if the value is not from 0 to below 1."""
    if not 0 <= value < 1:
        raise InvalidSetting(name, value, "a number from 0 to below 1")


def langevin_noise(
    like: Tensor, step_size: float, epsilon: float, generator: torch.Generator | None = None
) -> Tensor:
    """sqrt(2 gamma) epsilon xi, in the shape of a tensor, in float32 or wider.

    :param step_size: gamma.
    :param generator: torch's own one unless another is given.
    """
    kind = torch.promote_types(like.dtype, torch.float32)
    xi = torch.randn(like.shape, dtype=kind, device=like.device, generator=generator)
    return xi * (math.sqrt(2 * step_size) * epsilon)


@dataclass(frozen=True, kw_only=True)
class Thermal:
    """Noise of a player's samples.

    :param thermal_noise: epsilon.
    """

    thermal_noise: float = field(
        metadata=means(
            "epsilon: both players' samples have noise of standard deviation sqrt(2 gamma) epsilon "
            "in each component, where gamma is the step size, of the leader its learning rate"
        )
    )

    def __post_init__(self) -> None:
        at_least("thermal_noise", self.thermal_noise, 0)


COLD = Thermal(thermal_noise=0.0)


@dataclass(frozen=True, kw_only=True)
class MixedLeader(Thermal):
    """The leader's strategy: it samples by updates on one group of batches, and becomes their mean.

    :param leader_samples: K, of lines 8 to 11 of Algorithm 2.
    :param leader_mean_decay: beta, of lines 10 and 12.
    """

    leader_samples: int = field(
        metadata=means(
            "samples K of the leader: updates on each group of batches in a row, so that N updates "
            "see 1/K as much data as without"
        )
    )
    leader_mean_decay: float = field(
        metadata=means(
            "beta of the mean of the leader's samples: what an earlier mean, and the model before "
            "them, keep"
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.leader_samples < 1:
            raise InvalidSetting("leader_samples", self.leader_samples, "1, 2, 3, ...")
        share("leader_mean_decay", self.leader_mean_decay)

    def mixed(self, before: Tensor, after: Tensor) -> Tensor:
        """beta before + (1 - beta) after: lines 10 and 12."""
        return before.lerp(after.to(before.dtype), 1 - self.leader_mean_decay)
