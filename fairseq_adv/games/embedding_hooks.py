"""Perturbed word embeddings: delta is added to what a fairseq model's `embed_tokens` returns.

A forward hook sees every model alike: Transformer, LSTM and convolutional ones call
`embed_tokens` once per pass on each side, before any scaling by sqrt(d) and before positions are
added. With `--share-all-embeddings` both sides have one module; the side is therefore known from
which of encoder and decoder is running, not from the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_adv.core.game import Delta, Side

Lookups = dict[Side, tuple[Tensor, Tensor]]


class UnsupportedModel(ValueError):
    """A model whose word embeddings cannot be perturbed; the message says why."""


@contextmanager
def embedding_hooks(
    model: nn.Module, hook: Callable[[Side, Tensor, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call hook(side, tokens, embeddings) where words are looked up; what it returns replaces them.

    :param model: a fairseq encoder-decoder model, wrapped for data-parallel training or not.
    :param hook: gets tokens, B x T, and embeddings, B x T x C, of `source` or `target`.

    The block is to hold one pass. Its hooks are gone when it ends, also by an exception. Raises
    UnsupportedModel where a side looks its words up more than once.
    """
    running: list[Side] = []
    seen: set[Side] = set()
    parts: dict[Side, Any] = {"source": model.encoder, "target": model.decoder}

    def embedded(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if not running:
            return None
        side = running[-1]
        if side in seen:
            raise UnsupportedModel(f"the {side} side looks its words up more than once per pass")
        seen.add(side)
        return hook(side, inputs[0], output)

    with ExitStack() as hooks:
        for side, part in parts.items():
            hooks.callback(
                part.register_forward_pre_hook(
                    partial(lambda side, *_: running.append(side), side)
                ).remove
            )
            hooks.callback(part.register_forward_hook(lambda *_: running.clear()).remove)
        for module in {part.embed_tokens for part in parts.values()}:  # one if shared
            hooks.callback(module.register_forward_hook(embedded).remove)
        yield


@contextmanager
def perturbed_embeddings(model: nn.Module, delta: Delta) -> Iterator[None]:
    """Add delta to the word embeddings of the pass inside the block.

    :param delta: B x T x C for each perturbed side, in the order of tokens that the embedding
        sees (an LSTM encoder turns left padding into right padding before it looks words up).
    """

    def add(side: Side, tokens: Tensor, embeddings: Tensor) -> Tensor | None:
        if side not in delta:
            return None
        return embeddings + delta[side].to(embeddings.dtype)

    with embedding_hooks(model, add):
        yield


@contextmanager
def cut_embeddings(model: nn.Module, keep: Mapping[Side, Tensor]) -> Iterator[None]:
    """Set the word embeddings to zero where keep, B x T, is false, in the pass inside the block."""

    def cut(side: Side, tokens: Tensor, embeddings: Tensor) -> Tensor | None:
        if side not in keep:
            return None
        return embeddings * keep[side].unsqueeze(-1).to(embeddings.dtype)

    with embedding_hooks(model, cut):
        yield


def looked_up(model: nn.Module, inputs: Mapping[Side, Sequence[Tensor]]) -> Lookups:
    """What each side looks up: its tokens, B x T, and embeddings, B x T x C, without gradient.

    Encoder and decoder are called for that, each on its own, and left as soon as it is known.

    :param inputs: the encoder's arguments, and the decoder's without the encoder's output.

    Raises UnsupportedModel where a side does not look words up.
    """
    found: Lookups = {}

    def stop(side: Side, tokens: Tensor, embeddings: Tensor) -> Tensor | None:
        found[side] = (tokens, embeddings)
        raise _Found

    parts: dict[Side, Any] = {"source": model.encoder, "target": model.decoder}
    with torch.no_grad(), embedding_hooks(model, stop):
        for side, part in parts.items():
            try:
                part(*inputs[side])
            except _Found:
                continue
            raise UnsupportedModel(f"the {side} side does not look words up in embed_tokens")
    return found


class _Found(Exception):
    """Ends a pass at the lookup of words."""
