"""How an attack looks for words: searches that ask a classifier, many of them at a time.

A search is a generator: it yields examples whose probabilities it wants to know, N lists of texts,
is sent these, N x K, and returns what it has found. So searches of many examples go on at once, and
the classifier reads large batches.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.substitutions.words import Place, Substitutions, replaced
from recipes.attack.negation import negations

Texts = tuple[str, ...]
Reads = Callable[[Texts], Sequence[int]]
Ask = Generator[list[Texts], np.ndarray, "Attempt"]


@dataclass(frozen=True)
class Attempt:
    """What an attack on one example came to.

    :param succeeded: the classifier was led astray.
    :param texts: as they were changed; those of a failed attack are the nearest to success.
    :param changed: words before and after; of a negation the texts alone say it.
    :param candidates: whether there was anything to try.
    :param probability: of the right class, before and behind.
    :param calls: examples that the classifier has read for it.
    """

    succeeded: bool
    texts: Texts
    changed: tuple[tuple[str, str], ...]
    candidates: bool
    probability: tuple[float, float]
    calls: int


@dataclass(frozen=True)
class Word:
    """A place in one of the texts of an example."""

    side: int
    place: Place

    def of(self, texts: Texts) -> str:
        """Return what is written there."""
        return texts[self.side][self.place.start : self.place.end]


def words_of(substitutions: Substitutions, texts: Texts) -> list[Word]:
    """Return the words of an example that others may stand for."""
    return [
        Word(side, place) for side, text in enumerate(texts) for place in substitutions.places(text)
    ]


def with_words(texts: Texts, words: Sequence[tuple[Word, str]]) -> Texts:
    """Return an example with other words at some places."""
    return tuple(
        replaced(text, [(word.place, other) for word, other in words if word.side == side])
        for side, text in enumerate(texts)
    )


def by_importance(
    texts: Texts, words: Sequence[Word], label: int, before: float
) -> Generator[list[Texts], np.ndarray, list[Word]]:
    """Return words in the order of what the right class loses without each (Jin et al. 2020)."""
    if not words:
        return []
    without = yield [with_words(texts, [(word, "")]) for word in words]
    losses = before - without[:, label]
    return [words[n] for n in np.argsort(-losses, kind="stable")]


def fickle(
    substitutions: Substitutions, texts: Texts, label: int, before: float, most: int | None
) -> Ask:
    """Look for synonyms with which the answer changes, though it should not.

    TextFooler's way (Jin et al. 2020): from the most important word on each is replaced by the
    synonym that takes most from the right class, until another class has more.

    :param most: words that may change; None: all.
    """
    words = [w for w in words_of(substitutions, texts) if w.place.choices.synonyms]
    order = yield from by_importance(texts, words, label, before)
    chosen: list[tuple[Word, str]] = []
    now, calls, tried, succeeded = before, len(words), False, False
    for word in order:
        if most is not None and len(chosen) >= most:
            break
        others, candidates = [], []
        for other in word.place.choices.synonyms:
            candidate = with_words(texts, [*chosen, (word, other)])
            if substitutions.keeps_its_part(candidate[word.side], word.place):
                others.append(other)
                candidates.append(candidate)
        if not candidates:
            continue
        tried = True
        found = yield candidates
        calls += len(candidates)
        astray = np.flatnonzero(found.argmax(1) != label)
        # Synonyms come in the order of their nearness: of several that lead astray the first.
        best = int(astray[0]) if len(astray) else int(found[:, label].argmin())
        if len(astray) or found[best, label] < now:
            chosen.append((word, others[best]))
            now = float(found[best, label])
        if len(astray):
            succeeded = True
            break
    return Attempt(
        succeeded, with_words(texts, chosen), _told(texts, chosen), tried, (before, now), calls
    )


def obstinate(
    substitutions: Substitutions,
    texts: Texts,
    label: int,
    before: float,
    confident: bool,
    reads: Reads,
) -> Ask:
    """Look for an antonym of one word with which the answer stays, though it should change.

    In the order of importance; of the antonyms of a word that which leaves most to the old answer.

    :param confident: it succeeds only if the old answer becomes more probable, as in the released
        code of Chen et al. (2022); in the paper it has to stay alone.
    :param reads: what the classifier reads of an example. It may not read the end of a long one,
        and an answer stays that has not met the change.
    """
    words = [w for w in words_of(substitutions, texts) if w.place.choices.antonyms]
    order = yield from by_importance(texts, words, label, before)
    candidates = []
    for word in order:
        for other in word.place.choices.antonyms:
            candidate = with_words(texts, [(word, other)])
            keeps = substitutions.keeps_its_part(candidate[word.side], word.place)
            if keeps and reads(candidate) != reads(texts):
                candidates.append((word, other, candidate))
    if not candidates:
        return Attempt(False, texts, (), False, (before, before), len(words))
    found = yield [candidate for _, _, candidate in candidates]
    n, succeeded = _kept(found, label, before, confident, [word for word, _, _ in candidates])
    word, other, changed = candidates[n]
    return Attempt(
        succeeded,
        changed,
        _told(texts, [(word, other)]),
        True,
        (before, float(found[n, label])),
        len(words) + len(candidates),
    )


def negated(texts: Texts, label: int, before: float, confident: bool, reads: Reads) -> Ask:
    """Look for a verb to negate with which the answer stays, though it should change."""
    candidates = [
        (*texts[:side], changed, *texts[side + 1 :])
        for side, text in enumerate(texts)
        for changed in negations(text)
    ]
    candidates = [candidate for candidate in candidates if reads(candidate) != reads(texts)]
    if not candidates:
        return Attempt(False, texts, (), False, (before, before), 0)
    found = yield candidates
    n, succeeded = _kept(found, label, before, confident, [0] * len(candidates))
    return Attempt(
        succeeded, candidates[n], (), True, (before, float(found[n, label])), len(candidates)
    )


def _kept(
    found: np.ndarray, label: int, before: float, confident: bool, groups: Sequence[object]
) -> tuple[int, bool]:
    """Return the first group's best candidate that keeps the answer, and whether there is one.

    Without, that which leaves most to the old answer.
    """
    keeps = found.argmax(1) == label
    if confident:
        keeps &= found[:, label] > before
    for group in dict.fromkeys(groups):
        kept = [n for n, of in enumerate(groups) if of == group and keeps[n]]
        if kept:
            return max(kept, key=lambda n: float(found[n, label])), True
    return int(found[:, label].argmax()), False


def _told(texts: Texts, words: Sequence[tuple[Word, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((word.of(texts), other) for word, other in words)


def played(
    searches: Sequence[Ask],
    ask: Callable[[list[Texts]], np.ndarray],
    at_a_time: int = 256,
) -> Iterator[Attempt]:
    """Yield what each search returns, in their order.

    :param ask: returns the probabilities of examples, N x K.
    :param at_a_time: searches that go on at once, for memory.
    """
    for first in range(0, len(searches), at_a_time):
        group = searches[first : first + at_a_time]
        results: list[Attempt | None] = [None] * len(group)
        waiting = dict(_advanced(group, dict.fromkeys(range(len(group))), results))
        while waiting:
            answers = ask([example for wanted in waiting.values() for example in wanted])
            sent, begin = {}, 0
            for number, wanted in waiting.items():
                sent[number] = answers[begin : begin + len(wanted)]
                begin += len(wanted)
            waiting = dict(_advanced(group, sent, results))
        yield from (result for result in results if result is not None)


def _advanced(
    group: Sequence[Ask],
    sent: Mapping[int, np.ndarray | None],
    results: list[Attempt | None],
) -> Iterator[tuple[int, list[Texts]]]:
    """Let searches go on; yield what those that are not done want to know."""
    for number, answer in sent.items():
        try:
            wanted = next(group[number]) if answer is None else group[number].send(answer)
        except StopIteration as end:
            results[number] = end.value
        else:
            yield number, wanted
