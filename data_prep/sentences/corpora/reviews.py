"""Sentences with human scores of sentiment (Hutto and Gilbert, ICWSM 2014), from PyPI; MIT.

10,605 snippets of film reviews, each with the mean of some twenty ratings from -4 to 4. Snippets
of Amazon's reviews, the New York Times' editorials and tweets are tests, of other domains.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.selection.draws import hash_of
from data_prep.sentences.corpus import Example, SentenceCounts, SentenceEntry, Task
from data_prep.sentences.tables import rows, wrong_columns
from data_prep.sources.download import Archive
from data_prep.sources.pypi import SCHEME
from data_prep.sources.release import add_archive_option, unpacked
from data_prep.support.errors import DataPrepError
from data_prep.text.cleaning import clean_line

_ARCHIVE = Archive(
    "vaderSentiment-3.3.2.tar.gz",
    (f"{SCHEME}vadersentiment",),
    2_466_783,
    "sha256:5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
_FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
_OTHERS = {"test1": "amazon", "test2": "nyt", "test3": "tweets"}
_NEUTRAL = 0.3
NEUTRAL = f"neutral, a score from -{_NEUTRAL} to {_NEUTRAL}"
_SCORE = re.compile(r"[+-]?\d{1,9}(\.\d{1,99})?")


@dataclass(frozen=True)
class ReviewCorpus:
    """Films are train, valid and test, eight to one to one by a hash of the text."""

    folder: Path
    task: Task

    @property
    def splits(self) -> Mapping[str, str]:
        """See `SentenceCorpus`."""
        return {**dict.fromkeys(("train", "valid", "test"), "movies"), **_OTHERS}

    def inputs(self) -> Mapping[str, Path]:
        """See `SentenceCorpus`."""
        return {name: self.folder / file for name, file in _FILES.items()}

    def held_out(self) -> Mapping[str, int | None]:
        """See `SentenceCorpus`: they are cut by the corpus itself."""
        return {}

    def read(self, counts: SentenceCounts) -> Iterator[Example]:
        """See `SentenceCorpus`. Raises DataPrepError for a line that is no scored text."""
        for name, path in self.inputs().items():
            split = next((split for split, other in _OTHERS.items() if other == name), None)
            for number, columns in rows(path):
                if len(columns) != 3:
                    raise wrong_columns(path, number, len(columns), "id, score and text are wanted")
                _, score, text = columns
                # Which part a film's text is in depends on nothing else: the same with --scores.
                where = split or part_of(text)
                counts.found[where] += 1
                label = self._label(score, path, number)
                if label is None:
                    counts.dropped[where][NEUTRAL] += 1
                else:
                    yield Example(where, label, (text,), path, number)

    def _label(self, score: str, path: Path, number: int) -> str | None:
        if self.task.is_regression:
            return score
        if not _SCORE.fullmatch(score.strip()):
            raise DataPrepError(f"{path}: line {number}: {score!r} is no score")
        value = float(score)
        if abs(value) <= _NEUTRAL:
            return None
        return "positive" if value > 0 else "negative"


def part_of(text: str) -> str:
    """Return the split of a film's text; the same for each copy of it."""
    tenth = hash_of(clean_line(text, {}), "") * 10 >> 64
    return {0: "valid", 1: "test"}.get(tenth, "train")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--scores",
        action="store_true",
        help="predict the mean score, divided by 4, and not its sign; neutral texts stay then",
    )
    add_archive_option(parser)


def _load(args: Namespace, out: Path) -> ReviewCorpus:
    folder = unpacked(
        {_ARCHIVE: list(_FILES.values())}, args.archive, out, inner="hutto_ICWSM_2014.tar.gz"
    )
    if args.scores:
        return ReviewCorpus(
            folder,
            Task(
                pairs=False,
                is_regression=True,
                metrics=("--report-pearson-and-spearman",),
                divisor=4.0,
            ),
        )
    return ReviewCorpus(folder, Task(pairs=False, classes=("negative", "positive")))


ENTRIES = [
    SentenceEntry(
        "reviews",
        "sentiment of film reviews, tested on other domains too; MIT, from PyPI",
        _add_options,
        _load,
    )
]
