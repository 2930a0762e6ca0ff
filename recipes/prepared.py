"""What evaluation reads of a directory that data_prep made: sentences, and how they are written."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep.lines import read_lines
from recipes.errors import RecipeError
from recipes.files import data_report, sentences
from recipes.generation import detokenize


@dataclass(frozen=True)
class Prepared:
    """A corpus in a directory that data_prep made.

    :param languages: source, target.
    :param subword: how words are cut, `bpe` or `sentencepiece`.
    :param lower_cases: whether the corpus is in lower case.
    """

    data: Path
    languages: tuple[str, str]
    subword: str
    lower_cases: bool

    @staticmethod
    def of(data: Path) -> "Prepared":
        """Read it from the report of a directory made by data_prep."""
        report = data_report(data)
        source, target = report["languages"]
        preparation = report["preparation"]
        return Prepared(data, (source, target), preparation["subword"], preparation["lower_cases"])

    def pairs(self, split: str) -> tuple[list[str], list[str]]:
        """Return the raw sentences of both languages. Raises RecipeError unless they are pairs."""
        source, target = (sentences(self.data, split, lang) for lang in self.languages)
        if len(source) != len(target):
            raise RecipeError(
                f"{self.data / 'raw'}: {split}.{self.languages[0]} has {len(source)} lines,"
                f" {split}.{self.languages[1]} {len(target)}"
            )
        return source, target

    def subwords(self, split: str) -> list[str]:
        """Return the source sentences in subwords."""
        return list(read_lines(self.data / "bpe" / f"{split}.{self.languages[0]}"))

    def plain(self, subwords: Iterable[str]) -> list[str]:
        """Return the plain text of translations in subwords."""
        return detokenize(subwords, self.languages[1], self.subword)
