"""A corpus that is files of one kind; its valid set may be drawn from train."""

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.sentences.corpus import Example, SentenceCounts, Task
from data_prep.sources.release import add_archive_option
from data_prep.support.arguments import positive


@dataclass(frozen=True)
class LabelledFiles:
    """Files by split, train first.

    :param examples: yields those of a file of a split, and counts them as `SentenceCorpus.read`.
    :param valid: how many examples of train are drawn to be valid; None where there is a file.
    """

    task: Task
    files: Mapping[str, Sequence[Path]]
    examples: Callable[[Path, str, SentenceCounts], Iterator[Example]]
    valid: int | None = None

    @property
    def splits(self) -> Mapping[str, str]:
        """See `SentenceCorpus`."""
        return {name: name for name in [*self.files, *self.held_out()]}

    def inputs(self) -> Mapping[str, Path]:
        """See `SentenceCorpus`."""
        return {path.name: path for paths in self.files.values() for path in paths}

    def held_out(self) -> Mapping[str, int | None]:
        """See `SentenceCorpus`."""
        return {} if self.valid is None else {"valid": self.valid}

    def read(self, counts: SentenceCounts) -> Iterator[Example]:
        """See `SentenceCorpus`. Raises DataPrepError for a file that is none of the corpus."""
        for split, paths in self.files.items():
            for path in paths:
                yield from self.examples(path, split, counts)


def add_options_of_drawn(parser: ArgumentParser, valid: int) -> None:
    """Let the user give copies of the archives, and say how many examples become ``valid``."""
    add_archive_option(parser)
    parser.add_argument(
        "--hold-out",
        type=positive,
        default=valid,
        metavar="N",
        help="hold out N examples of train, which is all there is, as valid, drawn at random by a"
        f" hash of the text; others with the same text are dropped (default: {valid:,})",
    )
