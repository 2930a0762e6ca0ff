"""Small vocabularies: of WordPiece, and of byte-level BPE."""

from __future__ import annotations

from tokenizers import pre_tokenizers

WORDS = (
    *("the", "a", "film", "is", "was", "good", "bad", "not", "very"),
    *("and", "of", "plot", "actor", "boring", "brilliant", "it", "there"),
)
SUFFIXES = ("##s", "##ly", "##ing", "##er", "##ful", "##e")
LETTERS = "abcdefghijklmnopqrstuvwxyz"

PIECES = [
    *("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(",", ".", "!", "'", "好"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS if f"##{letter}" not in SUFFIXES),
    *SUFFIXES,
    *(word for word in WORDS if len(word) > 1),
]
"""In an order that is not fairseq's: [PAD] first, [CLS] in the middle."""


def byte_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """RoBERTa's form: special symbols first, all bytes, merges, <mask> last."""
    merges: list[tuple[str, str]] = []
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    for word in WORDS:
        built = "Ġ"
        for letter in word:
            if built + letter not in pieces:
                merges.append((built, letter))
                pieces.append(built + letter)
            built += letter
    pieces.append("<mask>")
    return {piece: number for number, piece in enumerate(pieces)}, merges
