"""What a language's code says: ``fr``, ``FR``, ``fr-CA``, ``fra_Latn``, ``zh-Hant``.

Codes are those of BCP 47, with ``-`` or ``_`` between their parts and in any case; a language of
ISO 639-1 may be given by its three letters too, as in FLORES.
"""

import re
from collections.abc import Iterable

import regex

# Three letters (ISO 639-3, and -2 where it differs) of the languages that anything here, or in
# sacremoses, has a rule for under two. Of a macrolanguage also the member that corpora are in.
_TWO_LETTERS = {
    three: two
    for two, threes in {
        "am": "amh", "ar": "ara arb", "as": "asm", "bn": "ben", "bo": "bod tib", "ca": "cat",
        "cs": "ces cze", "de": "deu ger", "dv": "div", "dz": "dzo", "el": "ell gre", "en": "eng",
        "es": "spa", "et": "est ekk", "fa": "fas per pes prs", "fi": "fin", "fr": "fra fre",
        "ga": "gle", "gu": "guj", "he": "heb iw", "hi": "hin", "hu": "hun", "hy": "hye arm",
        "is": "isl ice", "it": "ita", "ja": "jpn", "ka": "kat geo", "km": "khm", "kn": "kan",
        "ko": "kor", "ks": "kas", "lo": "lao", "lt": "lit", "lv": "lav lvs", "ml": "mal",
        "mr": "mar", "my": "mya bur", "ne": "nep npi", "nl": "nld dut", "or": "ori ory",
        "pa": "pan", "pl": "pol", "ps": "pus pbt", "pt": "por", "ro": "ron rum", "ru": "rus",
        "sa": "san", "sd": "snd", "si": "sin", "sk": "slk slo", "sl": "slv", "sv": "swe",
        "ta": "tam", "te": "tel", "th": "tha", "ti": "tir", "ug": "uig", "ur": "urd",
        "vi": "vie", "yi": "yid ydd ji", "zh": "zho chi cmn",
    }.items()
    for three in threes.split()
}  # fmt: skip

# ISO 15924, of languages whose usual script is none of Moses'. All others are taken to be in one.
_SCRIPTS = {
    lang: script
    for script, langs in {
        "Arab": "ar fa ur ps ug sd ks ckb azb acm acq aeb ajp apc ars ary arz",
        "Armn": "hy",
        "Beng": "bn as mni",
        "Deva": "hi mr ne sa awa bho brx doi gom hne kok mag mai",
        "Ethi": "am ti",
        "Geor": "ka",
        "Gujr": "gu",
        "Guru": "pa",
        "Hani": "zh cjy czh gan hsn lzh wuu yue",
        "Hebr": "he yi",
        "Jpan": "ja",
        "Khmr": "km",
        "Knda": "kn",
        "Kore": "ko",
        "Laoo": "lo",
        "Mlym": "ml",
        "Mymr": "my ksw mnw rki shn",
        "Olck": "sat",
        "Orya": "or",
        "Sinh": "si",
        "Taml": "ta",
        "Telu": "te",
        "Thaa": "dv",
        "Thai": "th",
        "Tibt": "bo dz",
    }.items()
    for lang in langs.split()
}

# Those that Moses' rules were made for: words with spaces between them, European punctuation.
_OF_MOSES = {"Latn", "Cyrl", "Grek"}
_WITHOUT_SPACES = {
    *("Hani", "Hans", "Hant", "Jpan", "Hira", "Kana", "Hrkt"),
    *("Khmr", "Laoo", "Mymr", "Thai", "Tibt"),
}


_LETTER = regex.compile(r"\p{L}")
_LETTER_OF_MOSES = regex.compile(r"[\p{Latin}\p{Cyrillic}\p{Greek}]")


def language_of(code: str) -> str:
    """Return the language without script and region: in two letters if it has a code of two."""
    language = re.split("[-_]", code)[0].lower()
    return _TWO_LETTERS.get(language, language)


def script_of(code: str) -> str:
    """Return the script as in ISO 15924: the code's own, or the language's usual one.

    ``Latn`` where nothing is known of the language.
    """
    for part in re.split("[-_]", code)[1:]:
        if len(part) == 4 and part.isalpha():
            return part.capitalize()
    return _SCRIPTS.get(language_of(code), "Latn")


def follows_moses(code: str) -> bool:
    """Say whether text in the language is tokenised by Moses' rules."""
    return script_of(code) in _OF_MOSES


def is_written_as(code: str, lines: Iterable[str]) -> bool:
    """Say whether the letters of ``lines`` may be of the script that the code stands for.

    A country's code, such as ``jp``, is no language's, and stands for Latin letters here.
    """
    text = "\n".join(lines)
    letters, of_moses = (len(which.findall(text)) for which in (_LETTER, _LETTER_OF_MOSES))
    return not follows_moses(code) or 2 * of_moses >= letters


def has_spaces(code: str) -> bool:
    """Say whether the language puts spaces between words."""
    return script_of(code) not in _WITHOUT_SPACES


def in_file_names(code: str) -> str:
    """Return the code as it stands in names of files: with ``_`` for ``-``.

    fairseq reads the languages of ``train.pt_BR-en.en.idx`` from the name, split at ``-``.
    """
    return code.replace("-", "_")
