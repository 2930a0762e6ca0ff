"""Forms of English words: which form of which lemma a word may be, and the same form of another.

Regular forms by rule, irregular ones by WordNet's lists of exceptions, which say of what lemma a
form is and not which form it is: verbs' ways to the participle are told apart by their shapes. A
form that rules would make is one only if it is known to be a word.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from data_prep.substitutions.wordnet import ADJECTIVE, ADVERB, NOUN, VERB, WordNet

BASE = "base"
KINDS: Mapping[str, tuple[str, ...]] = {
    NOUN: (BASE, "plural"),
    VERB: (BASE, "third", "past", "participle", "gerund"),
    ADJECTIVE: (BASE, "comparative", "superlative"),
    ADVERB: (BASE, "comparative", "superlative"),
}
"""Forms, by part of speech. A verb's past tense and participle are two, equal ones or not."""

_VOWELS = "aeiou"
_UNCHANGED = frozenset(
    {
        *("beset", "bet", "bid", "broadcast", "burst", "cast", "cost"),
        *("cut", "forecast", "hit", "hurt", "inset", "let", "miscast"),
        *("offset", "outbid", "preset", "put", "quit", "recast", "reset"),
        *("rid", "set", "shed", "shut", "slit", "split", "spread"),
        *("sublet", "thrust", "typeset", "undercut", "upset", "wed"),
    }
)
"""Verbs whose past tense is their base, which WordNet's list does not say."""


@dataclass(frozen=True, order=True)
class Reading:
    """What a word may be: a form of a lemma."""

    part: str
    lemma: str
    kind: str


class Forms:
    """The forms of WordNet's lemmas.

    :param known: words; a form that is no such is none.
    """

    def __init__(self, wordnet: WordNet, known: Container[str]) -> None:
        self._wordnet = wordnet
        self._made: dict[tuple[str, str], dict[str, str]] = {}
        readings: dict[str, set[Reading]] = defaultdict(set)
        for part in KINDS:
            for lemma in wordnet[part].synonyms:
                for kind, form in self._forms(part, lemma, known).items():
                    readings[form].add(Reading(part, lemma, kind))
        self._readings = {word: tuple(sorted(found)) for word, found in readings.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._readings)

    def readings(self, word: str) -> tuple[Reading, ...]:
        """Return what a word may be, in lower case; nothing for a word that is not known."""
        return self._readings.get(word, ())

    def form(self, part: str, lemma: str, kind: str) -> str | None:
        """Return a form of a lemma, if there is a known one."""
        return self._made.get((part, lemma), {}).get(kind)

    def _forms(self, part: str, lemma: str, known: Container[str]) -> dict[str, str]:
        irregular = _irregular(part, lemma, self._wordnet[part].exceptions.get(lemma, ()))
        found = {}
        for kind in KINDS[part]:
            candidates = irregular.get(kind) or regular_forms(lemma, part, kind)
            if (form := next((word for word in candidates if word in known), None)) is not None:
                found[kind] = form
        self._made[part, lemma] = found
        return found


def all_candidates(wordnet: WordNet) -> set[str]:
    """Return all words that may be forms of WordNet's lemmas."""
    found: set[str] = set()
    for part, kinds in KINDS.items():
        for lemma in wordnet[part].synonyms:
            found.update(wordnet[part].exceptions.get(lemma, ()))
            found.update(form for kind in kinds for form in regular_forms(lemma, part, kind))
    return found


def regular_forms(lemma: str, part: str, kind: str) -> tuple[str, ...]:
    """Return what the regular form may be, the likeliest first; nothing where there is none."""
    if kind == BASE:
        return (lemma,)
    if kind in ("plural", "third"):
        return _with_s(lemma, part)
    if kind == "gerund":
        return _with_ending(lemma, "ing")
    if kind in ("past", "participle"):
        return _with_ending(lemma, "ed")
    ending = "er" if kind == "comparative" else "est"
    # Of longer adjectives it is made with more and most; of adverbs there are irregular ones only.
    short = _syllables(lemma) <= 2
    return _with_ending(lemma, ending) if part == ADJECTIVE and short else ()


def _with_s(lemma: str, part: str) -> tuple[str, ...]:
    if lemma.endswith(("s", "x", "z", "ch", "sh")):
        return (f"{lemma}es",)
    if _ends_in_consonant_y(lemma):
        return (f"{lemma[:-1]}ies",)
    if lemma.endswith("o"):
        return (f"{lemma}es", f"{lemma}s") if part == VERB else (f"{lemma}s", f"{lemma}es")
    return (f"{lemma}s",)


def _with_ending(lemma: str, ending: str) -> tuple[str, ...]:
    """Return a lemma with an ending that begins with a vowel: ed, ing, er or est."""
    if lemma.endswith("ie") and ending == "ing":
        return (f"{lemma[:-2]}ying",)
    if lemma.endswith("ee") or lemma.endswith(("oe", "ye")):
        return (f"{lemma[: -1 if ending != 'ing' else None]}{ending}",)
    if lemma.endswith("e"):
        return (f"{lemma[:-1]}{ending}", f"{lemma}{ending}")
    if _ends_in_consonant_y(lemma) and ending != "ing":
        return (f"{lemma[:-1]}i{ending}",)
    doubled = f"{lemma}{lemma[-1]}{ending}"
    if _may_double(lemma):
        plain = f"{lemma}{ending}"
        return (doubled, plain) if _syllables(lemma) == 1 else (plain, doubled)
    return (f"{lemma}{ending}",)


def _syllables(lemma: str) -> int:
    return len(re.findall("[aeiouy]+", lemma))


def _ends_in_consonant_y(lemma: str) -> bool:
    return len(lemma) > 1 and lemma.endswith("y") and lemma[-2] not in _VOWELS


def _may_double(lemma: str) -> bool:
    """Return whether it ends in one vowel and one consonant that can be doubled."""
    return (
        len(lemma) > 2
        and lemma[-1] not in "aeiouwxy"
        and lemma[-2] in _VOWELS
        and (lemma[-3] not in _VOWELS or lemma[-3:-1] == "ui")
    )


def _irregular(part: str, lemma: str, exceptions: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the irregular forms of a lemma, by kind."""
    if part == NOUN:
        return {"plural": exceptions} if exceptions else {}
    if part in (ADJECTIVE, ADVERB):
        superlatives = tuple(form for form in exceptions if form.endswith("st"))
        comparatives = tuple(form for form in exceptions if form not in superlatives)
        graded = {"comparative": comparatives, "superlative": superlatives}
        return {kind: forms for kind, forms in graded.items() if forms}
    found: dict[str, list[str]] = defaultdict(list)
    for form in exceptions:
        if form.endswith("ing"):
            found["gerund"].append(form)
        elif form.endswith("s"):
            found["third"].append(form)
        else:
            found["past and participle"].append(form)
    if lemma in _UNCHANGED:
        return {kind: tuple(forms) for kind, forms in found.items() if kind == "gerund"} | {
            kind: (lemma,) for kind in ("past", "participle")
        }
    both = found.pop("past and participle", [])
    if both:
        found["participle"] = [form for form in both if _is_participle(form, both)] or both
        found["past"] = [form for form in both if form not in found["participle"]] or both
        if found["past"] == found["participle"] == both and _has_base_as_participle(lemma, both):
            found["participle"] = [lemma]
    return {kind: tuple(forms) for kind, forms in found.items()}


def _is_participle(form: str, both: list[str]) -> bool:
    """Return whether one of several forms is the participle alone: broken, gone, sung."""
    others = [other for other in both if other != form]
    if not others:
        return False
    if form.endswith(("en", "own")) or form.replace("u", "a") in others:
        return True
    return form.endswith(("n", "ne")) and not any(other.endswith(("n", "ne")) for other in others)


def _has_base_as_participle(lemma: str, both: list[str]) -> bool:
    """Return whether the only irregular form is the past tense: came, ran, became."""
    return (
        len(both) == 1
        and both[0] in (lemma.replace("o", "a"), lemma.replace("u", "a"))
        and (lemma.endswith(("come", "run")))
    )
