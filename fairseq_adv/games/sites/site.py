"""What a place of attack in a fairseq model is, and the register of those that there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_adv.core.sites import Add, Edit, Keep


class UnsupportedModel(ValueError):
    """A model that has no such site, or none that can be edited; the message says why."""


class FairseqSite(ABC):
    """A site of one model and one batch; see `core.sites.Site`.

    :param model: wrapped for data-parallel training or not.
    :param sample: a batch as fairseq collates it.
    """

    def __init__(self, model: nn.Module, sample: dict[str, Any]) -> None:
        self.model: Any = model
        self.sample = sample

    @staticmethod
    @abstractmethod
    def check(model: nn.Module) -> None:
        """Raise UnsupportedModel if a model has no such site."""

    @cached_property
    @abstractmethod
    def zero(self) -> Tensor:
        """See `Site`."""

    @cached_property
    @abstractmethod
    def mask(self) -> Tensor:
        """See `Site`."""

    @cached_property
    def spared(self) -> Tensor:
        """See `Site`: nothing, unless a site says what."""
        return torch.zeros_like(self.mask)

    @property
    def is_known(self) -> bool:
        """Whether an edit can be applied; else a pass has to be looked at first."""
        return True

    def open(self) -> AbstractContextManager[None]:
        """A block for one pass of the model, which is computed so that it can be edited here."""
        return nullcontext()

    @abstractmethod
    def apply(self, edit: Edit) -> AbstractContextManager[None]:
        """A block for one pass of the model that is open here, in which it is edited."""


def edited(values: Tensor, edit: Edit) -> Tensor:
    """Values at a site as an edit makes them, in their own type."""
    if isinstance(edit, Add):
        return values + edit.values.to(values.dtype)
    if isinstance(edit, Keep):
        return values * edit.where.to(values.dtype)
    return edit.values.to(values.dtype).clone()  # some models go on in place


SITES: dict[str, type[FairseqSite]] = {}
"""By name, which `--perturb` takes."""


def register_site(name: str) -> Callable[[type[FairseqSite]], type[FairseqSite]]:
    """Register a class of sites under a name."""

    def register(site: type[FairseqSite]) -> type[FairseqSite]:
        if name in SITES:
            raise ValueError(f"there is a site called {name} already: {SITES[name].__name__}")
        SITES[name] = site
        return site

    return register
