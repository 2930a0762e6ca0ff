"""How fast is training where memory limits the batch?

For each contender the largest --max-tokens is found with which the measured peak of an update is
not above that of a plain update with a given one; then target tokens per second are measured, of
all in turns, each with its own batches. The ratio is of tokens per second: less than 1 is slower.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

from benchmarks.release import RELEASE, registered
from benchmarks.support.interleaved import PLAIN, Contender, machine, update_seconds
from benchmarks.support.models import Model, Setup
from benchmarks.support.rows import Row
from benchmarks.update import CONTENDERS
from data_prep.support.progress import progress
from recipes.comparison.measured import Training

_LONGEST = 80
"""Longer sentences are left out for all: a small batch does not hold them."""
_TIMES = 4
"""At most so many times plain training's tokens are tried."""
_TOLERANCE = 0.03
_TRIES = 8
_METHODS = (
    *("adv", "rdrop", "simcut", "vat, K = 1", "smart, K = 1", "freelb, K = 3, divergence"),
    *("salt, exact", "salt, exact, detached", "salt, one-sided", "salt, one-sided, detached"),
)


def measure(setup: Setup) -> list[Row]:
    """Return a row per model, number of threads and contender."""
    by_name = {contender.name: contender for contender in CONTENDERS}
    contenders = [by_name[name] for name in _METHODS]
    if registered():
        contenders.append(RELEASE)
    return [row for model in setup.models for row in _measure(setup, model, contenders)]


def _measure(setup: Setup, model: Model, contenders: list[Contender]) -> list[Row]:
    rounds = setup.rounds(model)
    limits = ("--max-source-positions", str(_LONGEST), "--max-target-positions", str(_LONGEST))
    words = [*setup.options(model), *limits]
    torch.set_num_threads(max(setup.threads))

    def training(contender: Contender, tokens: int, sharing: Training | None) -> Training:
        return contender.training(
            [*words, "--max-tokens", str(tokens)], rounds, setup.clock, sharing
        )

    given = setup.tokens(model)
    plain = training(PLAIN, given, None)
    budget = plain.peak(1)
    trainings: dict[str, Training] = {}
    fitting: dict[str, int] = {}
    for contender in progress(contenders, f"tokens that fit, {model.name}", "contender"):

        def peak(tokens: int, contender: Contender = contender) -> int:
            gc.collect()  # the training with other batches
            return training(contender, tokens, plain).peak(1)

        fitting[contender.name] = largest(peak, budget, given, (_LONGEST, _TIMES * given))
        trainings[contender.name] = training(contender, fitting[contender.name], plain)
    rows = []
    for threads in setup.threads:
        torch.set_num_threads(threads)
        rates = rates_in_turns({PLAIN.name: plain, **trainings}, rounds)
        for name in (PLAIN.name, *trainings):
            more = {
                "max_tokens": fitting.get(name, given),
                "tokens_per_second": rates[name],
                "plain_tokens_per_second": rates[PLAIN.name],
                "budget_bytes": budget,
                "rounds": rounds,
                **machine(setup.cuda),
            }
            ratio = rates[name] / rates[PLAIN.name]
            rows.append(Row(name, model.name, threads, ratio, more=more))
    return rows


def largest(peak: Callable[[int], int], budget: int, first: int, between: tuple[int, int]) -> int:
    """Return about the largest number of tokens with which the peak is within the budget.

    :param peak: bytes, about a straight line over the tokens.
    :param first: to try.
    :param between: the least, to return where nothing else is found to fit, and the most.
    """
    low, most = between
    high, tokens = most + 1, first
    before = (0, 0)
    for _ in range(_TRIES):
        found = peak(tokens)
        if found <= budget:
            low = tokens
            if found >= (1 - _TOLERANCE) * budget:
                break
        else:
            high = tokens
        if high - low <= 1:
            break
        # Through the last two points, to the middle of what is near enough.
        slope = (found - before[1]) / (tokens - before[0])
        before = (tokens, found)
        tokens += int(((1 - _TOLERANCE / 2) * budget - found) / slope) if slope > 0 else 0
        tokens = min(tokens, most)
        if not low < tokens < high:
            tokens = (low + high) // 2
    return low


def rates_in_turns(trainings: dict[str, Training], rounds: int) -> dict[str, float]:
    """Return target tokens per second of each, of all its updates."""
    tokens = dict.fromkeys(trainings, 0)
    seconds = dict.fromkeys(trainings, 0.0)
    for training in trainings.values():
        update_seconds(training, 0)
    for number in progress(range(rounds), "tokens per second", "round"):
        for name, training in trainings.items():
            gc.collect()
            group = training.groups[number * training.replays % len(training.groups)]
            tokens[name] += sum(batch["ntokens"] for batch in group)
            seconds[name] += update_seconds(training, number)
    return {name: tokens[name] / seconds[name] for name in trainings}
