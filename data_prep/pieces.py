"""Subwords by SentencePiece (Kudo and Richardson, 2018), straight from raw sentences.

Its byte-pair encoding, with every character in the vocabulary, as fairseq's scripts use it; text is
normalised by its default rules (NFKC, nearly).
"""

import re
from collections.abc import Iterable
from functools import lru_cache, partial
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from data_prep.errors import DataPrepError
from data_prep.parallel import LineFunction
from data_prep.tokenization import lower

_TOO_MANY = re.compile(r"Vocabulary size too high .* value <= (\d+)")


def learn_pieces(sentences: Iterable[str], size: int, path: Path) -> int:
    """Learn a vocabulary of ``size`` pieces, write the model to ``path``, return their number.

    Raises DataPrepError that gives the largest size if the text has not so many.
    """
    try:
        with path.open("wb") as stream:
            SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=stream,
                vocab_size=size,
                model_type="bpe",
                character_coverage=1.0,
                minloglevel=2,
            )
    except RuntimeError as error:
        found = _TOO_MANY.search(str(error))
        if found is None:
            raise DataPrepError(f"sentencepiece: {error}") from error
        raise DataPrepError(
            f"--bpe-merges {size}: more pieces than the text has; allowed is up to {found[1]}"
        ) from error
    return size


def piece_encoder(model: Path, lower_cases: bool) -> LineFunction:
    """Return a function from sentences to their pieces, joined by single spaces."""
    return partial(_encode, model=model.read_bytes(), lower_cases=lower_cases)


def _encode(lines: list[str], model: bytes, lower_cases: bool) -> list[str]:
    sentences = list(map(lower, lines)) if lower_cases else lines
    return [" ".join(pieces) for pieces in _load(model).encode(sentences, out_type=str)]


@lru_cache(maxsize=1)
def _load(model: bytes) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_proto=model)
