"""Heads of sentences, which models here share: made, replaced, and fitted to checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

logger = logging.getLogger(__name__)

_HEADS = "classification_heads."


class Head(nn.Module):
    """From a sentence's vector to its classes, or scores."""

    def __init__(self, dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(dim, num_classes)

    def forward(self, sentences: Tensor) -> Tensor:
        """Return logits, B x K, of sentences, B x C."""
        return self.out_proj(self.dropout(sentences))


def put_head(heads: nn.ModuleDict, name: str, head: Head) -> None:
    """Add a head, or replace one; the log tells of one with another number of classes."""
    if name in heads:
        old = len(heads[name].state_dict()["out_proj.bias"])
        if old != head.out_proj.out_features:
            logger.warning(f"head {name} of {old} classes is replaced")
    heads[name] = head


def fit_heads(
    heads: nn.ModuleDict,
    state_dict: dict[str, Any],
    prefix: str,
    make: Callable[[str, int], None] | None,
) -> None:
    """Fit a checkpoint's heads to those that are here, in place.

    Heads that are not here, or have other sizes, are left out. What a checkpoint lacks stays as it
    was initialised.

    :param prefix: of the model in the checkpoint, "" or ending with a dot.
    :param make: makes a head that is not here, of a name and a number of classes; None: none is.
    """
    start = prefix + _HEADS
    for key in [key for key in state_dict if key.startswith(start)]:
        name = key.removeprefix(start).rpartition(".out_proj.")[0]
        size = state_dict.get(f"{start}{name}.out_proj.weight")
        if make is not None and name and size is not None and name not in heads:
            make(name, size.size(0))
        ours = heads.state_dict().get(key.removeprefix(start))
        if ours is None or ours.shape != state_dict[key].shape:
            logger.warning(f"the checkpoint's {key} does not fit this model: left out")
            del state_dict[key]
    for key, value in heads.state_dict().items():
        state_dict.setdefault(start + key, value)
