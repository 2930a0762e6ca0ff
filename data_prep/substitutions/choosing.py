"""Which words may stand for which: from WordNet, and vectors that are made fit."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data_prep.substitutions.counter_fitting import CounterFitting, Pair
from data_prep.substitutions.inflection import KINDS, Forms
from data_prep.substitutions.table import Choices, Table
from data_prep.substitutions.wordnet import PARTS, WordNet

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Choosing:
    """How it is done.

    :param least: cosine of synonyms, in the fitted vectors.
    :param most: synonyms of a word, and antonyms.
    """

    least: float
    most: int
    fitting: CounterFitting = field(default_factory=CounterFitting)

    def table(
        self,
        wordnet: WordNet,
        vectors: "Mapping[str, np.ndarray]",
        synonyms: Iterable[Pair] = (),
        antonyms: Iterable[Pair] = (),
    ) -> Table:
        """Return what may stand for what: the same form of a word of the same part of speech.

        Synonyms are near each other, and WordNet has them in one synset, or they are given;
        vectors alone say that too many are near which are not the same (docs/substitutions.md).
        Antonyms are WordNet's and those given; what is one is no synonym.

        :param vectors: of words in lower case.
        :param synonyms: pairs of words, of any part of speech.
        :param antonyms: the same.
        """
        forms = Forms(wordnet, vectors)
        known = {word: vectors[word] for word in forms if word in vectors}
        given, opposite = set(_both(synonyms)), set(_both(antonyms))
        apart = {part: set(_inflected(forms, wordnet, part, "antonyms")) for part in PARTS}
        together = {part: set(_inflected(forms, wordnet, part, "related")) for part in PARTS}
        firsts = {pair for part in PARTS for pair in _inflected(forms, wordnet, part, "synonyms")}
        words, table = self.fitting.fit(
            known, {*firsts, *given}, {*opposite, *(p for pairs in apart.values() for p in pairs)}
        )
        rows = {word: row for row, word in enumerate(words)}
        found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for part in PARTS:
            opposed = apart[part] | opposite
            said = {
                pair
                for pair in (together[part] | given) - opposed
                if _stands_for_all_forms(forms, part, pair)
            }
            for one, other in self._near(said, rows, table):
                found[one, part]["synonyms"].append(other)
            for pair in sorted(opposed):
                if _stands_for_all_forms(forms, part, pair):
                    found[pair[0], part]["antonyms"].append(pair[1])
        return {
            key: Choices(tuple(of["synonyms"][: self.most]), tuple(of["antonyms"][: self.most]))
            for key, of in found.items()
        }

    def _near(
        self, pairs: Iterable[Pair], rows: Mapping[str, int], table: "np.ndarray"
    ) -> list[Pair]:
        """Return pairs of words that are near each other; of each first word the nearest first."""
        cosines = {
            (one, other): float(table[rows[one]] @ table[rows[other]])
            for one, other in pairs
            if one in rows and other in rows
        }
        near = (pair for pair, cosine in cosines.items() if cosine > self.least)
        return sorted(near, key=lambda pair: (pair[0], -cosines[pair], pair[1]))


def _inflected(forms: Forms, wordnet: WordNet, part: str, relation: str) -> Iterator[Pair]:
    """Yield pairs of the same forms of related lemmas."""
    for lemma, others in getattr(wordnet[part], relation).items():
        for kind in KINDS[part]:
            one = forms.form(part, lemma, kind)
            if one is None:
                continue
            for other in others:
                form = forms.form(part, other, kind)
                if form is not None and form != one:
                    yield one, form


def _stands_for_all_forms(forms: Forms, part: str, pair: Pair) -> bool:
    """Return whether the second word can be all forms of a part of speech that the first may be.

    Began is no word for started, which may be a participle.
    """
    ours, theirs = (
        {reading.kind for reading in forms.readings(word) if reading.part == part} for word in pair
    )
    return bool(ours) and ours <= theirs


def _both(pairs: Iterable[Pair]) -> Iterator[Pair]:
    for one, other in pairs:
        yield one, other
        yield other, one
