"""What a game has measured: from its parts to the log."""

from __future__ import annotations

import math
from typing import Any

from fairseq.logging import metrics
from fairseq.utils import get_perplexity
from torch import Tensor

from fairseq_adv.core.gauges import delta_norms
from fairseq_adv.core.method import Method, Step
from fairseq_adv.games.game import FairseqGame

_OF = "_of"
"""Ends the name of how many predictions, or sentences, a sum in the log is of."""

_SHOWN = {
    "nll_loss": (math.log(2), 3),
    "clean_loss": (math.log(2), 3),
    "adv_loss": (math.log(2), 6),
    "adv_gain": (math.log(2), 6),
    "proximal_loss": (math.log(2), 6),
    "delta_norm": (1.0, 6),
    "attention_delta_norm": (1.0, 6),
    "ncorrect": (0.01, 1),
}
"""The unit of a mean in the log (bits, as of fairseq's own losses; per cent), and its digits."""
_CALLED = {"ncorrect": "accuracy"}
"""What a mean is called, if not as the sum."""


class Measures:
    """Sums over the predictions, or sentences, of a game's parts."""

    def __init__(self) -> None:
        self.task_losses = 1
        self._found: dict[str, Tensor] = {}

    def add(self, step: Step, method: Method, game: FairseqGame) -> None:
        """One part of a game."""
        self.task_losses = step.task_losses
        found = {
            "objective": step.objective,
            "adv_loss": step.adv_loss,
            "adv_gain": step.adv_gain,
            "proximal_loss": step.proximal_loss,
        }
        if step.clean_loss is not None:
            found |= game.measured(step.clean_loss)
        if method.follower is not None and step.delta:
            sentences = next(iter(step.delta.values())).size(0)
            norms = delta_norms(step.delta, method.follower)
            found |= {name: norm * sentences for name, norm in norms.items()}
        for name, value in found.items():
            if value is not None:
                self._found[name] = self._found[name] + value if name in self._found else value

    @property
    def objective(self) -> Tensor:
        """The objective's value, summed."""
        return self._found["objective"]

    def log(self, names: tuple[str, ...], game: FairseqGame) -> dict[str, Any]:
        """The logging output of one batch: sums, and how many they are of.

        :param names: what is logged: 0, of none, where there was nothing to measure.
        :param game: on the whole batch.
        """
        log: dict[str, Any] = {
            # Its gradient is averaged over passes' task losses; it is logged as what it is.
            "loss": self.objective * self.task_losses,
            **game.counts,
            "sample_size": game.sample_size * self.task_losses,
        }
        for name in names:
            is_norm = name.endswith("delta_norm")  # of sentences, whatever is predicted
            number = game.sample["target"].size(0) if is_norm else game.predicted
            log[name] = self._found.get(name, self.objective.new_zeros(()))
            log[name + _OF] = number if name in self._found else 0
        return log


def are_of_games(logging_outputs: list[dict[str, Any]]) -> bool:
    """Whether these come from games, and not from validation or plain updates."""
    return any("adv_loss" + _OF in log for log in logging_outputs)


def reduce(logging_outputs: list[dict[str, Any]]) -> None:
    """Log, beside fairseq's own, what games did; absent where nothing was measured.

    Losses and divergences are in bits per target token or sentence, as fairseq logs its own, those
    of numbers too: squared differences are divided by log 2. `delta_norm` is in embedding units,
    `attention_delta_norm` in units of scores.
    """

    def total(key: str) -> Any:
        return sum(log.get(key, 0) for log in logging_outputs)

    size = total("sample_size")
    metrics.log_scalar("loss", total("loss") / size / math.log(2), size, round=3)
    for name, (unit, digits) in _SHOWN.items():
        n = total(name + _OF)
        if n > 0:
            metrics.log_scalar(_CALLED.get(name, name), total(name) / n / unit, n, round=digits)
            if name == "nll_loss":
                metrics.log_derived("ppl", lambda meters: get_perplexity(meters["nll_loss"].avg))
