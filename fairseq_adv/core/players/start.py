"""Where a perturbation starts, or, of a method that only adds noise, where it stays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from fairseq_adv.core.players.ball import Ball
from fairseq_adv.core.settings import at_least, means, one_of
from fairseq_adv.core.sites import Site, within_sentence

NoiseKind = Literal["normal", "uniform"]
NOISES: tuple[NoiseKind, ...] = get_args(NoiseKind)


class Start(Protocol):
    """How delta^0 is drawn."""

    def draw(self, site: Site, ball: Ball) -> Tensor:
        """delta^0 at a site that has this ball, B x T x C, 0 where its mask is false."""


@dataclass(frozen=True)
class AtRest:
    """At zero."""

    def draw(self, site: Site, ball: Ball) -> Tensor:
        """See `Start`."""
        return site.zero


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """N(0, sigma^2) in each component; not projected, the first step does that.

    :param init_std: sigma.
    """

    init_std: float = field(
        metadata=means("standard deviation sigma of each component of the initial perturbation")
    )

    def __post_init__(self) -> None:
        at_least("init_std", self.init_std, 0)

    def draw(self, site: Site, ball: Ball) -> Tensor:
        """See `Start`."""
        if self.init_std == 0:  # and nothing is drawn
            return site.zero
        return torch.randn_like(site.zero) * self.init_std * site.mask


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise that stays as it is drawn (Aghajanyan et al., ICLR 2021, section 3: R3F's z).

    :param noise: `normal`, N(0, sigma^2) in each component, or `uniform`, U(-sigma, sigma).
    :param noise_size: sigma.
    """

    noise: NoiseKind = field(metadata=means("distribution of each component of the noise"))
    noise_size: float = field(
        metadata=means("sigma: standard deviation of normal noise, the largest of uniform noise")
    )

    def __post_init__(self) -> None:
        one_of("noise", self.noise, NOISES)
        at_least("noise_size", self.noise_size, 0)

    def draw(self, site: Site, ball: Ball) -> Tensor:
        """See `Start`."""
        zero = site.zero
        unit = torch.randn_like(zero) if self.noise == "normal" else 2 * torch.rand_like(zero) - 1
        return unit * self.noise_size * site.mask


@dataclass(frozen=True)
class Sphere:
    """Uniform on the surface of the ball: a random direction, and all of the radius.

    In the maximum norm, where that is the surface of a cube, a corner of it: + or - epsilon.
    """

    def draw(self, site: Site, ball: Ball) -> Tensor:
        """See `Start`."""
        noise = torch.randn_like(site.zero) * site.mask
        if ball.norm == "linf":
            return noise.sign() * ball.epsilon
        length = ball.norm_of(noise)
        return noise * (ball.epsilon / torch.where(length > 0, length, 1.0))


@dataclass(frozen=True)
class Uniform:
    """Uniform in the ball.

    U(-epsilon, epsilon) in each component, in an l2 ball divided by the square root of the number
    of components that a norm is taken over (FreeLB, Algorithm 1).
    """

    def draw(self, site: Site, ball: Ball) -> Tensor:
        """See `Start`."""
        zero, mask = site.zero, site.mask
        noise = (2 * torch.rand_like(zero) - 1) * ball.epsilon * mask
        if ball.norm == "linf":
            return noise
        per_place = zero[0].numel() // mask[0].numel()  # components that an entry of the mask is of
        if ball.norm_scope == "sentence":
            places = mask.sum(within_sentence(mask), keepdim=True).clamp(min=1)  # B x 1 x 1
        else:
            dims = within_sentence(mask)[1:]
            places = mask.sum(dims, keepdim=True).clamp(min=1)  # B x T x 1
        return noise * (places * per_place) ** -0.5
