"""Settings of players and methods: what is wrong with one, and what it means."""

from __future__ import annotations

import math
from typing import Any


class InvalidSetting(ValueError):
    """A setting out of its range: `name`, the `value` that was given, and what is `allowed`."""

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(f"{name} is {value!r}; allowed: {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


def means(meaning: str) -> dict[str, str]:
    """The metadata of a dataclass's field: what it means to a user. `--help` says that."""
    return {"help": meaning}


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise InvalidSetting if the value is none of these."""
    if value not in allowed:
        raise InvalidSetting(name, value, ", ".join(allowed))


def at_least(name: str, value: float, lowest: int) -> None:
    """Raise InvalidSetting if the value is smaller, infinite or no number."""
    if not lowest <= value < math.inf:
        raise InvalidSetting(name, value, f"a number from {lowest} up")
