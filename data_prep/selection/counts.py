"""What happened to the pairs of a corpus: found, dropped (and why), repaired, kept."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

SPLITS = ("train", "valid", "test")

EMPTY = "empty"
TOO_LONG = "too long"
OVERLONG = "overlong lines"

# What fairseq's transformer takes by default: 1,024 positions, of which one is the sentence's end.
MAX_SUBWORDS = 1023


@dataclass
class Counts:
    """All counters of the raw stage; ``dropped`` and the others are per split, in pairs."""

    corpus: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, Counter[str]] = field(
        default_factory=lambda: {split: Counter() for split in SPLITS}
    )
    kept: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)

    def reasons(self, split: str) -> str:
        """Return why pairs of ``split`` were dropped and how many, for messages."""
        return ", ".join(f"{n} {why}" for why, n in self.dropped[split].most_common())

    def as_json(self) -> dict[str, object]:
        """Return the counters as plain sorted dictionaries."""
        return {
            "corpus": dict(sorted(self.corpus.items())),
            "found": {split: self.found[split] for split in SPLITS},
            "dropped": {
                split: dict(sorted(reasons.items())) for split, reasons in self.dropped.items()
            },
            "kept": {split: self.kept[split] for split in SPLITS},
            "repaired lines": dict(sorted(self.repaired.items())),
        }


class Subwords(NamedTuple):
    """How often each subword is in a text, and how many lines have more than MAX_SUBWORDS."""

    words: Counter[str]
    overlong: int

    @classmethod
    def of(cls, lines: Iterable[str]) -> Self:
        """Count the subwords of ``lines``, which single spaces separate."""
        words: Counter[str] = Counter()
        overlong = 0
        for line in lines:
            subwords = line.split(" ")
            words.update(subwords)
            overlong += len(subwords) > MAX_SUBWORDS
        del words[""]
        return cls(words, overlong)
