"""The words of a text that others may stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.substitutions.table import NAME, WORD, Choices, Table, read_table
from data_prep.substitutions.tagging import TAGGER, Tagger
from data_prep.support.errors import DataPrepError


@dataclass(frozen=True)
class Place:
    """A word in a text.

    :param start: of its characters; `end` is behind the last.
    :param number: among the words of the text, from 0.
    :param part: of speech.
    """

    start: int
    end: int
    number: int
    part: str
    choices: Choices


@dataclass(frozen=True)
class Substitutions:
    """What may stand for the words of texts."""

    table: Table
    tagger: Tagger

    @staticmethod
    def read(folder: Path) -> "Substitutions":
        """Read a directory of `python -m data_prep substitutions`.

        Raises DataPrepError if it is none.
        """
        for name in (NAME, TAGGER):
            if not (folder / name).is_file():
                raise DataPrepError(
                    f"{folder / name}: not there; `python -m data_prep substitutions` makes it"
                )
        return Substitutions(read_table(folder / NAME), Tagger.read(folder / TAGGER))

    def places(self, text: str) -> list[Place]:
        """Return the words that others may stand for, in the text's order."""
        spans = [match.span() for match in WORD.finditer(text)]
        found = []
        for number, ((start, end), part) in enumerate(zip(spans, self.parts(text), strict=True)):
            choices = part and self.table.get((text[start:end].lower(), part))
            if part and choices:
                found.append(Place(start, end, number, part, choices))
        return found

    def parts(self, text: str) -> list[str | None]:
        """Return the part of speech of each word of a text."""
        return self.tagger.parts([match[0] for match in WORD.finditer(text)])

    def keeps_its_part(self, text: str, place: Place) -> bool:
        """Return whether a changed text has the same part of speech at a place.

        :param text: with as many words as the one that the place is of.
        """
        parts = self.parts(text)
        return place.number < len(parts) and parts[place.number] == place.part


def replaced(text: str, words: Sequence[tuple[Place, str]]) -> str:
    """Return a text with other words at some places, each in the case of what was there.

    :param words: places of the text, with what is put there; an empty one takes a word away, and a
        space with it.
    """
    for place, word in sorted(words, key=lambda pair: pair[0].start, reverse=True):
        before, behind = text[: place.start], text[place.end :]
        if not word and (not before or before[-1].isspace()):
            behind = behind.removeprefix(" ")
        text = f"{before}{in_case_of(text[place.start : place.end], word)}{behind}"
    return text


def in_case_of(original: str, word: str) -> str:
    """Return a word in lower case, or with capitals as the original has them."""
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word
