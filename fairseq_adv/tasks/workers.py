"""Workers that train one model together: how many there are, and when they share gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fairseq.distributed import (
    DistributedTimeoutWrapper,
    LegacyDistributedDataParallel,
    ModuleProxyWrapper,
)
from fairseq.models import BaseFairseqModel
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def synchronised_once(model: BaseFairseqModel) -> Iterator[None]:
    """Let the workers of a data-parallel training share gradients once, after the block.

    `DistributedDataParallel` would do so in the first backward pass after a forward pass, and a
    game takes several. `LegacyDistributedDataParallel` waits for fairseq to ask, as it should be.
    """
    parallel = shares_gradients(model)
    if not isinstance(parallel, DistributedDataParallel):
        yield
        return
    last_of_update = parallel.require_backward_grad_sync
    with parallel.no_sync():
        yield
    if last_of_update:
        LegacyDistributedDataParallel(parallel.module, parallel.process_group).all_reduce_grads()


_WRAPPERS = (ModuleProxyWrapper, DistributedTimeoutWrapper)
"""What fairseq puts around a model, in whatever order, that leaves gradients alone."""


def shares_gradients(model: nn.Module) -> nn.Module | None:
    """The wrapper that shares a model's gradients between workers; None where there is none.

    Exits if there are several workers and it is not known how they share gradients.
    """
    inner = model
    while isinstance(inner, _WRAPPERS):
        inner = inner.module
    if isinstance(inner, DistributedDataParallel | LegacyDistributedDataParallel):
        return inner
    if world_size() > 1:
        raise SystemExit(
            f"fairseq_adv: {type(inner).__name__} shares gradients between workers in a way that "
            "games have not been shown to be right with: use --ddp-backend legacy_ddp"
        )
    return None


def launched() -> int:
    """How many processes a launcher such as torchrun has started."""
    told = os.environ.get("WORLD_SIZE") or "1"
    if not told.isdecimal():
        raise SystemExit(
            f"fairseq_adv: the variable WORLD_SIZE is {told!r}: a launcher sets it to a number of"
            " processes; without one, unset it"
        )
    return int(told)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def world_size() -> int:
    """How many workers train one model."""
    return torch.distributed.get_world_size() if _distributed() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return torch.distributed.get_rank() if _distributed() else 0
