"""One look for all progress bars: only on a terminal, only when it takes more than two seconds."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    items: Iterable[T] | None, what: str, unit: str, total: int | None = None, done: int = 0
) -> "tqdm[T]":
    """Return ``items`` behind a progress bar, or with None a bar to ``update`` by hand.

    ``done`` of ``total`` are there before it begins. The unit ``B`` is shown as kB, MB, GB.
    """
    return tqdm(
        items,
        desc=what,
        unit=unit,
        unit_scale=unit == "B",
        total=total,
        initial=done,
        delay=2,
        leave=False,
        disable=None,
    )
