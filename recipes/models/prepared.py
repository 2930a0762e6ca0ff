"""What evaluation reads of a directory that data_prep made: sentences, and how they are written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.preparation import Limits, Preparation
from data_prep.support.lines import read_lines
from data_prep.support.parallel import LineFunction
from data_prep.text.bpe import segmenter
from data_prep.text.cleaning import clean_line, strip_line
from data_prep.text.languages import follows_moses
from data_prep.text.pieces import piece_encoder
from data_prep.text.tokenization import tokenizer
from recipes.evaluation.scores import Scorer
from recipes.models.generation import detokenize
from recipes.support.errors import RecipeError
from recipes.support.files import data_report, sentences

SUBWORDS = {"bpe": "codes", "sentencepiece": "sentencepiece.model"}
"""The file that says how words are cut, by the kind of subword."""


@dataclass(frozen=True)
class Prepared:
    """A corpus in a directory that data_prep made.

    :param languages: source, target.
    :param bleu_tokenizer: the user's choice of sacreBLEU's tokeniser, if there is one.
    """

    data: Path
    languages: tuple[str, str]
    preparation: Preparation
    bleu_tokenizer: str | None = None

    @staticmethod
    def of(data: Path, languages: tuple[str, str] | None = None) -> "Prepared":
        """Read it from the report of a directory made by data_prep.

        :param languages: the corpus' own in the order of the translation; None is that of the
            corpus.
        """
        report = data_report(data)
        own = tuple(report["languages"])
        source, target = languages or own
        # It was named for the language that the corpus is translated into.
        tokenizer = report.get("bleu_tokenizer") if (source, target) == own else None
        preparation = as_preparation(report["preparation"])
        return Prepared(data, (source, target), preparation, tokenizer)

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
        return detokenize(subwords, self.languages[1], self.preparation.subword)

    @property
    def scorer(self) -> Scorer:
        """What scores translations. Raises RecipeError if what it needs is not installed."""
        return Scorer.of(self.languages[1], self.bleu_tokenizer)

    @property
    def has_moses_tokens(self) -> bool:
        """Whether the target side is subwords of tokens that Moses' rules made."""
        return self.preparation.subword == "bpe" and follows_moses(self.languages[1])

    @property
    def subwords_file(self) -> Path:
        """The file that says how words are cut."""
        return self.data / "bpe" / SUBWORDS[self.preparation.subword]


def as_preparation(values: Mapping[str, Any]) -> Preparation:
    """Return a preparation as it was before it was written as JSON."""
    limits = values["limits"]
    return Preparation(**{**values, "limits": limits and Limits(**limits)})


def preparer(preparation: Preparation, lang: str, subwords: Path) -> LineFunction:
    """Return a function from raw sentences to subwords joined by spaces, as in a corpus.

    :param subwords: see `SUBWORDS`.
    """
    repair = clean_line if preparation.repairs else strip_line
    if preparation.subword == "bpe":
        tokenize, segment = tokenizer(lang, preparation), segmenter(subwords)
    else:
        tokenize, segment = list, piece_encoder(subwords, preparation.lower_cases)

    def prepare(lines: list[str]) -> list[str]:
        return segment(tokenize([repair(line, {}) for line in lines]))

    return prepare
