"""Adversarial NLI (Nie et al., ACL 2020), version 1.0: three rounds, from its archive."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import objects
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, unpacked

_ARCHIVE = Archive(
    "anli_v1.0.zip",
    ("https://dl.fbaipublicfiles.com/anli/anli_v1.0.zip",),
    18_708_061,
    "sha256:e5c058f2bb4e6190b0651badca2c590e45db95248f8b28cde674615ee40820bf",
)
_ROUNDS = (1, 2, 3)
_NAMES = ("label", "context", "hypothesis")
_LABELS = {"e": "entailment", "n": "neutral", "c": "contradiction"}


@dataclass(frozen=True)
class AnliCorpus:
    """All rounds' train together; dev and test of each round are splits of their own."""

    files: Mapping[str, list[Path]]  # by split
    task = Task(
        pairs=True,
        classes=tuple(_LABELS.values()),
        source_labels={name: label for label, name in _LABELS.items()},
    )

    @property
    def splits(self) -> Mapping[str, str]:
        """See `SentenceCorpus`."""
        names = {"train": "anli-r1, anli-r2 and anli-r3"}
        for split in self.files:
            if split != "train":
                number = int(split.removeprefix("valid").removeprefix("test") or 0)
                names[split] = f"anli-r{number + 1}"
        return names

    def inputs(self) -> Mapping[str, Path]:
        """See `SentenceCorpus`."""
        return {path.name: path for paths in self.files.values() for path in paths}

    def held_out(self) -> Mapping[str, int | None]:
        """See `SentenceCorpus`."""
        return {}

    def read(self, counts: SentenceCounts) -> Iterator[Example]:
        """See `SentenceCorpus`. Raises DataPrepError for a line that is no example."""
        for split, paths in self.files.items():
            for path in paths:
                for number, (label, *texts) in objects(path, _NAMES, "ANLI"):
                    counts.found[split] += 1
                    yield Example(split, _LABELS.get(label, label), tuple(texts), path, number)


def _load(args: Namespace, out: Path) -> AnliCorpus:
    names = [f"R{r}/{part}.jsonl" for part in ("train", "dev", "test") for r in _ROUNDS]
    folder = unpacked({_ARCHIVE: names}, args.archive, out)
    files = {"train": [folder / f"R{number}-train.jsonl" for number in _ROUNDS]}
    for split, part in (("valid", "dev"), ("test", "test")):
        for number in _ROUNDS:
            name = f"{split}{number - 1 or ''}"
            files[name] = [folder / f"R{number}-{part}.jsonl"]
    return AnliCorpus(files)


ENTRIES = [
    SentenceEntry(
        "anli",
        "Adversarial NLI, three rounds; CC BY-NC 4.0",
        add_archive_option,
        _load,
    )
]
