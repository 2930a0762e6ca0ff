"""Words of subwords: where one begins, and how it is written.

What lies between spaces is a word, its punctuation included where a tokeniser has not parted it. So
in a language without spaces, and with subwords that reach over its tokens, a clause may be one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tokenizers.decoders import ByteLevel

NO_WORD = -1
_SHARE = 0.01  # of a dictionary; a text may have a word that looks like a mark


@dataclass(frozen=True)
class Subwords:
    """One way to mark where a word goes on.

    :param is_marked: whether a subword has the mark.
    :param goes_on: whether the second of two neighbours belongs to the word of the first.
    :param written: the text of a word's subwords.
    """

    is_marked: Callable[[str], bool]
    goes_on: Callable[[str, str], bool]
    written: Callable[[Sequence[str]], str]


WHOLE = Subwords(lambda _: False, lambda *_: False, "".join)
"""Words that are not cut."""

KINDS: Mapping[str, Subwords] = {
    "subword-nmt": Subwords(
        lambda piece: piece.endswith("@@"),
        lambda before, _: before.endswith("@@"),
        lambda pieces: "".join(piece.removesuffix("@@") for piece in pieces),
    ),
    "SentencePiece": Subwords(
        lambda piece: piece.startswith("\u2581"),
        lambda _, piece: not piece.startswith("\u2581"),
        lambda pieces: "".join(pieces).replace("\u2581", " ").strip(),
    ),
    "WordPiece": Subwords(
        lambda piece: piece.startswith("##"),
        lambda _, piece: piece.startswith("##"),
        lambda pieces: "".join(piece.removeprefix("##") for piece in pieces),
    ),
    "byte-level": Subwords(
        lambda piece: piece.startswith("Ġ"),  # a space, as a byte is shown
        lambda _, piece: not piece.startswith("Ġ"),
        lambda pieces: str(ByteLevel().decode(list(pieces))).strip(),
    ),
}


def subwords_of(symbols: Sequence[str]) -> Subwords:
    """Return how a dictionary marks its subwords: as most of its symbols with a mark do."""
    marked = {kind: sum(map(way.is_marked, symbols)) for kind, way in KINDS.items()}
    kind = max(marked, key=marked.__getitem__)
    return KINDS[kind] if marked[kind] > _SHARE * len(symbols) else WHOLE


def words_of(pieces: Sequence[str | None], subwords: Subwords) -> tuple[list[int], list[str]]:
    """Return the number of the word that each piece belongs to, and the words.

    :param pieces: None where there is no word: its number is NO_WORD, and no word goes on over it.
    """
    numbers: list[int] = []
    words: list[list[str]] = []
    before = None
    for piece in pieces:
        if piece is None:
            numbers.append(NO_WORD)
        else:
            if before is not None and subwords.goes_on(before, piece):
                words[-1].append(piece)
            else:
                words.append([piece])
            numbers.append(len(words) - 1)
        before = piece
    return numbers, [subwords.written(word) for word in words]
