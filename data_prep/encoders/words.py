"""Words in the place of a pretrained encoder's pieces: a corpus' own vocabulary and embeddings.

The directory is one of an encoder (`prepared.py`), for `attention_classifier` of fairseq_adv. It
belongs to the corpus whose training texts it was made from.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.encoders.prepared import FACTS, FILES
from data_prep.encoders.vectors import Vectors
from data_prep.encoders.vocabulary import MASK, SPECIAL
from data_prep.encoders.word_tokens import word_tokenizer, words_of
from data_prep.stages import sha256_of
from data_prep.support.errors import DataPrepError
from data_prep.support.lines import open_for_writing
from data_prep.support.printing import printable
from data_prep.support.versions import installed

OWN_WORDS = "words"
"""What the encoder is called, and its directory."""
LONGEST = 4096
"""Symbols of an example. An LSTM has no limit of its own; this one is for memory."""
TOOLS = ("tokenizers", "torch", "numpy")
_ARCH = "attention_classifier"
_END = 2  # fairseq's </s>, which separates a pair's texts, too
_PADDING = 1
_SEED = 0


@dataclass(frozen=True)
class WordSettings:
    """What a vocabulary and its embeddings are made by.

    :param min_count: how often a word has to be in the training texts; the rest is `<unk>`.
    :param vectors: None for random ones.
    :param dim: channels of random ones.
    """

    min_count: int
    vectors: Vectors | None
    dim: int

    max_positions = LONGEST

    def specials(self, texts: int) -> int:
        """How many special symbols stand behind one text, or behind and between two."""
        return 1 if texts == 1 else 3

    def key(self) -> dict[str, Any]:
        """What decides the result, beside the texts."""
        vectors = self.vectors and sha256_of(self.vectors.path)
        return {"min_count": self.min_count, "vectors": vectors, "dim": self.dim}


def make_words(
    corpus: str, texts: Iterable[str], pairs: bool, settings: WordSettings, directory: Path
) -> dict[str, Any]:
    """Fill ``directory`` with the files of an encoder; return what encoder.json says.

    :param texts: those to train on, cleaned.
    :param pairs: whether examples are of two texts.

    Raises DataPrepError if no word is left, or for vectors that are none.
    """
    # Late: checkpoints need torch, which takes seconds to import.
    from data_prep.encoders.checkpoint import write

    counts = _counted(texts, settings.min_count)
    symbols = [*SPECIAL, *counts, MASK]
    with open_for_writing(directory / "dict.txt") as stream:
        stream.writelines(f"{word} {count}\n" for word, count in counts.items())
    tokenizer = word_tokenizer({symbol: number for number, symbol in enumerate(symbols)})
    with open_for_writing(directory / "tokenizer.json") as stream:
        stream.write(tokenizer.to_str())
    table, found = _embeddings(symbols, settings)
    dim = table.size(1)
    weights = {"encoder.embed_tokens.weight": table}
    write(_ARCH, {"encoder_embed_dim": dim}, LONGEST, weights, symbols, directory)
    separator = [f"--separator-token {_END}"] if pairs else []
    options = [f"--arch {_ARCH} --encoder-embed-dim {dim}", *separator]
    (directory / "options.txt").write_text(
        " ".join([*options, f"--max-positions {LONGEST}"]) + "\n", encoding="utf-8"
    )
    vectors = settings.vectors
    facts = {
        "name": f"{OWN_WORDS} of {corpus}",
        "family": OWN_WORDS,
        "arch": _ARCH,
        "symbols": len(symbols),
        "max_positions": LONGEST,
        "begin": False,
        "separator": pairs,
        "vocabulary": {
            "words": len(counts),
            "min_count": settings.min_count,
            "dim": dim,
            "vectors": vectors.name if vectors else None,
            "with_vector": found,
        },
        "licence": vectors.licence if vectors else "of the corpus",
        "note": "words of its training texts; LSTMs and attention begin with random weights",
        "versions": installed(TOOLS),
        "files": {name: sha256_of(directory / name) for name in FILES},
    }
    with open_for_writing(directory / FACTS) as stream:
        stream.write(printable(json.dumps(facts, indent=2, ensure_ascii=False)) + "\n")
    return facts


def told(vocabulary: dict[str, Any]) -> str:
    """Return what people are told of a vocabulary."""
    begin = f"{vocabulary['words']:,} words of {vocabulary['dim']} channels"
    if vocabulary["vectors"] is None:
        return f"{begin}, random"
    return f"{begin}, {vocabulary['with_vector']:,} from {vocabulary['vectors']}, the rest random"


def _counted(texts: Iterable[str], least: int) -> dict[str, int]:
    """Return words and how often each is there; the frequent first, equal ones by their letters."""
    cutter = word_tokenizer({"<unk>": 0})
    counts = Counter[str]()
    for text in texts:
        counts.update(words_of(cutter, text))
    for symbol in (*SPECIAL, MASK):
        counts.pop(symbol, None)
    kept = {word: count for word, count in counts.items() if count >= least}
    if not kept:
        raise DataPrepError(
            f"--min-count {least}: no word of the texts to train on is there as often; the most"
            f" frequent is {max(counts.values(), default=0)} times"
        )
    return dict(sorted(kept.items(), key=lambda item: (-item[1], item[0])))


def _embeddings(symbols: Sequence[str], settings: WordSettings) -> tuple[Any, int]:
    """Return a table, symbols x channels, and how many words have a vector in it.

    What has none is drawn: without vectors from N(0, 1), torch's own; else with mean and deviation
    of those that are there, as in AllenNLP, which the paper's authors used.
    """
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    if settings.vectors is None:
        table = torch.randn(len(symbols), settings.dim, generator=generator)
        found: Mapping[str, np.ndarray] = {}
    else:
        found = settings.vectors.of(symbols[len(SPECIAL) : -1])
        if not found:
            raise DataPrepError(
                f"{settings.vectors.path}: has a vector for none of the words to train on"
            )
        known = torch.from_numpy(np.stack(list(found.values()))).float()
        drawn = torch.randn(len(symbols), known.size(1), generator=generator)
        table = drawn * known.std(correction=0) + known.mean()
        rows = {symbol: row for row, symbol in enumerate(symbols)}
        table[[rows[word] for word in found]] = known
    table[_PADDING] = 0
    return table, len(found)
