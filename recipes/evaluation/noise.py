"""Noise in sentences: typos and dropped words, the same for every model and in every batch.

The noise of a sentence depends on the seed, the kind of noise, the rate and the sentence's number
alone; and what a lower rate does to a sentence, a higher one does too.
"""

import random
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b

LETTERS = 4  # words of fewer stay as they are

_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _KEYS
    for place, key in enumerate(row)
}


def seed_of(seed: int, kind: str, number: int) -> int:
    """Return the 64-bit seed of the noise in sentence `number` of a split."""
    digest = blake2b(f"{seed} {kind} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def has_room(word: str) -> bool:
    """Return whether a word has letters enough for a typo."""
    return sum(map(str.isalpha, word)) >= LETTERS


def with_typos(sentence: str, rate: float, rng: random.Random) -> str:
    """Return the sentence with a typo in about `rate` of its words of at least `LETTERS` letters.

    :param rate: the probability of each of them, 0 to 1. Words are what spaces separate.
    """

    def typed(found: re.Match[str]) -> str:
        word = found[0]
        if not has_room(word):
            return word
        # Both are drawn in any case, so that the words after this one do not depend on the rate.
        draw, mistyped = rng.random(), typo(word, rng)
        return mistyped if draw < rate else word

    return re.sub(r"\S+", typed, sentence)


def typo(word: str, rng: random.Random) -> str:
    """Return the word with one typo, in its letters; all else stays where it is.

    It is, with equal probability, two different neighbouring letters swapped, a letter left out, a
    letter doubled, or the letter of the next key (of a row of a QWERTY keyboard) in place of one;
    or one of those that the word allows.
    """
    letters = [place for place, sign in enumerate(word) if sign.isalpha()]
    swapped = [
        place
        for place in letters
        if word[place + 1 : place + 2].isalpha() and word[place] != word[place + 1]
    ]
    missed = [place for place in letters if word[place].lower() in _NEIGHBOURS]
    edits: list[tuple[list[int], Callable[[str], str]]] = [
        (letters, lambda rest: rest[1:]),
        (letters, lambda rest: rest[0] + rest),
        (swapped, lambda rest: rest[1] + rest[0] + rest[2:]),
        (missed, lambda rest: _next_key(rest[0], rng) + rest[1:]),
    ]
    places, edit = rng.choice([choice for choice in edits if choice[0]])
    place = rng.choice(places)
    return word[:place] + edit(word[place:])


def _next_key(letter: str, rng: random.Random) -> str:
    key = rng.choice(_NEIGHBOURS[letter.lower()])
    return key.upper() if letter.isupper() else key


def with_dropped_words(sentence: str, rate: float, rng: random.Random) -> str:
    """Return the sentence without about `rate` of its words; one of them is always left.

    :param rate: the probability of each word, 0 to 1. Words are what spaces separate.
    """
    words = sentence.split()
    draws = [rng.random() for _ in words]
    if all(draw >= rate for draw in draws):
        return sentence
    last = max(draws)
    return " ".join(
        word for word, draw in zip(words, draws, strict=True) if draw >= rate or draw == last
    )


NOISES: Mapping[str, Callable[[str, float, random.Random], str]] = {
    "typos": with_typos,
    "dropped words": with_dropped_words,
}


def noisy(sentences: list[str], kind: str, rate: float, seed: int) -> list[str]:
    """Return the sentences of a split, in its order, with a kind of noise of `NOISES`."""
    change = NOISES[kind]
    return [
        change(sentence, rate, random.Random(seed_of(seed, kind, number)))
        for number, sentence in enumerate(sentences)
    ]
