"""Perturbed word embeddings: delta is added to what a fairseq model's `embed_tokens` returns.

A forward hook sees every model alike: Transformer, LSTM and convolutional ones call
`embed_tokens` once per pass on each side, before any scaling by sqrt(d) and before positions are
added. With `--share-all-embeddings` both sides have one module; the side is therefore known from
which of encoder and decoder is running, not from the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from fairseq_adv.core.game import Delta, Side


class UnsupportedModel(ValueError):
    """A model whose word embeddings cannot be perturbed; the message says why."""


@contextmanager
def embedding_hooks(
    model: nn.Module, hook: Callable[[Side, Tensor, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call hook(side, tokens, embeddings) for each lookup of words; what it returns replaces them.

    :param model: a fairseq encoder-decoder model, wrapped for data-parallel training or not.
    :param hook: gets tokens, B x T, and embeddings, B x T x C, of `source` or `target`.

    The hooks are gone when the block ends, also by an exception.
    """
    running: list[Side] = []
    parts: dict[Side, Any] = {"source": model.encoder, "target": model.decoder}

    def embedded(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return hook(running[-1], inputs[0], output) if running else None

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
    """Add delta to the word embeddings of every pass inside the block.

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
def recorded_embeddings(model: nn.Module) -> Iterator[dict[Side, tuple[Tensor, Tensor]]]:
    """What each side looked up inside the block: its tokens, B x T, and embeddings, B x T x C.

    Raises UnsupportedModel where a side does not look its words up exactly once per pass.
    """
    seen: dict[Side, tuple[Tensor, Tensor]] = {}

    def record(side: Side, tokens: Tensor, embeddings: Tensor) -> None:
        if side in seen:
            raise UnsupportedModel(f"the {side} side looks its words up more than once per pass")
        seen[side] = (tokens, embeddings.detach())

    with embedding_hooks(model, record):
        yield seen
