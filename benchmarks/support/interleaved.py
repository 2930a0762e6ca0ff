"""Contenders take turns in one process: plain, A, plain, B, ... on one batch, then on the next.

What else keeps the machine busy then slows a contender and the plain updates about it down alike,
and a ratio is of two updates that were made one after the other on the same batch. All of them
train one model with one optimizer, so that any number fits into memory.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

import torch

from benchmarks.support.models import PLAIN_CRITERIONS, Model, Setup
from benchmarks.support.rows import Row
from data_prep.support.progress import progress
from recipes.comparison.measured import Training, settings_of


@dataclass(frozen=True)
class Contender:
    """A method and its options.

    :param options: of fairseq-train, beside those that all have; {task} is fairseq's, {plain} its
        own criterion.
    :param passes: of a model, counted as `update` says; None if that says nothing about it.
    :param gauged: every update of it measures the gauges; else none does.
    :param about: what its row says besides.
    :param own_model: its task changes the model, so that it cannot be the others'.
    """

    name: str
    options: str
    passes: float | None = None
    gauged: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    own_model: bool = False

    @property
    def floor(self) -> float | None:
        """What it costs at least, in plain updates, if passes were all that takes time."""
        return None if self.passes is None else self.passes / PLAIN_PASSES

    def words(self, common: Sequence[str]) -> list[str]:
        """Return its options, beside those that all have, which say what kind of task it is."""
        task = common[common.index("--task") + 1]
        return self.options.format(task=task, plain=PLAIN_CRITERIONS[task]).split()

    def training(
        self,
        words: Sequence[str],
        batches: int,
        clock: Callable[[], float],
        sharing: Training | None = None,
    ) -> Training:
        """Return its training, on so many batches.

        :param words: the options that all contenders have.
        :param sharing: whose model and optimizer to use, unless it has to have its own.
        """
        settings = settings_of(self.name, [*words, *self.words(words)])
        if self.gauged:
            settings.config.criterion.gauge_interval = 1
        return Training(settings, 1, batches, clock, None if self.own_model else sharing)


_CHOICE = 3
"""So many times the batches that are measured on are loaded, to choose from."""
PLAIN_PASSES = 3
"""A forward pass counts as 1 and a backward pass as 2."""
PLAIN = Contender("plain", "--task {task} --criterion {plain}", PLAIN_PASSES)
"""Stock fairseq, which all are compared with."""


@dataclass(frozen=True)
class Times:
    """Seconds per update of a contender and, on the same batches, of a plain one, by round."""

    seconds: list[float]
    plain: list[float]

    @property
    def ratios(self) -> list[float]:
        """What the contender's update costs in plain ones, by round."""
        return [mine / plain for mine, plain in zip(self.seconds, self.plain, strict=True)]

    def row(
        self,
        name: str,
        model: Model,
        setup: Setup,
        *,
        threads: int | None = None,
        floor: float | None = None,
        **more: object,
    ) -> Row:
        """Return what to report.

        :param threads: torch's in this process, if none are given.
        """
        ratios = self.ratios
        several = ratios if len(ratios) > 1 else ratios * 2
        low, _, high = statistics.quantiles(several, n=4, method="inclusive")
        return Row(
            name=name,
            model=model.name,
            threads=threads or torch.get_num_threads(),
            ratio=statistics.median(ratios),
            floor=floor,
            more={
                "low": low,
                "high": high,
                "seconds": statistics.median(self.seconds),
                "plain_seconds": statistics.median(self.plain),
                "rounds": len(ratios),
                **more,
                **machine(setup.cuda),
            },
        )

    def row_of(self, contender: Contender, model: Model, setup: Setup, tokens: float) -> Row:
        """Return what to report of a contender beside plain training.

        :param tokens: target tokens of an update, the mean.
        """
        floor, about = contender.floor, contender.about
        return self.row(contender.name, model, setup, floor=floor, tokens=tokens, **about)


def machine(cuda: bool) -> dict[str, object]:
    """Return what a row says of the machine."""
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "torch": torch.__version__,
    }


def update_seconds(training: Training, number: int) -> float:
    """Return the seconds per update on the `number`-th batch, the mean from game to game."""
    group = training.groups[number * training.replays % len(training.groups)]
    training.wait()
    began = training.clock()
    for _ in range(training.period):
        training.update(group)
    training.wait()
    return (training.clock() - began) / training.period


def all_trainings(
    setup: Setup, contenders: Sequence[Contender], words: Sequence[str], batches: int
) -> tuple[Training, dict[str, Training]]:
    """Return plain training and the contenders', warmed up, each on the same so many batches.

    :param words: the options that all have.
    """
    torch.set_num_threads(max(setup.threads))
    loaded = batches * _CHOICE
    plain = PLAIN.training(words, loaded, setup.clock)
    others = {c.name: c.training(words, loaded, setup.clock, plain) for c in contenders}
    keep_fullest((plain, *others.values()), batches)
    for _ in range(2):  # the second time, memory comes from what the others have given back
        for training in (plain, *others.values()):
            update_seconds(training, 0)
    return plain, others


def keep_fullest(trainings: Sequence[Training], number: int) -> None:
    """Leave each training the batches with the most target words, the same ones.

    Some have little but padding in their targets, which plain training projects as well and ours do
    not: the ratio is then no longer one of passes.
    """
    words = [sum(batch["ntokens"] for batch in group) for group in trainings[0].groups]
    chosen = sorted(nlargest(number, range(len(words)), key=words.__getitem__))
    for training in trainings:
        n, groups = training.replays, training.groups
        training.groups = [group for i in chosen for group in groups[i * n : (i + 1) * n]]


def take_turns(
    plain: Training, others: Mapping[str, Training], rounds: int, what: str
) -> dict[str, Times]:
    """Measure an update of each, on a batch in each round.

    :param what: the progress bar's title.
    """
    times = {name: Times([], []) for name in others}
    with progress(None, what, "update", total=rounds * len(others)) as bar:
        for number in range(rounds):
            for name, training in others.items():
                gc.collect()  # at a time of our choice; garbage is left by few contenders only
                times[name].plain.append(update_seconds(plain, number))
                times[name].seconds.append(update_seconds(training, number))
                bar.update()
    return times


def rows_in_turns(
    setup: Setup, model: Model, contenders: Sequence[Contender], words: Sequence[str]
) -> list[Row]:
    """Return a row for each contender and number of threads.

    :param words: options of fairseq-train for all.
    """
    rounds = setup.rounds(model)
    plain, trainings = all_trainings(setup, contenders, words, rounds)
    rows = []
    for threads in setup.threads:
        torch.set_num_threads(threads)
        times = take_turns(plain, trainings, rounds, f"{model.name}, {threads} threads")
        rows += [times[c.name].row_of(c, model, setup, plain.tokens()) for c in contenders]
    return rows
