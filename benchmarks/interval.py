"""What does it cost to play SALT's game in every n-th update only?"""

from __future__ import annotations

from benchmarks.support.interleaved import PLAIN_PASSES, Contender, rows_in_turns
from benchmarks.support.models import Setup
from benchmarks.support.rows import Row
from benchmarks.update import SALT

_GAME = 12  # passes
_INTERVALS = (1, 2, 4, 8)

CONTENDERS = tuple(
    Contender(
        f"salt, --adv-interval {n}",
        f"{SALT} --adv-interval {n}",
        ((n - 1) * PLAIN_PASSES + _GAME) / n,
        about={"series": "salt", "interval": n},
    )
    for n in _INTERVALS
)


def measure(setup: Setup) -> list[Row]:
    """Return a row per model, number of threads and interval."""
    return [
        row
        for model in setup.models
        for row in rows_in_turns(setup, model, CONTENDERS, setup.options(model))
    ]
