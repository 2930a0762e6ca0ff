"""Corpora that are archives of folders, a class each, of files, a text each.

IMDB: film reviews (Maas et al., ACL 2011), negative or positive. Where they broke a line, they have
``<br />``; it becomes a space.

20 Newsgroups, by date (Lang, ICML 1995; Rennie): baseball against hockey. Headers, signatures and
quotations, which would tell the newsgroup, are taken out by scikit-learn's heuristics, as in the
preprocessing of Jain and Wallace (NAACL 2019), which Kitada and Iyatomi (2021) follow. A message
with no text of its own is then empty, and dropped.
"""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_prep.sentences.corpora.labelled_files import LabelledFiles, add_options_of_drawn
from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import numbered
from data_prep.sources.download import Archive
from data_prep.sources.release import gathered


def without_breaks(review: str) -> str:
    """Return a review of IMDB in one line."""
    return review.replace("<br />", " ").replace("\n", " ")


def own_text(message: str) -> str:
    """Return what a message to a newsgroup says itself, in one line; ``""`` if that is nothing.

    As scikit-learn's ``fetch_20newsgroups(remove=("headers", "footers", "quotes"))``.
    """
    from sklearn.datasets import _twenty_newsgroups as newsgroups  # takes a second

    text = newsgroups.strip_newsgroup_header(message)
    text = newsgroups.strip_newsgroup_footer(text)
    return newsgroups.strip_newsgroup_quoting(text).replace("\n", " ")


@dataclass(frozen=True)
class Folders:
    """A corpus of this kind.

    :param folders: in the archive, by split and class; classes in the order of their numbers.
    :param text: what is taken of the content of a file.
    :param valid: how many examples of train become valid, unless the user says so.
    """

    name: str
    summary: str
    archive: Archive
    encoding: str
    folders: Mapping[str, Mapping[str, str]]
    text: Callable[[str], str]
    valid: int

    def examples(self, path: Path, split: str, counts: SentenceCounts) -> Iterator[Example]:
        """Yield the texts of a class, which the file's name tells: ``train.positive``."""
        for number, line in numbered(path):
            counts.found[split] += 1
            label = path.name.removeprefix(f"{split}.")
            yield Example(split, label, (self.text(json.loads(line)),), path, number)

    def load(self, args: Namespace, out: Path) -> LabelledFiles:
        """See `SentenceEntry`."""
        wanted = {
            folder: f"{split}.{label}"
            for split, classes in self.folders.items()
            for label, folder in classes.items()
        }
        directory = gathered(self.archive, wanted, self.encoding, args.archive, out)
        files = {
            split: [directory / f"{split}.{label}" for label in classes]
            for split, classes in self.folders.items()
        }
        classes = tuple(self.folders["train"])
        task = Task(pairs=False, classes=classes, metrics=("--report-acc-and-f1",))
        return LabelledFiles(task, files, self.examples, args.hold_out)


CORPORA = (
    Folders(
        "imdb",
        "IMDB's film reviews, negative or positive",
        Archive(
            "aclImdb_v1.tar.gz",
            ("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
            84_125_825,
            "sha256:c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        ),
        "utf-8",
        {
            split: {"negative": f"{split}/neg", "positive": f"{split}/pos"}
            for split in ("train", "test")
        },
        without_breaks,
        5_000,
    ),
    Folders(
        "20news-baseball-hockey",
        "20 Newsgroups by date: messages on baseball or on hockey",
        Archive(
            "20news-bydate.tar.gz",
            (
                "http://qwone.com/~jason/20Newsgroups/20news-bydate.tar.gz",
                "https://ndownloader.figshare.com/files/5975967",  # scikit-learn's copy
            ),
            checksum="sha256:8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610",
        ),
        "latin-1",
        {
            split: {
                sport: f"20news-bydate-{split}/rec.sport.{sport}"
                for sport in ("baseball", "hockey")
            }
            for split in ("train", "test")
        },
        own_text,
        240,
    ),
)
"""A fifth of train becomes valid, as in the paper."""

ENTRIES = [
    SentenceEntry(
        corpus.name, corpus.summary, partial(add_options_of_drawn, valid=corpus.valid), corpus.load
    )
    for corpus in CORPORA
]
