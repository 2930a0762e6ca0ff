"""A batch in parts, for games that would take more memory than a plain step of the whole.

Perturbations, their norms and all losses are of single sentences: a game on each part, one after
another, adds up to the game on the batch, and holds the graphs of one part at a time.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_adv.core.method import Peak

LEAST_PART = 400
"""Tokens: with fewer, passes over parts take longer than one over the whole."""
_PLAIN = Peak(graphs=1, logits=3)
"""What fairseq's own update holds."""


def number_of_parts(model: nn.Module, words: int, peak: Peak, tokens: int) -> int:
    """Return in how many parts a game on a batch holds about as much as a plain update of it.

    Fewer where the parts would be small.

    :param words: logits in a row: the vocabulary's, or classes.
    :param peak: what the game would hold in one part.
    :param tokens: of the batch: target tokens, or those of the sentences that are classified.
    """
    graph = graph_size(model, words)
    ours, plain = (each.graphs * graph + each.logits * words for each in (peak, _PLAIN))
    return max(1, min(math.ceil(ours / plain), tokens // LEAST_PART))


def graph_size(model: nn.Module, words: int) -> int:
    """Return how many numbers a pass's graph keeps for each token, about.

    Each matrix makes as many as it has rows, and as many again are kept of what lies between
    matrices: normalisation, dropout, activation. (In a Transformer of 3 + 3 layers of 128 channels
    it is 1.95 times as many in all, in one of 6 + 6 layers of 512 it is 1.7 times.)

    :param words: of the vocabulary: what is projected to them, or looked up, does not count.
    """
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
    matrices = (p for p in model.parameters() if p.dim() > 1 and id(p) not in tables)
    return 2 * sum(p.size(0) for p in matrices if p.size(0) != words)


def parts_of(sample: dict[str, Any], number: int, words: Tensor) -> list[dict[str, Any]]:
    """Split a batch between sentences into at most so many parts, of about as many words each.

    :param sample: what has an entry for each sentence is split, all else is in every part as it is.
    :param words: how many each of the sentences has.
    """
    sentences = words.size(0)
    number = min(number, sentences)
    if number == 1:
        return [sample]
    middles = words.cumsum(0) - words / 2  # whose place decides on the part
    shares = torch.arange(1, number, device=words.device) * words.sum() / number
    cuts = [0, *torch.searchsorted(middles, shares).tolist(), sentences]
    for i in range(1, number):  # none is empty
        cuts[i] = min(max(cuts[i], cuts[i - 1] + 1), sentences - (number - i))
    return [_sliced(sample, slice(first, last), sentences) for first, last in pairwise(cuts)]


def _sliced(value: Any, rows: slice, sentences: int) -> Any:
    if isinstance(value, dict):
        return {key: _sliced(part, rows, sentences) for key, part in value.items()}
    if isinstance(value, Tensor):
        return value[rows] if value.dim() > 0 and value.size(0) == sentences else value
    if isinstance(value, list):
        return value[rows] if len(value) == sentences else value
    return value


def used_columns(padding: int, *tokens: Tensor) -> list[Tensor]:
    """Tokens of one shape, B x T, without the columns in which all of them have padding only."""
    used = torch.stack([each.ne(padding).any(0) for each in tokens]).any(0)
    return [each[:, used] for each in tokens]
