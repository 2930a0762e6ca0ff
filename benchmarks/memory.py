"""How much memory does an update take at its peak, above what is held between updates?

On the largest batch, with one thread: parameters, the optimizer's state and an average model do
not count, gradients do. There is no floor: it depends on which graphs are alive at once.
"""

from __future__ import annotations

import gc

import torch

from benchmarks.support.interleaved import PLAIN, machine
from benchmarks.support.models import Setup
from benchmarks.support.rows import Row
from benchmarks.update import CONTENDERS
from data_prep.support.progress import progress


def measure(setup: Setup) -> list[Row]:
    """Return a row per model and contender."""
    torch.set_num_threads(1)
    rows = []
    for model in setup.models:
        words = setup.options(model)
        plain = PLAIN.training(words, 1, setup.clock)
        peak = plain.peak(1)
        for contender in progress(CONTENDERS, f"memory, {model.name}", "contender"):
            training = contender.training(words, 1, setup.clock, plain)
            rows.append(memory_row(setup, contender.name, model.name, training.peak(1), peak))
            del training
            gc.collect()
    return rows


def memory_row(setup: Setup, name: str, model: str, peak: int, baseline: int) -> Row:
    """Return what to report of a peak and the baseline's, both in bytes."""
    return Row(
        name=name,
        model=model,
        threads=torch.get_num_threads(),
        ratio=peak / baseline,
        more={"bytes": peak, "baseline_bytes": baseline, **machine(setup.cuda)},
    )
