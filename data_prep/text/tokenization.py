"""Tokens: Moses' own, to the last line, or of languages it has no rules for ones that join again.

Moses' tokenizer.perl, by sacremoses, is for text in Latin, Cyrillic and Greek letters.
``MosesDetokenizer`` takes its output with and without escapes, so it can be applied to a model's
output as is. It restores about 95 % of sentences exactly; the rest differ in spaces, as in
``Ctrl + F`` or ``and / or``. Score against ``raw``, never against detokenised references.

It takes Chinese or Arabic punctuation off its word and does not put it back, and tears words at
vowel signs, tone marks and zero-width joiners. In other scripts, then, tokens are words and single
signs, and one that no space follows ends in ``@@``, as subword-nmt marks a piece that the word goes
on after: to undo the subwords is to restore every sentence exactly.
"""

from functools import cache, partial

import regex
from sacremoses import MosesTokenizer

from data_prep.preparation import Preparation
from data_prep.support.parallel import LineFunction
from data_prep.text.languages import follows_moses, language_of

JOINT = "@@"

# What a word is of, in grapheme clusters (UAX #29): letters, marks, digits, the joiners. Tibetan
# sets a dot after every syllable of a word, which is no end of it.
_IN_WORDS = r"[\p{L}\p{M}\p{N}\p{Cf}\u0f0b]"
# A word, a number with its points and commas; else a sign, which may be an emoji, made of many
# characters.
_TOKENS = regex.compile(rf"(?:(?={_IN_WORDS})\X|(?<=\p{{N}})[.,](?=\p{{N}}))+|\X")
# Characters that belong to the one before them, and flags, which are two.
_CLUSTERED = regex.compile(r"[\p{M}\p{Cf}\p{Emoji_Modifier}\p{Regional_Indicator}]")


def tokenizer(lang: str, preparation: Preparation) -> LineFunction:
    """Return a function from sentences in ``lang`` to their tokens joined by single spaces.

    Where Moses has no rules for the language's script (see `follows_moses`), escapes and split
    dashes, which are Moses', are left out.
    """
    tokenize = _by_moses if follows_moses(lang) else _joinable
    return partial(tokenize, lang=language_of(lang), preparation=preparation)


def _by_moses(lines: list[str], lang: str, preparation: Preparation) -> list[str]:
    tokenized = []
    for line in lines:
        # The reference scripts tear what belongs together, and tokens are to be the reference's.
        torn = preparation.repairs and not line.isascii() and _CLUSTERED.search(line)
        moses = _moses_of_clusters(lang) if torn else _moses(lang)
        tokens = moses.tokenize(
            line, escape=preparation.escapes, aggressive_dash_splits=preparation.splits_dashes
        )
        tokenized.append(" ".join(tokens))
    return list(map(lower, tokenized)) if preparation.lower_cases else tokenized


def _joinable(lines: list[str], lang: str, preparation: Preparation) -> list[str]:
    tokenized = [
        " ".join(f"{JOINT} ".join(_TOKENS.findall(chunk)) for chunk in line.split())
        for line in lines
    ]
    return list(map(lower, tokenized)) if preparation.lower_cases else tokenized


def without_joints(line: str) -> str:
    """Return tokens without the marks that say where no space follows."""
    return line.replace(f"{JOINT} ", " ")


def lower(line: str) -> str:
    """Lower-case a sentence as Moses does."""
    # Perl's lc does not know that a sigma at the end of a word looks different.
    return line.replace("Σ", "σ").lower()


class _Moses(MosesTokenizer):
    """MosesTokenizer with Moses' full stops, and without what took most of its time.

    That was to make sets of some thousand letters, for each word that ends in a full stop anew, and
    to look for such words where there are none.
    """

    def __init__(self, lang: str) -> None:
        super().__init__(lang)
        self._lower = frozenset(self.IsLower)
        self._alpha = frozenset(self.IsAlpha)

    def islower(self, text: str) -> bool:
        """Say whether all characters are in lower case."""
        return self._lower.issuperset(text)

    def isanyalpha(self, text: str) -> bool:
        """Say whether there is a letter."""
        return not self._alpha.isdisjoint(text)

    def handles_nonbreaking_prefixes(self, text: str) -> str:
        """Split the full stop from the last word too, even if that is an abbreviation.

        tokenizer.perl has done so since 2015, and sacremoses does not. That was the only difference
        in 61,222 lines of English, German, French and Vietnamese (39 of them).
        """
        if ". " in text:
            text = super().handles_nonbreaking_prefixes(text)
        head, dot, tail = text.rpartition(".")
        return f"{head} ." if dot and not tail and head and head[-1] != " " else text


@cache
def _moses(lang: str) -> _Moses:
    return _Moses(lang)


@cache
def _moses_of_clusters(lang: str) -> _Moses:
    """Moses' rules for clusters of characters: accents and joiners stay in words, emoji are whole.

    The rule that takes signs off words is the only one that tears them.
    """
    moses = _Moses(lang)
    kept = r"\s.'`,\-"  # by this rule; by others some of them are taken off
    pattern = rf"((?![{moses.IsAlnum}\p{{M}}\p{{Cf}}{kept}])\X)"
    moses.PAD_NOT_ISALNUM = regex.compile(pattern), r" \1 "
    return moses
