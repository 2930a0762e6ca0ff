"""Typos and dropped words: by hand, and what holds of any sentence."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.evaluation import noise
from recipes.evaluation.noise import LETTERS, NOISES, noisy, typo, with_dropped_words, with_typos

SENTENCES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1).map(" ".join)
WORDS = st.text("abcdeßÄé-.,1'", min_size=1, max_size=9)
PLAIN = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
RATES = st.floats(0, 1)
SEEDS = st.integers(0, 1000)


class Script(random.Random):
    """Draws what the test says: the n-th of the things to choose from, and these numbers."""

    def __init__(self, *draws: Any) -> None:
        super().__init__(0)
        self.draws = list(draws)

    def choice(self, sequence: Any) -> Any:
        return sequence[self.draws.pop(0)]

    def random(self) -> float:
        return float(self.draws.pop(0))


@pytest.mark.parametrize(
    ("word", "draws", "expected"),
    [
        ("Haus", (0, 1), "Hus"),  # a letter left out
        ("Haus", (1, 3), "Hauss"),  # doubled
        ("Haus", (2, 1), "Huas"),  # swapped
        ("Haus", (3, 1, 0), "Hsus"),  # a: its only neighbour
        ("Haus", (3, 0, 1), "Jaus"),  # H: G or J
        ("(Haus)", (3, 3, 0), "(Haua)"),  # s: a or d
        ("(Haus)", (0, 0), "(aus)"),
        ("aab-bc", (2, 0), "aba-bc"),  # a and a, b and - are not swapped
        ("aab-bc", (2, 1), "aab-cb"),
        ("öäüß", (2, 0), "äöüß"),  # no such keys: left out, doubled or swapped
        ("öööö", (1, 2), "ööööö"),
    ],
)
def test_typos_by_hand(word: str, draws: tuple[int, ...], expected: str) -> None:
    rng = Script(*draws)
    assert typo(word, rng) == expected
    assert not rng.draws


def test_which_words_get_a_typo_by_hand() -> None:
    """Of each word of four letters and more: a number, then kind and place of the typo."""
    rng = Script(0.09, 0, 0, 0.1, 1, 0, 0.0, 1, 3)
    assert with_typos("Ein  Haus, das d-e-r hier steht.", 0.1, rng) == (
        "Ein  aus, das d-e-r hier stehht."
    )
    assert not rng.draws


def test_dropped_words_by_hand() -> None:
    assert with_dropped_words("a b  c d", 0.5, Script(0.6, 0.4, 0.5, 0.1)) == "a c"
    assert with_dropped_words("a b  c d", 0.1, Script(0.6, 0.4, 0.5, 0.1)) == "a b  c d"
    assert with_dropped_words("a b c", 1.0, Script(0.3, 0.8, 0.5)) == "b"


@settings(deadline=None)
@given(sentence=st.one_of(PLAIN, SENTENCES), rate=RATES, seed=SEEDS)
def test_typos_touch_letters_of_words_long_enough_and_nothing_else(
    sentence: str, rate: float, seed: int
) -> None:
    (changed,) = noisy([sentence], "typos", rate, seed)
    before, after = sentence.split(), changed.split()
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        if sum(sign.isalpha() for sign in old) < LETTERS:
            assert new == old
        assert [s for s in old if not s.isalpha()] == [s for s in new if not s.isalpha()]
        assert abs(len(old) - len(new)) <= 1
    assert [s for s in sentence if s.isspace()] == [s for s in changed if s.isspace()]


@settings(deadline=None)
@given(word=WORDS, seed=SEEDS)
def test_a_typo_is_one_edit(word: str, seed: int) -> None:
    if not noise.has_room(word):
        return
    new = typo(word, random.Random(seed))
    assert new != word
    edits = {word[:i] + word[i + 1 :] for i in range(len(word))}
    edits |= {word[: i + 1] + word[i:] for i in range(len(word))}
    edits |= {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    keys = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    edits |= {word[:i] + key + word[i + 1 :] for i in range(len(word)) for key in keys}
    assert new in edits


@settings(deadline=None)
@given(sentence=PLAIN, rate=RATES, seed=SEEDS)
def test_dropping_leaves_a_word_and_the_order(sentence: str, rate: float, seed: int) -> None:
    (changed,) = noisy([sentence], "dropped words", rate, seed)
    left, words = changed.split(), iter(sentence.split())
    assert left
    assert all(word in words for word in left)  # each after the one before: `in` moves on


@settings(deadline=None)
@given(sentence=SENTENCES, seed=SEEDS)
def test_no_noise_at_rate_0_and_in_every_word_at_1(sentence: str, seed: int) -> None:
    for kind in NOISES:
        assert noisy([sentence], kind, 0.0, seed) == [sentence]
    assert len(noisy([sentence], "dropped words", 1.0, seed)[0].split()) == bool(sentence.split())
    changed = noisy([sentence], "typos", 1.0, seed)[0].split()
    for old, new in zip(sentence.split(), changed, strict=True):
        assert (old != new) == (sum(sign.isalpha() for sign in old) >= LETTERS)


@settings(deadline=None)
@given(sentence=PLAIN, rates=st.tuples(RATES, RATES), seed=SEEDS)
def test_what_a_lower_rate_does_a_higher_one_does_too(
    sentence: str, rates: tuple[float, float], seed: int
) -> None:
    low, high = sorted(rates)
    some, more = (noisy([sentence], "typos", rate, seed)[0].split() for rate in (low, high))
    for old, first, second in zip(sentence.split(), some, more, strict=True):
        assert first in (old, second)
    few, fewer = (noisy([sentence], "dropped words", rate, seed)[0] for rate in (high, low))
    rest = iter(fewer.split())
    assert all(word in rest for word in few.split())


@settings(deadline=None)
@given(
    sentences=st.lists(PLAIN, min_size=2, max_size=5), seed=SEEDS, kind=st.sampled_from([*NOISES])
)
def test_the_noise_of_a_sentence_does_not_depend_on_the_others(
    sentences: list[str], seed: int, kind: str
) -> None:
    noised = noisy(sentences, kind, 0.5, seed)
    assert noisy(sentences[:-1], kind, 0.5, seed) == noised[:-1]
    assert noisy(["Haus", *sentences[1:]], kind, 0.5, seed)[1:] == noised[1:]


def test_about_as_many_words_as_the_rate_says_and_others_with_another_seed_or_number() -> None:
    sentence = " ".join(["Haus"] * 100)
    for rate in (0.05, 0.2):
        noised = noisy([sentence] * 100, "typos", rate, 1)
        wrong = sum(word != "Haus" for line in noised for word in line.split())
        assert abs(wrong / 10_000 - rate) < 3 * (rate * (1 - rate) / 10_000) ** 0.5
        left = sum(len(line.split()) for line in noisy([sentence] * 100, "dropped words", rate, 1))
        assert abs(1 - left / 10_000 - rate) < 3 * (rate * (1 - rate) / 10_000) ** 0.5
        assert len({*noised, *noisy([sentence], "typos", rate, 2)}) == 101


def test_noise_is_the_same_on_every_machine() -> None:
    """Written down once; sacred since."""
    lines = ["Wählen Sie Einfügen, dann Tabelle.", "Die Datei kann nicht geöffnet werden!"]
    assert noisy(lines, "typos", 0.5, 1) == EXPECTED["typos"]
    assert noisy(lines, "dropped words", 0.5, 1) == EXPECTED["dropped words"]


EXPECTED = {
    "typos": ["Wäglen Sie Eonfügen, dann Tabele.", "Die Date ann nicth geöfffnet werdden!"],
    "dropped words": ["dann", "Datei geöffnet werden!"],
}
