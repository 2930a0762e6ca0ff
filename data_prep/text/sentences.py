"""Split a paragraph into sentences, by rule.

The rules are those of Moses' split-sentences.perl where it matters here: a sentence ends at a full
stop, question or exclamation mark (with the quotes and brackets that close after it) if what
follows can start a sentence, and the word before a full stop is no abbreviation. The lists of
abbreviations are Moses', as sacremoses ships them.
"""

import re
from functools import cache

from sacremoses.corpus import NonbreakingPrefixes

# Inside a character class; the escapes are the curly quotes.
_CLOSERS = "\"'\u201d\u2019\u201c»)\\]"
_OPENERS = "\"'\u201c\u2018„«(\\[¿¡"
_BREAK = re.compile(
    rf"(?P<mark>\.+|[?!…]+)(?P<close>[{_CLOSERS}]*)\s+(?=[{_OPENERS}]*\s?(?P<next>\w))"
)
_LAST_WORD = re.compile(r"[^\s(\[\"'„“«]+$")

# What Moses' lists lack, in lower case and without the last full stop; parts of an abbreviation
# that is spelt with spaces ("z. B.", "p. ex.") are single letters or listed here.
_MORE_ABBREVIATIONS = {
    "de": "abb bspw entspr inkl max min mind s.o s.u tel zzgl",
    "en": "approx cf fig incl max min viz",
    "fr": "env max min n° p",
    "vi": "tp v.d v.v vd",
}


@cache
def _abbreviations(lang: str) -> frozenset[str]:
    prefixes = NonbreakingPrefixes()
    known = prefixes.words(lang if lang in prefixes.available_langs else "en")
    words = {word.split(" ")[0].lower() for word in known}
    # Ordinal numbers ("14. September") are decided by rule below; a list would end at 99.
    words = {word for word in words if not word.isdigit()}
    return frozenset(words | set(_MORE_ABBREVIATIONS.get(lang, "").split()))


def split_sentences(text: str, lang: str) -> list[str]:
    """Return the sentences of ``text`` in order, without surrounding space; [] if it is blank."""
    sentences = []
    start = 0
    for match in _BREAK.finditer(text):
        if _ends_sentence(text[start : match.start()], match, lang):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    rest = text[start:].strip()
    return [*sentences, rest] if rest else sentences


def _ends_sentence(before: str, match: re.Match[str], lang: str) -> bool:
    follower = match["next"]
    if not (follower.isupper() or follower.isdigit() or follower.istitle()):
        return False
    if match["mark"] != "." or match["close"]:
        return True
    found = _LAST_WORD.search(before)
    word = found[0] if found else ""
    if word.isdigit():
        # A number at the very start is a list label, and German writes ordinals with a full stop.
        return lang != "de" and word != before.strip()
    return word.lower() not in _abbreviations(lang)
