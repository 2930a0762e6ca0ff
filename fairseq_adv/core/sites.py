"""Places of attack, and how a pass is changed there.

A site is where something of a pass can be changed: the word embeddings of one side, for instance.
Of each it is known what a perturbation of it looks like and where there is something to perturb;
all else, norms, balls, starts and steps, follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

ATTENTION = "attention"
"""The name of attention scores, whose unit is not that of embeddings."""

Delta = dict[str, Tensor]
"""One perturbation per perturbed site, by its name: as its `zero`, 0 where its mask is false."""


class Site(Protocol):
    """A place of attack in one batch of B sentences: T places in each, of C components each."""

    @property
    def zero(self) -> Tensor:
        """The perturbation that changes nothing: zeros B x T x C, in float32 or wider."""

    @property
    def mask(self) -> Tensor:
        """What there is to perturb: true there, false at padding; B x T x 1, or B x T x C."""

    @property
    def spared(self) -> Tensor:
        """What is never cut off: true at what marks a sentence and is no word; as the mask."""


@dataclass(frozen=True)
class Add:
    """Add these values at a site, B x T x C."""

    values: Tensor


@dataclass(frozen=True)
class Keep:
    """Set a site to zero where this is false: B x T x 1, or B x T x C."""

    where: Tensor


@dataclass(frozen=True)
class Replace:
    """Put these values in the place of a site's, B x T x C."""

    values: Tensor


Edit = Add | Keep | Replace

Edits = Mapping[str, Edit]
"""How a pass differs from the clean one, by the names of sites."""


def added(delta: Delta) -> Edits:
    """A perturbation as edits of a pass."""
    return {site: Add(values) for site, values in delta.items()}


def as_leaves(delta: Delta) -> Delta:
    """The same values as new tensors that gradients can be taken for."""
    return {site: d.detach().requires_grad_() for site, d in delta.items()}


def within_sentence(x: Tensor) -> tuple[int, ...]:
    """The dimensions of a sentence's part of x, whose first one counts sentences."""
    return tuple(range(1, x.dim()))


def per_sentence(values: Tensor, like: Tensor) -> Tensor:
    """One value for each sentence, B, in the shape of a factor of `like`: B x 1 x 1."""
    return values.view(-1, *(1 for _ in within_sentence(like)))
