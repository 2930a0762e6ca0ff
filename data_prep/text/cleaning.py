"""Repairs on one line of text, so that every later tool agrees on where lines and words end."""

import re
import unicodedata
from collections.abc import MutableMapping

import regex

CONTROL = "control characters"
SEPARATOR = "line separators"
INVISIBLE = "invisible characters"

# U+0085, U+2028 and U+2029 end a line for str.splitlines(), and so do \v, \f and \x1c to \x1e:
# left in place, they would tear source and target apart in any tool that uses it.
_LINE_SEPARATORS = re.compile("[\v\f\x1c\x1d\x1e\x85\u2028\u2029\r\n]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")
# What tokenizer.perl makes a space of, and what it takes out.
_MOSES_SEPARATORS = re.compile("[\v\f\x85\u2028\u2029\r\n]")
_MOSES_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f]")
# Soft hyphen, directional marks, zero-width space, word joiner, byte order mark. The two joiners
# U+200C and U+200D stay: they are spelling in Persian and in Indic scripts.
_INVISIBLE = re.compile(
    "[\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]"
)
_SPACES = re.compile(r"\s+")
# What there is to see. SentencePiece takes U+2581, a block, for a space.
_VISIBLE = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2581]")


def strip_line(line: str, repairs: MutableMapping[str, int]) -> str:
    """Return ``line`` free of the separators and control characters that Moses takes out anyhow.

    The tokens are those that tokenizer.perl makes of the line as it was. Counted as in
    `clean_line`.
    """
    if _MOSES_SEPARATORS.search(line):
        repairs[SEPARATOR] = repairs.get(SEPARATOR, 0) + 1
        line = _MOSES_SEPARATORS.sub(" ", line)
    if _MOSES_CONTROLS.search(line):
        repairs[CONTROL] = repairs.get(CONTROL, 0) + 1
        line = _MOSES_CONTROLS.sub("", line)
    return line.strip()


def clean_line(line: str, repairs: MutableMapping[str, int]) -> str:
    """Return ``line`` in NFC, free of control and invisible characters, with single spaces.

    Each kind of repair is counted once per line in ``repairs``. Non-breaking, thin and other
    Unicode spaces become plain ones without being counted: they are ordinary typography.
    """
    if not line.isascii() and _INVISIBLE.search(line):
        repairs[INVISIBLE] = repairs.get(INVISIBLE, 0) + 1
        line = _INVISIBLE.sub("", line)
    if _LINE_SEPARATORS.search(line):
        repairs[SEPARATOR] = repairs.get(SEPARATOR, 0) + 1
        line = _LINE_SEPARATORS.sub(" ", line)
    if _CONTROLS.search(line):
        repairs[CONTROL] = repairs.get(CONTROL, 0) + 1
        line = _CONTROLS.sub("", line)
    # At last: what was taken out may have stood between a letter and its accent.
    return _SPACES.sub(" ", unicodedata.normalize("NFC", line)).strip()


def is_blank(line: str) -> bool:
    """Say whether there is nothing to see: no character, or only spaces, joiners and the like."""
    return not _VISIBLE.search(line)
