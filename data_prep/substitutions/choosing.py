"""Which words may stand for which: from WordNet, and vectors that are made fit."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data_prep.substitutions.counter_fitting import CounterFitting, Pair, neighbours
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
        found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        near = neighbours(table, 1 - self.least, len(words))
        for row, other in near.tolist():
            pair = words[row], words[other]
            for part in PARTS:
                said_so = pair in together[part] or pair in given
                opposed = pair in apart[part] or pair in opposite
                if said_so and not opposed and _have_a_form_in_common(forms, part, pair):
                    found[pair[0], part]["synonyms"].append(pair[1])
        for part in PARTS:
            inside = ((one, other) for one, other in opposite if _is(forms, part, one, other))
            for one, other in sorted({*apart[part], *inside}):
                found[one, part]["antonyms"].append(other)
        return {
            key: Choices(tuple(of["synonyms"][: self.most]), tuple(of["antonyms"][: self.most]))
            for key, of in found.items()
        }


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


def _have_a_form_in_common(forms: Forms, part: str, pair: Pair) -> bool:
    ours, theirs = (
        {reading.kind for reading in forms.readings(word) if reading.part == part} for word in pair
    )
    return bool(ours & theirs)


def _both(pairs: Iterable[Pair]) -> Iterator[Pair]:
    for one, other in pairs:
        yield one, other
        yield other, one


def _is(forms: Forms, part: str, *words: str) -> bool:
    """Return whether all words can be of a part of speech."""
    return all(any(r.part == part for r in forms.readings(word)) for word in words)
