"""Why a sentence pair of a help text is not worth training on.

Written while looking at LibreOffice's German, French and Vietnamese help; every threshold was set
where a sample of what it drops was no longer bad.
"""

import re
from collections import Counter

SAME = "source equals target"
UNTRANSLATED = "not translated"
CODE = "code-like"
BAD_MATCH = "badly matched"

_WORD = re.compile(r"[^\W\d_]{2,}")
_NUMBER = re.compile(r"\d+")
_CODE = re.compile(
    r"""
    ^\s*=                          # a spreadsheet formula
    | \w\(\)                       # a call without arguments
    | [{}\\^~|]                    # formula markup, regular expressions, Windows paths
    | \w_\w                        # identifiers
    | \.\w+\(                      # method calls
    | \w\[[^\]]*\]                 # subscripts
    | ;\s*\w+\s*\)                 # arguments of a spreadsheet function
    | :// | www\.                  # addresses
    | (?:^|\s)(?:/\w+){2,}         # paths
    | (?:^|\s)--?\w+(?:-\w+)*=     # command line options
    | <\w+ | /> | <\?>             # markup, placeholders in formulas
    | \snot\ found\]               # a broken link between help pages
    | \b(?:Dim|End\ Sub|End\ If|End\ Function|ByVal|ByRef|ReDim)\b
    """,
    re.VERBOSE,
)

# Very frequent words of each language that the other side does not spell alike.
_FUNCTION_WORDS = {
    "de": "der die das und ist ein eine einen den dem des sie wird werden mit von für auf zu im"
    " auch nicht oder wenn diese bei aus als kann können sich",
    "en": "the of and is are to that this for with you be by from it not which when your",
    "fr": "le la les des du et est un une dans pour par que vous sur avec ce cette ou sont pas qui"
    " au aux être en si votre",
    "vi": "và của là các trong cho được một bạn có này để với không từ hay vào bằng những thì khi",
}
_WORDS_OF = {lang: frozenset(words.split()) for lang, words in _FUNCTION_WORDS.items()}


def reason_to_drop(source: str, target: str, source_lang: str, target_lang: str) -> str | None:
    """Return the reason to drop the pair, or None if it is worth keeping."""
    if source == target:
        return SAME
    if any(_CODE.search(side) or _mostly_symbols(side) for side in (source, target)):
        return CODE
    if not _same_numbers(source, target) or not _similar_length(source, target):
        return BAD_MATCH
    if _is_in_language_of_target(source, target, source_lang, target_lang):
        return UNTRANSLATED
    return None


def _mostly_symbols(text: str) -> bool:
    return sum(map(str.isalpha, text)) + text.count(" ") < 0.6 * len(text)


def _same_numbers(source: str, target: str) -> bool:
    """Compare digit groups as a bag: order and separators differ between languages."""
    if not (_NUMBER.search(source) or _NUMBER.search(target)):
        return True
    source_numbers, target_numbers = (
        Counter(int(number) for number in _NUMBER.findall(side)) for side in (source, target)
    )
    return source_numbers == target_numbers


def _similar_length(source: str, target: str) -> bool:
    """Ratio of characters at most 2.5, with 8 added to each so that single words may differ."""
    ratio = (len(source) + 8) / (len(target) + 8)
    return 1 / 2.5 <= ratio <= 2.5


def _is_in_language_of_target(source: str, target: str, source_lang: str, target_lang: str) -> bool:
    words = [word.lower() for word in _WORD.findall(source)]
    target_words = {word.lower() for word in _WORD.findall(target)}
    shared = sum(word in target_words for word in words) / max(1, len(words))
    foreign = sum(word in _WORDS_OF[target_lang] for word in words)
    native = sum(word in _WORDS_OF[source_lang] for word in words)
    return shared >= 0.7 or (foreign > native and (foreign > 1 or shared >= 0.5))
