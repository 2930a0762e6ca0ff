"""How far attention weights and importance agree: Pearson's correlation, and means of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEW, FLAT_ATTENTION, FLAT_IMPORTANCE = (
    "fewer than 2 words",
    "constant attention",
    "constant importance",
)
SENTENCE, TARGET_WORD = "sentence", "target word"
"""What one correlation is of."""
_ROUNDING = 1e-6  # of the largest value: weights and gradients are made in float32


@dataclass(frozen=True)
class Explained:
    """One sentence, what a model says of it, and by which of its words.

    :param number: of the sentence in its split, from 0.
    :param words: W, of the source.
    :param said: R, what is explained: the words of the target, or the one class that is predicted.
    :param attention: R x W weights; what they lack of 1 is on the end of the sentence and on marks.
    :param importance: R x W, of each row the sum is 1, or 0 where nothing matters.
    :param label: the right class; empty where there is none.
    """

    number: int
    words: list[str]
    said: list[str]
    attention: np.ndarray
    importance: np.ndarray
    label: str = ""

    @property
    def correlation(self) -> float | None:
        """The mean over what is said, where it is defined; None without any."""
        found = [
            pearson(*rows)
            for rows in zip(self.attention, self.importance, strict=True)
            if undefined(*rows) is None
        ]
        return float(np.mean(found)) if found else None


@dataclass(frozen=True)
class Agreement:
    """Of a split.

    :param unit: SENTENCE or TARGET_WORD.
    :param sentences: all of them.
    :param counted: of these, those with a correlation.
    :param correlation: the mean over them of each one's, itself the mean over its target words.
    :param standard_error: of that mean; None of fewer than two sentences.
    :param units: all of them.
    :param undefined: how many of them have no correlation, by why.
    :param attention_on_words: mean share of the attention that is not on marks.
    """

    unit: str
    sentences: int
    counted: int
    correlation: float | None
    standard_error: float | None
    units: int
    undefined: dict[str, int]
    attention_on_words: float | None


def undefined(attention: np.ndarray, importance: np.ndarray) -> str | None:
    """Return why there is no correlation of the values of W words, or None where there is."""
    if len(attention) < 2:
        return FEW
    if _is_flat(attention):
        return FLAT_ATTENTION
    return FLAT_IMPORTANCE if _is_flat(importance) else None


def _is_flat(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's correlation of two rows of as many values, neither of them constant."""
    one, other = first - first.mean(), second - second.mean()
    one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
    return float(np.clip(one @ other, -1, 1))


def agreement(explained: Sequence[Explained], unit: str) -> Agreement:
    """Return what the sentences of a split amount to."""
    correlations = np.array([c for of in explained if (c := of.correlation) is not None])
    counts = Counter(
        undefined(*rows)
        for of in explained
        for rows in zip(of.attention, of.importance, strict=True)
    )
    units = counts.total()
    on_words = sum(float(of.attention.sum()) for of in explained)
    error = correlations.std(ddof=1) / len(correlations) ** 0.5 if len(correlations) > 1 else None
    return Agreement(
        unit=unit,
        sentences=len(explained),
        counted=len(correlations),
        correlation=float(correlations.mean()) if len(correlations) else None,
        standard_error=None if error is None else float(error),
        units=units,
        undefined={why: counts[why] for why in (FEW, FLAT_ATTENTION, FLAT_IMPORTANCE)},
        attention_on_words=on_words / units if units else None,
    )


def to_show(explained: Sequence[Explained], most: int, longest: int) -> list[int]:
    """Return the places of at most so many sentences, at equal steps from low correlation to high.

    :param longest: words of a sentence that is shown, and of its target.
    """
    short = [
        place
        for place, of in enumerate(explained)
        if max(len(of.words), len(of.said)) <= longest and of.correlation is not None
    ]
    order = sorted(short, key=lambda place: (explained[place].correlation, place))
    steps = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return [order[step] for step in steps]
