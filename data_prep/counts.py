"""What happened to the pairs of a corpus: found, dropped (and why), repaired, kept."""

from collections import Counter
from dataclasses import dataclass, field

SPLITS = ("train", "valid", "test")

EMPTY = "empty"
TOO_LONG = "too long"


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
