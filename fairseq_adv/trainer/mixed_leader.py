"""The leader's mixed strategy in a training: MAT's Algorithm 2, lines 7 to 12.

Its samples are fairseq's own updates on replays of one group of batches. After each, here, there is
noise and a mean; after the last, the model becomes the mean of what it was and of that. In between
it is a sample, and nobody's result: what is validated and saved is theta_t, from before the group.

All is done to what the optimizer steps: float32 masters, where there are any. The noise is the same
on all workers: it depends on the seed and on the update. Tests: tests/tasks/test_mixed_leader.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from fairseq.logging import metrics
from torch import Tensor

from fairseq_adv.core.players.mixed import MixedLeader, langevin_noise


class SampledLeader:
    """Told of updates as a task is; see `trainer.hooks`.

    :param strategy: how many samples, and what is made of them.
    :param gauge_interval: measure `leader_spread` and `noise_share` in every n-th group; 0: never.
    """

    def __init__(self, strategy: MixedLeader, gauge_interval: int) -> None:
        self._strategy = strategy
        self._gauge_interval = gauge_interval
        self._step_size = 0.0
        self._start: list[Tensor] = []
        """theta_t, from the beginning of a group to its end."""
        self._mean: list[Tensor] = []
        """theta-bar."""
        self._sample: list[Tensor] = []
        """The latest sample, while theta_t is in its place."""
        self._gauges: _Gauges | None = None

    def begin_update(self, trainer: Any, replay: int) -> None:
        """Before an update.

        :param replay: of its group, from 0.
        """
        self._put_back(trainer)
        parameters = _parameters(trainer)
        if replay == 0:
            self._start, self._mean = _copies(parameters), _copies(parameters)
            group = trainer.get_num_updates() // self._strategy.leader_samples
            every = self._gauge_interval
            self._gauges = _Gauges() if every > 0 and group % every == 0 else None
        if self._gauges is not None:
            self._gauges.begin_update(parameters)
        self._step_size = float(trainer.get_lr())  # in force in this update

    def end_update(self, trainer: Any, replay: int, *, skipped: bool = False) -> None:
        """After an update; one that is skipped has drawn no sample."""
        if not self._start:  # resumed in the middle of a group whose beginning is not known
            return
        parameters = _parameters(trainer)
        if not skipped:
            self._draw(trainer, parameters)
        if replay == self._strategy.leader_samples - 1:
            self._end(parameters)
        _synchronise(trainer)

    def _draw(self, trainer: Any, parameters: Sequence[Tensor]) -> None:
        noises = []
        if self._strategy.thermal_noise > 0 and self._step_size > 0:
            generator = torch.Generator(device=parameters[0].device)
            generator.manual_seed((trainer.cfg.common.seed << 32) + trainer.get_num_updates())
            epsilon = self._strategy.thermal_noise
            noises = [langevin_noise(p, self._step_size, epsilon, generator) for p in parameters]
        if self._gauges is not None:
            self._gauges.sampled(parameters, noises)
        for parameter, noise in zip(parameters, noises, strict=False):
            parameter.add_(noise.to(parameter.dtype))
        self._mean = [
            self._strategy.mixed(mean, p) for mean, p in zip(self._mean, parameters, strict=True)
        ]
        if self._gauges is not None:
            self._gauges.spread(self._start, parameters)

    def _end(self, parameters: Sequence[Tensor]) -> None:
        for parameter, start, mean in zip(parameters, self._start, self._mean, strict=True):
            parameter.copy_(self._strategy.mixed(start, mean))
        if self._gauges is not None:
            self._gauges.log(self._start, self._mean, parameters)
        self._start, self._mean, self._gauges = [], [], None

    def show_start(self, trainer: Any) -> None:
        """Put theta_t in the place of a sample, if there is one, until the next update."""
        if self._start and not self._sample:
            parameters = _parameters(trainer)
            self._sample = _copies(parameters)
            _put(self._start, parameters)
            _synchronise(trainer)

    def _put_back(self, trainer: Any) -> None:
        if self._sample:
            _put(self._sample, _parameters(trainer))
            self._sample = []
            _synchronise(trainer)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """What a checkpoint in the middle of a group has to have, on the CPU; else empty lists."""
        found = {"start": self._start, "mean": self._mean, "sample": self._sample}
        return {name: [tensor.cpu() for tensor in kept] for name, kept in found.items()}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Go on from what `state_dict` gave; gauges begin with the next group."""
        self._start, self._mean, self._sample = state["start"], state["mean"], state["sample"]
        self._gauges = None


class _Gauges:
    """What is measured of one group; see docs/gauges.md."""

    def __init__(self) -> None:
        self._before: list[Tensor] = []
        self._sum: list[Tensor] = []
        self._squares = 0.0
        self._shares: list[float] = []

    def begin_update(self, parameters: Iterable[Tensor]) -> None:
        self._before = _copies(parameters)

    def sampled(self, parameters: Sequence[Tensor], noises: Sequence[Tensor]) -> None:
        """After the optimizer's step, before the noise."""
        step = _length(p - b for p, b in zip(parameters, self._before, strict=True))
        self._before = []
        self._shares.append(_length(noises) / step if noises and step > 0 else 0.0)

    def spread(self, start: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
        """After the noise."""
        moved = [p.to(s.dtype) - s for p, s in zip(parameters, start, strict=True)]
        self._squares += _length(moved) ** 2
        self._sum = [a + b for a, b in zip(self._sum, moved, strict=True)] if self._sum else moved

    def log(
        self, start: Sequence[Tensor], mean: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> None:
        number = len(self._shares)
        update = _length(p.to(s.dtype) - s for p, s in zip(parameters, start, strict=True))
        if number == 0 or update == 0:
            return
        to_mean = [m - s for m, s in zip(mean, start, strict=True)]
        across = sum(float((a * b).sum()) for a, b in zip(to_mean, self._sum, strict=True))
        # mean over k of ||theta_k - theta-bar||^2, of differences to theta_t
        square = self._squares / number - 2 * across / number + _length(to_mean) ** 2
        metrics.log_scalar("leader_spread", max(square, 0.0) ** 0.5 / update, round=6)
        metrics.log_scalar("noise_share", sum(self._shares) / number, round=6)


def _parameters(trainer: Any) -> list[Tensor]:
    """What the optimizer steps, without gradient."""
    return [parameter.data for parameter in trainer.optimizer.params]


def _copies(parameters: Iterable[Tensor]) -> list[Tensor]:
    """In float32 or wider: a mean of 16 bits would stay where it is."""
    return [p.to(torch.promote_types(p.dtype, torch.float32), copy=True) for p in parameters]


def _put(values: Sequence[Tensor], parameters: Sequence[Tensor]) -> None:
    for value, parameter in zip(values, parameters, strict=True):
        parameter.copy_(value)


def _synchronise(trainer: Any) -> None:
    """Bring masters to the model, where there are any."""
    if hasattr(trainer.optimizer, "_sync_fp32_params_to_fp16"):
        trainer.optimizer._sync_fp32_params_to_fp16()


def _length(tensors: Iterable[Tensor]) -> float:
    return float(sum(float(t.double().square().sum()) for t in tensors)) ** 0.5
