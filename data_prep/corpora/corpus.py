"""What the pipeline needs of a corpus."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from data_prep.preparation import Preparation
from data_prep.selection.counts import Counts


class Example(NamedTuple):
    """One sentence pair; ``split`` is ``train``, ``valid`` or ``test``."""

    split: str
    source: str
    target: str


@dataclass(frozen=True)
class Encoded:
    """A release that was tokenised and BPE-encoded by others; train is tokens already.

    :param codes: merge operations, as subword-nmt writes them.
    :param tokens: by language, files of sentences and of their tokens, line by line.
    :param subwords: by split, the encoded text without the language in its name.
    """

    codes: Path
    tokens: Mapping[str, Sequence[tuple[Path, Path]]]
    subwords: Mapping[str, Path]


class Corpus(Protocol):
    """A parallel corpus that is at hand: everything is downloaded."""

    @property
    def source_lang(self) -> str:
        """Language code of the source, as in file names."""

    @property
    def target_lang(self) -> str:
        """Language code of the target."""

    @property
    def preparation(self) -> Preparation:
        """What is done to its text."""

    def encoded(self) -> Encoded | None:
        """Return what of it is tokenised and encoded already."""

    def inputs(self) -> Mapping[str, Path]:
        """Return the files whose content decides the result, under stable names."""

    def held_out(self) -> Mapping[str, int | None]:
        """Return the splits that are to be drawn from train, and how many pairs for each.

        None stands for 1,000, or a tenth of train if that is less.
        """

    def read(self, counts: Counts) -> Iterator[Example]:
        """Yield the pairs that are worth keeping, in a fixed order; none for splits held out.

        Every pair seen is counted in ``counts.found``, every pair held back in ``counts.dropped``;
        sentences need not be cleaned. The caller drops empty and overlong ones.
        """


@dataclass(frozen=True)
class CorpusEntry:
    """One CORPUS of the command line."""

    name: str
    summary: str
    add_options: Callable[[ArgumentParser], None]
    # Second argument: the output directory, where downloads are kept.
    load: Callable[[Namespace, Path], Corpus]
