"""Negated English sentences, by rule: a "not" behind an auxiliary verb, or one taken away."""

import re

_AUXILIARY = (
    r"(?:am|is|are|was|were|can|could|will|would|shall|should|may|might|must|do|does|did|has|have"
    r"|had)"
)
_NOT_THERE = r"(?! ?n['’]t\b)(?! not\b)(?!['’])"
_INSERT = re.compile(rf"\b(?<!-){_AUXILIARY}\b{_NOT_THERE}(?= )", re.IGNORECASE)
_NOT = re.compile(r" not\b(?!-)", re.IGNORECASE)
_CONTRACTED = re.compile(
    r"\b(ca|wo|sha|is|are|was|were|could|would|should|must|do|does|did|has|have|had) ?n['’]t\b",
    re.IGNORECASE,
)
_CANNOT = re.compile(r"\b(can)not\b", re.IGNORECASE)
_WHOLE = {"ca": "can", "wo": "will", "sha": "shall"}


def negations(text: str) -> list[str]:
    """Return the text with one auxiliary verb negated, or a negation taken away, in each way."""
    found = [f"{text[: match.end()]} not{text[match.end() :]}" for match in _INSERT.finditer(text)]
    found += [f"{text[: match.start()]}{text[match.end() :]}" for match in _NOT.finditer(text)]
    for pattern in (_CONTRACTED, _CANNOT):
        for match in pattern.finditer(text):
            verb = match[1]
            whole = _WHOLE.get(verb.lower(), verb)
            whole = whole.capitalize() if verb[0].isupper() else whole
            found.append(f"{text[: match.start()]}{whole}{text[match.end() :]}")
    return found
