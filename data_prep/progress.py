"""One look for all progress bars: only on a terminal, only when it takes more than two seconds."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    items: Iterable[T] | None, what: str, unit: str, total: int | None = None
) -> "tqdm[T]":
    """Return ``items`` behind a progress bar, or with None a bar to ``update`` by hand."""
    return tqdm(items, desc=what, unit=unit, total=total, delay=2, leave=False, disable=None)
