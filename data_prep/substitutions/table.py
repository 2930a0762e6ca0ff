"""The file of substitutions: a word and a part of speech, and what may stand in its place.

Lines of four columns with tabs between: word, part of speech, synonyms, the nearest first, and
antonyms, these two with spaces between words. All is in lower case. Any such file may be given.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_prep.substitutions.wordnet import PARTS
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing, read_lines

NAME = "substitutions.tsv"
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
"""A word of a text, all of which is replaced, and all that takes its place."""
_HEADER = ("word", "part", "synonyms", "antonyms")


@dataclass(frozen=True)
class Choices:
    """What may stand for a word."""

    synonyms: tuple[str, ...]
    antonyms: tuple[str, ...]


Table = Mapping[tuple[str, str], Choices]
"""By word and part of speech."""


def write_table(table: Table, path: Path) -> None:
    """Write a file of substitutions, in the order of words."""
    with open_for_writing(path) as stream:
        print(*_HEADER, sep="\t", file=stream)
        for (word, part), choices in sorted(table.items()):
            columns = (" ".join(choices.synonyms), " ".join(choices.antonyms))
            print(word, part, *columns, sep="\t", file=stream)


def read_table(path: Path) -> Table:
    """Read a file of substitutions. Raises DataPrepError that names the line that is none."""
    lines = enumerate(read_lines(path), start=1)
    if tuple(next(lines, (0, ""))[1].split("\t")) != _HEADER:
        raise DataPrepError(f"{path}: its first line is not {' '.join(_HEADER)}, with tabs between")
    return dict(_entries(path, lines))


def _entries(
    path: Path, lines: Iterable[tuple[int, str]]
) -> Iterator[tuple[tuple[str, str], Choices]]:
    seen = set()
    for number, line in lines:
        columns = line.split("\t")
        if len(columns) != len(_HEADER):
            raise DataPrepError(
                f"{path}: line {number}: {len(columns)} columns, where 4 are wanted"
            )
        word, part, *others = columns
        synonyms, antonyms = (tuple(column.split()) for column in others)
        if part not in PARTS:
            raise DataPrepError(f"{path}: line {number}: {part} is none of {', '.join(PARTS)}")
        for one in (word, *synonyms, *antonyms):
            if not WORD.fullmatch(one) or one != one.lower():
                raise DataPrepError(f"{path}: line {number}: {one!r} is no word in lower case")
        if (word, part) in seen:
            raise DataPrepError(f"{path}: line {number}: {word} as {part} is there twice")
        if word in (*synonyms, *antonyms) or set(synonyms) & set(antonyms):
            raise DataPrepError(
                f"{path}: line {number}: {word} has itself, or a word as its synonym and antonym"
            )
        seen.add((word, part))
        yield (word, part), Choices(synonyms, antonyms)
