"""Attacks: searches against classifiers that are known, negations, and rates by hand."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.substitutions.table import Choices
from data_prep.substitutions.tagging import Tagger
from data_prep.substitutions.words import Substitutions, in_case_of, replaced
from recipes.attack.negation import negations
from recipes.attack.report import Outcome, Rate, Tried, write
from recipes.attack.search import (
    Ask,
    Attempt,
    Texts,
    fickle,
    negated,
    obstinate,
    played,
)

TABLE = {
    ("film", "noun"): Choices(("movie", "picture"), ()),
    ("movie", "noun"): Choices(("film",), ()),
    ("good", "adj"): Choices(("fine", "great"), ("bad", "poor")),
    ("old", "adj"): Choices(("aged",), ("new", "young")),
    ("plot", "noun"): Choices(("story",), ()),
}
TAGS = {
    **dict.fromkeys(["film", "movie", "picture", "plot", "story"], "NOUN|-"),
    **dict.fromkeys(["good", "fine", "great", "bad", "poor", "old", "aged", "new"], "ADJ|-"),
    "young": "NOUN|-",  # is no adjective to this tagger
    "the": "DET|-",
    "is": "AUX|Fin",
}
SUBSTITUTIONS = Substitutions(TABLE, Tagger({}, TAGS, ["X|-"]))


# ---- Words ---------------------------------------------------------------------------------------


def test_places_are_words_with_choices_of_their_part() -> None:
    text = "The old film, is GOOD; film"
    found = [(text[p.start : p.end], p.number, p.part) for p in SUBSTITUTIONS.places(text)]
    assert found == [
        ("old", 1, "adj"),
        ("film", 2, "noun"),
        ("GOOD", 4, "adj"),
        ("film", 5, "noun"),
    ]
    assert SUBSTITUTIONS.places("Nothing here.") == SUBSTITUTIONS.places("") == []


def test_a_word_is_put_in_its_place_in_the_case_of_what_was_there() -> None:
    text = "Film! The OLD film is good."
    film, old, other, good = SUBSTITUTIONS.places(text)
    assert replaced(text, [(film, "movie"), (good, "fine")]) == "Movie! The OLD film is fine."
    assert replaced(text, [(old, "aged"), (other, "picture")]) == "Film! The AGED picture is good."
    assert replaced(text, [(old, "")]) == "Film! The film is good."
    assert replaced(text, [(film, "")]) == "! The OLD film is good."
    assert in_case_of("I", "me") == "Me" and in_case_of("a", "one") == "one"


def test_a_changed_text_may_have_lost_the_part_of_speech() -> None:
    text = "the old film"
    (old, _) = SUBSTITUTIONS.places(text)
    assert SUBSTITUTIONS.keeps_its_part("the new film", old)
    assert not SUBSTITUTIONS.keeps_its_part("the young film", old)
    assert not SUBSTITUTIONS.keeps_its_part("the", old)


# ---- Searches ------------------------------------------------------------------------------------

WEIGHTS = {"good": 2.0, "fine": 1.5, "great": -0.5, "bad": 1.9, "poor": -3.0, "old": 0.5}
WEIGHTS |= {"aged": 0.8, "new": 0.4, "film": 1.0, "movie": -0.2, "picture": 0.6, "story": -4.0}


def sure(texts: Texts) -> float:
    """The probability of class 1: words have weights."""
    words = [w.strip(".,!") for text in texts for w in text.lower().split()]
    return 1 / (1 + math.exp(0.5 - sum(WEIGHTS.get(word, 0.0) for word in words)))


class Asked:
    """A classifier that counts what it is asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, examples: Sequence[Texts]) -> np.ndarray:
        self.batches.append(len(examples))
        return np.array([[1 - sure(texts), sure(texts)] for texts in examples])


def one(search: Callable[..., Ask], texts: Texts, *more: Any) -> Attempt:
    before = sure(texts)
    (found,) = played([search(texts, 1, before, *more)], Asked())
    return found


def synonyms(texts: Texts, label: int, before: float, most: int | None = None) -> Ask:
    return fickle(SUBSTITUTIONS, texts, label, before, most)


def whole(texts: Texts) -> list[int]:
    """What a classifier reads that reads all."""
    return [ord(letter) for text in texts for letter in text]


def antonyms(texts: Texts, label: int, before: float, confident: bool = False) -> Ask:
    return obstinate(SUBSTITUTIONS, texts, label, before, confident, whole)


def test_synonyms_are_taken_from_the_most_important_word_on() -> None:
    """By weight good, film, old: without good 2 are lost, with great 2.5 and the answer stays."""
    found = one(synonyms, ("the old film is good", "film"))
    assert found.succeeded
    # 0.5 + 1 + 1 - 0.5 - 0.5 = 1.5 with great; with movie 0.3, with two of them -0.9.
    assert found.changed == (("good", "great"), ("film", "movie"), ("film", "movie"))
    assert found.texts == ("the old movie is great", "movie")
    assert found.probability == (sure(("the old film is good", "film")), sure(found.texts))
    assert found.probability[1] < 0.5
    assert found.calls == 4 + 2 + 2 + 2 and found.candidates


def test_of_synonyms_that_lead_astray_the_nearest_is_taken() -> None:
    """Picture is nearer to the film than nothing; both answers would be wrong with either."""
    found = one(synonyms, ("film is good film",))
    assert found.changed[0] == ("good", "great")
    table = {("film", "noun"): Choices(("movie", "story"), ())}
    nearest = Substitutions(table, SUBSTITUTIONS.tagger)
    (found,) = played([fickle(nearest, ("film",), 1, sure(("film",)), None)], Asked())
    assert found.changed == (("film", "movie"),)  # though the story takes more


def test_a_synonym_that_takes_nothing_is_left_out_and_there_is_a_limit() -> None:
    found = one(synonyms, ("old bad",))  # aged gives more than old
    assert not found.succeeded and found.candidates and found.calls == 2
    assert found.changed == () and found.texts == ("old bad",)
    limited = one(synonyms, ("the old film is good", "film"), 1)
    assert not limited.succeeded and limited.changed == (("good", "great"),)
    assert limited.calls == 4 + 2


def test_nothing_to_change() -> None:
    for found in (one(synonyms, ("nothing",)), one(antonyms, ("the film",))):
        assert not found.succeeded and not found.candidates
        assert found.texts in (("nothing",), ("the film",)) and found.changed == ()


def test_one_antonym_with_which_the_answer_stays() -> None:
    """Good is the most important: bad keeps the answer; poor would not."""
    found = one(antonyms, ("the old film is good",))
    assert found.succeeded and found.changed == (("good", "bad"),)
    assert found.texts == ("the old film is bad",)
    assert found.calls == 2 + 3  # young is no adjective
    assert one(antonyms, ("the old film is good",), True).succeeded is False  # none is surer
    assert one(antonyms, ("good",)).changed == (("good", "bad"),)
    both = Substitutions({("good", "adj"): Choices((), ("fine", "bad"))}, SUBSTITUTIONS.tagger)
    (found,) = played([obstinate(both, ("good",), 1, 0.8, False, whole)], Asked())
    assert found.changed == (("good", "bad"),)  # which leaves more to the answer


def test_an_attack_that_fails_tells_of_what_came_nearest() -> None:
    table = {("good", "adj"): Choices((), ("poor", "great"))}
    (found,) = played(
        [obstinate(Substitutions(table, SUBSTITUTIONS.tagger), ("good",), 1, 0.8, False, whole)],
        Asked(),
    )
    assert not found.succeeded and found.candidates and found.changed == (("good", "great"),)


def test_a_change_that_is_not_read_is_no_success() -> None:
    """Behind what a classifier takes of a long text the answer stays in any case."""

    def first_words(texts: Texts) -> list[int]:
        return whole((" ".join(texts[0].split()[:2]),))

    texts = ("film story is good",)
    (read,) = played([obstinate(SUBSTITUTIONS, texts, 0, 0.9, False, whole)], Asked())
    assert read.candidates
    for search in (
        obstinate(SUBSTITUTIONS, texts, 0, 0.9, False, first_words),
        negated(texts, 0, 0.9, False, first_words),
    ):
        (found,) = played([search], Asked())
        assert not found.succeeded and not found.candidates and found.texts == texts


def test_a_verb_is_negated() -> None:
    found = one(lambda *given: negated(*given, False, whole), ("the film is good", "it was"))
    assert found.succeeded and found.texts == ("the film is not good", "it was")
    assert found.changed == () and found.calls == 1
    none = one(lambda *given: negated(*given, False, whole), ("no verb",))
    assert not none.candidates and none.calls == 0


def test_many_searches_are_asked_together_and_come_in_their_order() -> None:
    texts: list[Texts] = [("the old film is good",), ("nothing",), ("old",), ("film",)] * 3
    alone = [one(synonyms, of) for of in texts]
    for at_a_time in (1, 5, 100):
        asked = Asked()
        searches = [synonyms(of, 1, sure(of)) for of in texts]
        assert list(played(searches, asked, at_a_time)) == alone
        if at_a_time == 100:
            assert len(asked.batches) < 6 and sum(asked.batches) == sum(of.calls for of in alone)


# ---- Negation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He is happy.", ["He is not happy."]),
        ("He is not happy.", ["He is happy."]),
        ("It isn't so", ["It is so"]),
        ("It is n't so", ["It is so"]),
        ("Won't you come?", ["Will you come?"]),
        ("They cannot see", ["They can see"]),
        ("I can’t go", ["I can go"]),
        ("She could and would go", ["She could not and would go", "She could and would not go"]),
        ("I am.", []),
        ("Nothing here", []),
        ("It's done", []),
        ("WON'T you come?", ["WILL you come?"]),
        ("It opens on May 5 , with Will Smith", []),
        ("Will he come?", ["Will not he come?"]),
        ("He wants to do it, or not", []),
    ],
)
def test_negations(text: str, expected: list[str]) -> None:
    assert negations(text) == expected


# ---- Rates ---------------------------------------------------------------------------------------


def attempt(succeeded: bool, changed: int = 1, candidates: bool = True, calls: int = 3) -> Attempt:
    words = (("a", "b"),) * changed
    return Attempt(succeeded, ("x", "y"), words, candidates, (0.9, 0.25), calls)


def test_rates_are_of_all_that_are_attacked_and_of_those_that_can_be() -> None:
    attempts = [attempt(True, 1), attempt(True, 4), attempt(False, 9), attempt(False, 0, False, 0)]
    found = Outcome.of([Tried(n, "good", ("x", "y"), of) for n, of in enumerate(attempts)])
    assert (found.attacked, found.possible, found.calls, found.words) == (4, 3, 9, 2.5)
    assert found.rate.value == 50.0
    assert found.of_possible.value == pytest.approx(200 / 3)
    assert found.rate.low == 0 and found.rate.high == 100
    none = Outcome.of([])
    assert none.rate == Rate(None, None, None) and str(none.rate) == "-" and none.words is None


def test_an_interval_is_the_binomial_s() -> None:
    """Of 400 with 100 successes: 25 and 1.96 deviations of 2.165."""
    rate = Rate.of([True] * 100 + [False] * 300)
    assert rate.low == pytest.approx(25 - 4.24, abs=0.5)
    assert rate.high == pytest.approx(25 + 4.24, abs=0.5)


def test_what_is_written(tmp_path: Path) -> None:
    tried = [Tried(7, "good", ("x", "y"), attempt(True)), Tried(9, "bad", ("z",), attempt(False))]
    facts = {"split": "test", "most_words": 3, "skip_classes": ["bad"], "confident": True}
    right = np.array([True, False, True, True])
    found = {"plain": (right, {"synonyms": tried}), "other": (right, {"synonyms": []})}
    table = write(found, facts, tmp_path)
    assert "| plain | 75.0     | synonyms | 50.0 (0.0 to 100.0) | 2        |" in table
    text = (tmp_path / "attack.md").read_text("utf-8")
    assert "(3)" in text and "no attack on bad" in text and "more probable, too" in text
    with (tmp_path / "attacks.tsv").open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert first == {
        **{"model": "plain", "attack": "synonyms", "id": "7", "class": "good"},
        **{"succeeded": "yes", "candidates": "yes", "before": "0.9000", "behind": "0.2500"},
        **{"calls": "3", "changed": "a > b", "texts": "x ||| y", "attacked texts": "x ||| y"},
    }
    assert second["succeeded"] == "no"
    models = json.loads((tmp_path / "attack.json").read_text("utf-8"))["models"]
    assert models["plain"]["attacks"]["synonyms"]["rate"]["value"] == 50.0
    assert models["other"]["attacks"]["synonyms"]["rate"]["value"] is None
    assert (tmp_path / "attack.png").read_bytes().startswith(b"\x89PNG")
