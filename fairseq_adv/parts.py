"""A batch in parts, for games that would take more memory than a plain step of the whole.

Perturbations, their norms and all losses are of single sentences: a game on each part, one after
another, adds up to the game on the batch, and holds the graphs of one part at a time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def parts_of(sample: dict[str, Any], number: int, padding: int) -> list[dict[str, Any]]:
    """Split a batch between sentences into at most so many parts, of about as many words each.

    Columns in which a part has padding only are left out of it.

    :param sample: a batch of fairseq's `LanguagePairDataset`, or one like it: what has an entry for
        each sentence is split, all else is in every part as it is.
    :param padding: the index that pads.
    """
    sentences = sample["target"].size(0)
    number = min(number, sentences)
    if number == 1:
        return [sample]
    words = sample["net_input"]["src_tokens"].ne(padding).sum(1)
    words = words + sample["target"].ne(padding).sum(1)
    middles = words.cumsum(0) - words / 2  # whose place decides on the part
    shares = torch.arange(1, number, device=words.device) * words.sum() / number
    cuts = [0, *torch.searchsorted(middles, shares).tolist(), sentences]
    for i in range(1, number):  # none is empty
        cuts[i] = min(max(cuts[i], cuts[i - 1] + 1), sentences - (number - i))
    return [
        _trimmed(_sliced(sample, slice(first, last), sentences), padding)
        for first, last in pairwise(cuts)
    ]


def _sliced(value: Any, rows: slice, sentences: int) -> Any:
    if isinstance(value, dict):
        return {key: _sliced(part, rows, sentences) for key, part in value.items()}
    if isinstance(value, Tensor):
        return value[rows] if value.dim() > 0 and value.size(0) == sentences else value
    if isinstance(value, list):
        return value[rows] if len(value) == sentences else value
    return value


def _trimmed(sample: dict[str, Any], padding: int) -> dict[str, Any]:
    net_input = dict(sample["net_input"])
    net_input["src_tokens"] = _without(net_input["src_tokens"], padding)
    target, before = sample["target"], net_input["prev_output_tokens"]
    if target.shape == before.shape:
        used = (target.ne(padding) | before.ne(padding)).any(0)
        target, net_input["prev_output_tokens"] = target[:, used], before[:, used]
    return {**sample, "target": target, "net_input": net_input}


def _without(tokens: Tensor, padding: int) -> Tensor:
    return tokens[:, tokens.ne(padding).any(0)]
