"""How text is cut into words: as spaCy's English tokenizer does, lower-cased, numbers as `qq`.

That is the preparation of Jain and Wallace (NAACL 2019), which Kitada and Iyatomi (2021) took over:
a token is written in lower case, and is `qq` if there is a digit in it. spaCy would have to be
installed wherever a model is used; this is its rules as regular expressions of `tokenizers`, for
what is usual in text. They see lower case only: a full stop behind a single capital letter is a
token here, and is none there. docs/sentences.md tells how often they differ.
"""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

NUMBER = "qq"
"""What stands for a token with a digit in it."""

_LETTERS = r"[\p{L}\p{M}]"
_CHARACTERS = r"[\p{L}\p{M}\p{N}]"
_APOSTROPHE = r"['’]"
# Behind a word; what is before "n't" is a word, too.
_CONTRACTED = rf"{_APOSTROPHE}(?:s|re|ve|ll|d|m)(?!{_CHARACTERS})"
_NOT = rf"n{_APOSTROPHE}t(?!{_CHARACTERS})"
# What does not part the characters before and behind it: beside digits, more.
_INSIDE = (
    rf"(?:(?!{_CONTRACTED})[.@_&#~*+|\\'’%$]"
    rf"|[:/](?=\p{{N}})|,(?=\p{{N}})|(?<=\p{{N}}),"
    r"|(?<!\p{N})-(?=\p{N}))"
)
_REST = rf"{_CHARACTERS}*(?:{_INSIDE}{_CHARACTERS}+)*"
_WITH_DIGIT = rf"(?:{_LETTERS}+{_INSIDE})*{_LETTERS}*\p{{Nd}}{_REST}"
_ADDRESS = r"(?:https?://|www\.)"
_ABBREVIATIONS = (
    r"(?:mr|mrs|ms|dr|jr|sr|st|prof|rev|gen|gov|rep|sen|adm|vs|inc|co|corp|ltd|bros|ph\.d"
    r"|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|(?:\p{L}\.)+\p{L})\."
)
_TOKENS = (
    rf"{_ABBREVIATIONS}(?!{_CHARACTERS})",
    rf"(?<!{_CHARACTERS})\p{{L}}\.(?![\p{{L}}\p{{N}}.])",
    rf"{_ADDRESS}\S*[^\s\p{{P}}]/?",
    rf"{_NOT}",
    rf"{_CONTRACTED}|{_APOSTROPHE}em(?!{_CHARACTERS})",
    rf"{_LETTERS}+?(?={_NOT})",
    rf"can(?=not(?!{_CHARACTERS}))",
    rf"(?:gon(?=na(?!{_CHARACTERS}))|got(?=ta(?!{_CHARACTERS})))",
    rf"and/or(?!{_CHARACTERS})",
    rf"{_CHARACTERS}+(?:{_INSIDE}{_CHARACTERS}+)*",
    r"(?<!\S)-\p{L}+-?(?!\S)",
    r"\.{2,}|-+|''",
    r"\S",
)


def word_tokenizer(numbers: dict[str, int]) -> Tokenizer:
    """Return a tokeniser whose pieces are words, each with its number; `<unk>` is among them."""
    made = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    number = Regex(
        rf"{_ADDRESS}\S*\p{{Nd}}(?:\S*[^\s\p{{P}}]/?)?"
        rf"|(?:(?<![^\s(])[-.])?(?<!{_CHARACTERS}){_WITH_DIGIT}"
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(number, NUMBER)]
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex("|".join(_TOKENS)), "removed", invert=True)
    return made


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the words of a text as they are written, those that have no number as well."""
    cut = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    return [word for word, _ in cut]
