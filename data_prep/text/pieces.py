"""Subwords by SentencePiece (Kudo and Richardson, 2018), straight from raw sentences.

Its byte-pair encoding, with every character in the vocabulary, as fairseq's scripts use it. Text
is not normalised: SentencePiece's default, NFKC nearly, makes "105" of "10⁵", Latin punctuation of
Chinese, and spaces of the joiners in Persian words. So pieces are put together to the very
sentence, but for U+2581, which stands for a space in them.
"""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from data_prep.support.errors import DataPrepError
from data_prep.support.parallel import LineFunction
from data_prep.text.tokenization import lower

_TOO_MANY = re.compile(r"Vocabulary size too high .* value <= (\d+)")
_TOO_FEW = re.compile(r"Vocabulary size is smaller than required_chars. \d+ vs (\d+)")


def learn_pieces(sentences: Iterable[str], size: int, path: Path) -> int:
    """Learn a vocabulary of ``size`` pieces, write the model to ``path``, return their number.

    Raises DataPrepError that gives the largest or smallest size if the text has not so many, or
    more characters.
    """
    try:
        with path.open("wb") as stream:
            SentencePieceTrainer.train(
                sentence_iterator=map(_with_plain_spaces, sentences),
                model_writer=stream,
                vocab_size=size,
                model_type="bpe",
                character_coverage=1.0,
                normalization_rule_name="identity",
                minloglevel=2,
            )
    except RuntimeError as error:
        if found := _TOO_MANY.search(str(error)):
            reason = f"more pieces than the text has; allowed is up to {found[1]}"
        elif found := _TOO_FEW.search(str(error)):
            reason = f"fewer pieces than the text has characters; allowed is from {found[1]} on"
        else:
            raise DataPrepError(f"sentencepiece: {error}") from error
        raise DataPrepError(f"--bpe-merges {size}: {reason}") from error
    return size


def _with_plain_spaces(sentence: str) -> str:
    """Make single spaces of what fairseq, too, takes for space: it would end a piece there."""
    return " ".join(sentence.split())


def piece_encoder(model: Path, lower_cases: bool) -> LineFunction:
    """Return a function from sentences to their pieces, joined by single spaces."""
    return partial(_encode, model=model.read_bytes(), lower_cases=lower_cases)


def _encode(lines: list[str], model: bytes, lower_cases: bool) -> list[str]:
    sentences = [_with_plain_spaces(lower(line) if lower_cases else line) for line in lines]
    return [" ".join(pieces) for pieces in _load(model).encode(sentences, out_type=str)]


@lru_cache(maxsize=1)
def _load(model: bytes) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_proto=model)
