"""What a game has measured: from its parts to the log."""

from __future__ import annotations

import math
from typing import Any

from fairseq.logging import metrics
from fairseq.utils import get_perplexity
from torch import Tensor

from fairseq_adv.core.comparison.task_loss import TaskLoss
from fairseq_adv.core.gauges import delta_norm
from fairseq_adv.core.method import Method, Step

_COUNTED = {
    "nll_loss": "nll_ntokens",
    "adv_loss": "adv_ntokens",
    "adv_gain": "gauged_ntokens",
    "proximal_loss": "proximal_ntokens",
    "delta_norm": "perturbed_sentences",
}
"""How many target tokens, or sentences, a sum in the log is of."""


class Measures:
    """Sums over the target tokens, or sentences, of a game's parts."""

    def __init__(self) -> None:
        self.task_losses = 1
        self._found: dict[str, Tensor] = {}

    def add(self, step: Step, method: Method) -> None:
        """One part of a game."""
        self.task_losses = step.task_losses
        found = {
            "objective": step.objective,
            "adv_loss": step.adv_loss,
            "adv_gain": step.adv_gain,
            "proximal_loss": step.proximal_loss,
        }
        if step.clean_loss is not None:
            assert isinstance(step.clean_loss, TaskLoss), "it is the game's"
            found["nll_loss"] = step.clean_loss.nll
        if method.follower is not None and step.delta:
            sentences = next(iter(step.delta.values())).size(0)
            found["delta_norm"] = delta_norm(step.delta, method.follower.ball) * sentences
        for name, value in found.items():
            if value is not None:
                self._found[name] = self._found[name] + value if name in self._found else value

    @property
    def objective(self) -> Tensor:
        """The objective's value, summed."""
        return self._found["objective"]

    def log(self, names: tuple[str, ...], tokens: int, sentences: int) -> dict[str, Any]:
        """The logging output of one batch: sums, and how many they are of.

        :param names: what is logged: 0, of no tokens, where there was nothing to measure.
        """
        log: dict[str, Any] = {
            # Its gradient is averaged over passes' task losses; it is logged as what it is.
            "loss": self.objective * self.task_losses,
            "ntokens": tokens,
            "nsentences": sentences,
        }
        for name in names:
            number = sentences if name == "delta_norm" else tokens
            log[name] = self._found.get(name, self.objective.new_zeros(()))
            log[_COUNTED[name]] = number if name in self._found else 0
        return log


def are_of_games(logging_outputs: list[dict[str, Any]]) -> bool:
    """Whether these come from games, and not from validation or plain updates."""
    return any(_COUNTED["nll_loss"] in log for log in logging_outputs)


def reduce(logging_outputs: list[dict[str, Any]]) -> None:
    """Log, beside fairseq's own, what games did; absent where nothing was measured.

    `adv_loss`, `adv_gain` and `proximal_loss` are in bits per target token, like fairseq's
    `loss` and `nll_loss`; `delta_norm` is in embedding units.
    """

    def total(key: str) -> Any:
        return sum(log.get(key, 0) for log in logging_outputs)

    size, clean = total("sample_size"), total(_COUNTED["nll_loss"])
    metrics.log_scalar("loss", total("loss") / size / math.log(2), size, round=3)
    if clean > 0:
        nll = total("nll_loss") / clean / math.log(2)
        metrics.log_scalar("nll_loss", nll, clean, round=3)
        metrics.log_derived("ppl", lambda meters: get_perplexity(meters["nll_loss"].avg))
    for name in ("adv_loss", "adv_gain", "proximal_loss", "delta_norm"):
        n = total(_COUNTED[name])
        if n > 0:
            unit = 1.0 if name == "delta_norm" else math.log(2)
            metrics.log_scalar(name, total(name) / n / unit, n, round=6)
