"""Updates that were skipped because their gradient is not finite: counted, and explained."""

from __future__ import annotations

import logging
import math
from typing import Any

from torch import Tensor

from fairseq_adv.trainer.hooks import Stop, UpdateSkipped

logger = logging.getLogger(__name__)

_LOSSES = (
    *("loss", "nll_loss", "clean_loss"),
    *("adv_loss", "proximal_loss", "adv_gain", "delta_norm", "attention_delta_norm"),
)
_SHOWN = 10
"""Sentences of a batch that a line of the log names."""


class SkippedUpdates:
    """Counts skipped updates, says in the log what was not finite, and when it has been enough.

    :param method: the criterion's name, for the log.
    :param limit: so many in a row are skipped; one more ends the training.
    """

    def __init__(self, method: str, limit: int) -> None:
        self.method = method
        self.limit = limit
        self.total = 0
        self.in_a_row = 0
        self._batches: list[tuple[Tensor, dict[str, Any]]] = []

    def begin_update(self) -> None:
        """Forget the batches of the update before."""
        self._batches.clear()

    def played(self, sample: dict[str, Any], log: dict[str, Any]) -> None:
        """A batch of this update, and what it logged."""
        self._batches.append((sample["id"], log))

    def end_update(self) -> None:
        """This one was not skipped."""
        self.in_a_row = 0

    def skip(self, update: int, skipped: UpdateSkipped, is_master: bool) -> Stop | None:
        """Count an update that was skipped. Returns a Stop if it has been enough."""
        self.total += 1
        found = [(ids, bad) for ids, log in self._batches if (bad := _not_finite(log))]
        level = logging.INFO if skipped.searching and not found else logging.WARNING
        if is_master:
            logger.log(level, f"update {update} is skipped: {skipped} ({self.total} so far)")
        for ids, bad in found:  # each worker of its own batches
            logger.warning(f"{self.method}: {', '.join(bad)} in the batch of {_sentences(ids)}")
        if is_master and not found and not skipped.searching:
            batches = "; ".join(_sentences(ids) for ids, _ in self._batches)
            logger.warning(f"{self.method}: losses are finite in the batch of {batches}")
        if not skipped.searching:
            self.in_a_row += 1
        if skipped.hopeless:
            return Stop(f"update {update} cannot be made: {skipped}", 1)
        if self.in_a_row > self.limit:
            return Stop(
                f"{self.in_a_row} updates in a row had a gradient that is not finite, where "
                f"--max-skipped-updates is {self.limit}: lower --lr or --adv-weight, or look at "
                "the sentences that the log names",
                1,
            )
        return None


def _not_finite(log: dict[str, Any]) -> list[str]:
    values = {name: float(log[name]) for name in _LOSSES if name in log}
    return [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]


def _sentences(ids: Tensor) -> str:
    numbers = sorted(ids.tolist())
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    rest = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"training sentences {shown}{rest} (counted from 0)"
