"""Text as an encoder reads it: cleaned, cut into pieces, and no longer than it takes.

What data_prep does to a corpus, and whoever uses the model does to a new text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tokenizers import Tokenizer

from data_prep.encoders.hugging_face import damage
from data_prep.text.cleaning import clean_line

T = TypeVar("T")


def cutter(encoder: Path) -> Callable[[str], list[str]]:
    """Return what cuts one text into the pieces of dict.txt, as data_prep does, cleaning included.

    :param encoder: a directory of `python -m data_prep encoder`.
    """
    tokenizer = read_tokenizer(encoder)

    def cut(text: str) -> list[str]:
        return list(tokenizer.encode(clean_line(text, {}), add_special_tokens=False).tokens)

    return cut


def read_tokenizer(encoder: Path) -> Tokenizer:
    """Return the tokeniser of an encoder, whose numbers are those of its dictionary.

    Raises DataPrepError if it is damaged.
    """
    path = encoder / "tokenizer.json"
    with damage(path):
        return Tokenizer.from_str(path.read_text("utf-8"))


def shortened(
    first: Sequence[T], second: Sequence[T] | None, most: int
) -> tuple[Sequence[T], Sequence[T] | None]:
    """Return a text, or two, of at most ``most`` pieces in all; the longer one is cut first.

    As in Hugging Face's `longest_first`: of two that are both too long the longer keeps one more
    where ``most`` is odd, the second if neither is. Special symbols are not counted.
    """
    if second is None:
        return first[:most], None
    short, long = sorted((len(first), len(second)))
    if short + long <= most:
        return first, second
    short = min(short, most // 2)
    long = most - short
    if len(first) > len(second):
        return first[:long], second[:short]
    return first[:short], second[:long]
