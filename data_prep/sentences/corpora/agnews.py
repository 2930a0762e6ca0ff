"""AG News (Zhang et al., NeurIPS 2015), World against Business.

A text is the description of a story, without its title, as in the preprocessing of Jain and Wallace
(NAACL 2019), which Kitada and Iyatomi (2021) follow. What went wrong when the corpus was made,
backslashes for ends of lines and ``#39;`` for an apostrophe, is not undone.
"""

import csv
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data_prep.sentences.corpora.labelled_files import LabelledFiles, add_options_of_drawn
from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import numbered, wrong_columns
from data_prep.sources.download import Archive
from data_prep.sources.release import at_hand
from data_prep.support.errors import DataPrepError

_HOME = (
    "https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras"
    "/555590db4219b1243abb1918effd6a7425a2d75f/data/ag_news_csv/"
)
_FILES = {
    "train": Archive(
        "train.csv",
        (_HOME + "train.csv",),
        29_470_338,
        "sha256:76a0a2d2f92b286371fe4d4044640910a04a803fdd2538e0f3f29a5c6f6b672e",
    ),
    "test": Archive(
        "test.csv",
        (_HOME + "test.csv",),
        1_857_427,
        "sha256:521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
    ),
}
_LABELS = {"1": "world", "3": "business"}
_OTHERS = ("2", "4")
OTHER_TOPIC = "of another topic, sports or science and technology"
_VALID = 9_000  # as many as in the paper

TASK = Task(
    pairs=False,
    classes=tuple(_LABELS.values()),
    metrics=("--report-acc-and-f1",),
    source_labels={name: label for label, name in _LABELS.items()},
)


def stories(path: Path, split: str, counts: SentenceCounts) -> Iterator[Example]:
    """Yield the description of each story of the two topics.

    Raises DataPrepError for a line that is not class, title and description.
    """
    reader = csv.reader((line + "\n" for _, line in numbered(path)), strict=True)
    try:
        for columns in reader:
            number = reader.line_num
            if len(columns) != 3:
                wanted = "class, title and description are wanted"
                raise wrong_columns(path, number, len(columns), wanted)
            label, _, text = columns
            counts.found[split] += 1
            if label in _OTHERS:
                counts.dropped[split][OTHER_TOPIC] += 1
            else:
                yield Example(split, _LABELS.get(label, label), (text,), path, number)
    except csv.Error as error:
        raise DataPrepError(f"{path}: line {reader.line_num} is no CSV: {error}") from error


def _load(args: Namespace, out: Path) -> LabelledFiles:
    paths = at_hand(list(_FILES.values()), args.archive, out / "download")
    files = {split: [paths[archive]] for split, archive in _FILES.items()}
    return LabelledFiles(TASK, files, stories, args.hold_out)


ENTRIES = [
    SentenceEntry(
        "agnews-world-business",
        "AG News: stories of the world or of business; for research",
        partial(add_options_of_drawn, valid=_VALID),
        _load,
    )
]
