"""SNLI (Bowman et al., EMNLP 2015), version 1.0, from its archive; CC BY-SA 4.0."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from data_prep.sentences.corpora.labelled_files import LabelledFiles
from data_prep.sentences.corpus import NO_GOLD, Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import objects
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, unpacked

_ARCHIVE = Archive(
    "snli_1.0.zip",
    ("https://nlp.stanford.edu/projects/snli/snli_1.0.zip",),
    checksum="sha256:afb3d70a5af5d8de0d9d81e2637e0fb8c22d1235c2749d83125ca43dab0dbd3e",
)
_FILES = {
    "train": "snli_1.0_train.jsonl",
    "valid": "snli_1.0_dev.jsonl",
    "test": "snli_1.0_test.jsonl",
}
_NAMES = ("gold_label", "sentence1", "sentence2")
_UNDECIDED = "-"  # the label where no three of five people agreed

TASK = Task(pairs=True, classes=("entailment", "neutral", "contradiction"))


def pairs(path: Path, split: str, counts: SentenceCounts) -> Iterator[Example]:
    """Yield premise and hypothesis of each line. Raises DataPrepError if one is no example."""
    for number, (label, *texts) in objects(path, _NAMES, "SNLI"):
        counts.found[split] += 1
        if label == _UNDECIDED:
            counts.dropped[split][NO_GOLD] += 1
        else:
            yield Example(split, label, tuple(texts), path, number)


def _load(args: Namespace, out: Path) -> LabelledFiles:
    folder = unpacked({_ARCHIVE: list(_FILES.values())}, args.archive, out)
    return LabelledFiles(TASK, {split: [folder / name] for split, name in _FILES.items()}, pairs)


ENTRIES = [
    SentenceEntry(
        "snli", "SNLI: natural language inference; CC BY-SA 4.0", add_archive_option, _load
    )
]
