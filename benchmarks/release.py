"""Ours and the algorithm of SALT's published code, with its settings: time and memory.

`release` is `support.higher_salt`: 16 passes, where ours take 12 (exact, one-sided) or 14
(central). It is given fused attention where stock fairseq has it and no garbage is left to it when
its memory is measured, although `higher` leaves reference cycles: it can only look better for that.
"""

from __future__ import annotations

import importlib.util

import torch

from benchmarks.memory import memory_row
from benchmarks.support.interleaved import Contender, Times, all_trainings, take_turns
from benchmarks.support.models import Model, Setup
from benchmarks.support.rows import Row
from benchmarks.update import SALT
from recipes.comparison.measured import Training
from recipes.support.errors import RecipeError

_GAME = "--init-std 1e-4 --ascent-step-size 1e-4 --epsilon 0.3"  # as in the paper's Table 8
_SAME = f"{SALT} {_GAME} --ascent-rule sgd --clean-branch detached --divergence symmetric-kl"
RELEASE = Contender(
    "release",
    f"--task higher_salt --criterion label_smoothed_cross_entropy {_GAME}",
    passes=16,
    own_model=True,
)
OURS = (
    Contender("salt, exact", f"{_SAME} --unroll-method exact", 12),
    Contender("salt, one-sided", f"{_SAME} --unroll-method one-sided", 12),
    Contender("salt, central", f"{_SAME} --unroll-method central", 14),
)


def registered() -> bool:
    """Make the release's task known to fairseq; return False if `higher` is not there."""
    if importlib.util.find_spec("higher") is None:
        return False
    import benchmarks.support.higher_salt  # noqa: F401

    return True


def measure(setup: Setup) -> list[Row]:
    """Return rows of time and memory, to plain updates and to the release's, for each model."""
    if not registered():
        raise RecipeError(
            "the package higher is not there: pip install -r benchmarks/requirements.txt"
        )
    rows = []
    for model in setup.models:
        words = setup.options(model)
        rounds = setup.rounds(model)
        plain, trainings = all_trainings(setup, (RELEASE, *OURS), words, rounds)
        for threads in setup.threads:
            torch.set_num_threads(threads)
            times = take_turns(plain, trainings, rounds, f"release, {model.name}")
            rows += _times(setup, model, times, plain.tokens())
        torch.set_num_threads(1)
        rows += _memory(setup, model, trainings, plain.peak(1))
    return rows


def _times(setup: Setup, model: Model, times: dict[str, Times], tokens: float) -> list[Row]:
    release = times[RELEASE.name].seconds
    rows = [times[c.name].row_of(c, model, setup, tokens) for c in (RELEASE, *OURS)]
    return rows + [
        Times(times[contender.name].seconds, release).row(
            f"{contender.name}, over the release",
            model,
            setup,
            floor=_over(contender),
            tokens=tokens,
            baseline=RELEASE.name,
        )
        for contender in OURS
    ]


def _over(contender: Contender) -> float:
    assert contender.passes is not None and RELEASE.passes is not None
    return contender.passes / RELEASE.passes


def _memory(setup: Setup, model: Model, trainings: dict[str, Training], plain: int) -> list[Row]:
    def row(contender: Contender, name: str, baseline: int) -> Row:
        return memory_row(setup, name, model.name, peaks[contender.name], baseline)

    peaks = {name: training.peak(1) for name, training in trainings.items()}
    release = peaks[RELEASE.name]
    return [
        *(row(contender, f"{contender.name}, memory", plain) for contender in (RELEASE, *OURS)),
        *(row(c, f"{c.name}, memory over the release", release) for c in OURS),
    ]
