"""Figures over seeds."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OverSeeds:
    """A figure, by seed."""

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.by_seed.values())

    @property
    def std(self) -> float | None:
        """The standard deviation of a single run, from the sample; None for one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    def as_json(self) -> dict[str, Any]:
        """Return mean, std and by_seed."""
        by_seed = {str(seed): value for seed, value in self.by_seed.items()}
        return {"mean": self.mean, "std": self.std, "by_seed": by_seed}


def over_seeds(figure: OverSeeds, digits: int = 1, sign: str = "") -> str:
    """Return mean and standard deviation, as far as there is one."""
    std = "" if figure.std is None else f" ± {figure.std:.{digits}f}"
    return f"{figure.mean:{sign}.{digits}f}{std}"
