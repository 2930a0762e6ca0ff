"""Negated English sentences, by rule: a "not" behind an auxiliary verb, or one taken away."""

import re

from data_prep.substitutions.words import in_case_of

_AUXILIARY = (
    r"(?:am|is|are|was|were|can|could|will|would|shall|should|may|might|must|do|does|did|has|have"
    r"|had)"
)
_NOT_THERE = r"(?! ?n['’]t\b)(?! not\b)(?!['’])"
_INSERT = re.compile(rf"\b(?<!-)(?<!\bto ){_AUXILIARY}\b{_NOT_THERE}(?= )(?! \d)", re.IGNORECASE)
_NOT = re.compile(r"(?<!\bor) not\b(?!-)", re.IGNORECASE)
_CONTRACTED = re.compile(
    r"\b(ca|wo|sha|is|are|was|were|could|would|should|must|do|does|did|has|have|had) ?n['’]t\b",
    re.IGNORECASE,
)
_CANNOT = re.compile(r"\b(can)not\b", re.IGNORECASE)
_WHOLE = {"ca": "can", "wo": "will", "sha": "shall"}


def negations(text: str) -> list[str]:
    """Return the text with one auxiliary verb negated, or a negation taken away, in each way."""
    found = [
        f"{text[: match.end()]} not{text[match.end() :]}"
        for match in _INSERT.finditer(text)
        if not _is_a_name(text, match)
    ]
    found += [f"{text[: match.start()]}{text[match.end() :]}" for match in _NOT.finditer(text)]
    for pattern in (_CONTRACTED, _CANNOT):
        for match in pattern.finditer(text):
            verb = match[1]
            whole = _WHOLE.get(verb.lower(), verb)
            whole = in_case_of(verb, whole)
            found.append(f"{text[: match.start()]}{whole}{text[match.end() :]}")
    return found


def _is_a_name(text: str, match: re.Match[str]) -> bool:
    """Return whether a word is a month or a person: May and Will inside a sentence."""
    before = text[: match.start()].rstrip()
    return match[0] in ("May", "Will") and before != "" and before[-1] not in ".!?:\"'`"
