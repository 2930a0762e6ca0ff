"""When a game is played, with what part of its weight, and when its gauges are measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Of a training, update by update.

    :param interval: a game in every n-th update, its weight multiplied by n.
    :param warmup: updates over which the weight grows from 0.
    :param gauge_interval: gauges in every n-th game; 0: never.
    :param moves_weight: whether a weight is taken from the clean task loss: it is not multiplied.
    :param replays: of each group of batches. Gauges are measured in the last one: in the first,
        there is no perturbation yet.
    """

    interval: int
    warmup: int
    gauge_interval: int
    moves_weight: bool = False
    replays: int = 1

    def factor(self, update: int) -> float:
        """What weights are multiplied by: 0 between games, and ramped up from 0 at the start."""
        if update % self.interval != 0:
            return 0.0
        ramp = min(1.0, update / self.warmup) if self.warmup > 0 else 1.0
        return float((1 if self.moves_weight else self.interval) * ramp)

    def gauged(self, update: int, replay: int) -> bool:
        """Whether a game, if there is one, measures the gauges that cost extra passes.

        :param replay: of the same group of batches, from 0. Skipped updates are replays, but are
            not counted by the trainer.
        """
        game = update // (self.interval * self.replays)
        every = self.gauge_interval
        return every > 0 and game % every == 0 and replay == self.replays - 1
