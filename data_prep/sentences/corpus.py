"""What the stages need of a corpus of sentences, or of pairs of them, with labels."""

from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

NO_GOLD = "without a gold label"


class Example(NamedTuple):
    """One or two texts, and their class or score, ``""`` where it is not known.

    ``line`` of ``file`` is where it stands, for messages.
    """

    split: str
    label: str
    texts: tuple[str, ...]
    file: Path
    line: int


@dataclass(frozen=True)
class Task:
    """What is to be predicted.

    :param classes: in the order of their numbers; None for those that train has, or for scores.
    :param metrics: options of fairseq's criterion that belong to it, beside accuracy.
    :param divisor: of scores, on the way from ``raw`` to ``bin``.
    :param source_labels: what the corpus calls a class, where that is another name.
    """

    pairs: bool
    classes: tuple[str, ...] | None = None
    is_regression: bool = False
    metrics: tuple[str, ...] = ()
    divisor: float = 1.0
    source_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """As the report has it."""
        return "regression" if self.is_regression else "classification"


class SentenceCorpus(Protocol):
    """A corpus that is at hand: everything is downloaded."""

    @property
    def task(self) -> Task:
        """What is to be predicted."""

    @property
    def splits(self) -> Mapping[str, str]:
        """What people call each split, by fairseq's names: train, valid, valid1, test, test1."""

    def inputs(self) -> Mapping[str, Path]:
        """Return the files whose content decides the result, under stable names."""

    def held_out(self) -> Mapping[str, int | None]:
        """Return the splits to be drawn from train; None: 1,000, or a tenth if that is less."""

    def read(self, counts: "SentenceCounts") -> Iterator[Example]:
        """Yield all examples, those of train first, in a fixed order; none for splits held out.

        Every example seen is counted in ``counts.found``, every one held back in
        ``counts.dropped``. The caller cleans, and checks labels.
        """


@dataclass
class SentenceCounts:
    """What happened to the examples of a corpus, by split."""

    found: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    kept: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)

    def reasons(self, split: str) -> str:
        """Return why examples were dropped and how many, for messages."""
        return ", ".join(f"{n} {why}" for why, n in self.dropped[split].most_common())


@dataclass(frozen=True)
class SentenceEntry:
    """One CORPUS of the command line."""

    name: str
    summary: str
    add_options: Callable[[ArgumentParser], None]
    # Second argument: the output directory, where downloads are kept.
    load: Callable[[Namespace, Path], SentenceCorpus]
