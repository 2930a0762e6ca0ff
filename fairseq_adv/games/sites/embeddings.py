"""Word embeddings of either side: what a fairseq model's `embed_tokens` returns.

A forward hook sees every model alike: Transformer, LSTM and convolutional ones call
`embed_tokens` once per pass on each side, before any scaling by sqrt(d) and before positions are
added. With `--share-all-embeddings` both sides have one module; the side is therefore known from
which of encoder and decoder is running, not from the module.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_adv.core.sites import Edit
from fairseq_adv.games.sites.site import FairseqSite, UnsupportedModel, edited, register_site

Hook = Callable[[Tensor, Tensor], Tensor | None]
"""Gets tokens, B x T, and embeddings, B x T x C; what it returns replaces these."""


class Embeddings(FairseqSite):
    """Word embeddings of one side, in the order of tokens that the embedding sees.

    (An LSTM encoder turns left padding into right padding before it looks words up.)
    """

    part: str
    """Of the model: `encoder` or `decoder`."""

    @classmethod
    def looks_up(cls, model: nn.Module) -> Any:
        """What looks words up: the part, or what RoBERTa's encoder has in it."""
        part = getattr(model, cls.part, None)
        return getattr(part, "sentence_encoder", part)

    @classmethod
    def check(cls, model: nn.Module) -> None:
        """See `FairseqSite`."""
        if not hasattr(cls.looks_up(model), "embed_tokens"):
            raise UnsupportedModel(
                f"{type(model).__name__} has no {cls.part}.embed_tokens, the word embeddings "
                "that are perturbed"
            )

    @cached_property
    def zero(self) -> Tensor:
        """See `Site`: B x T x C."""
        embeddings = self.looked_up[1]
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        return torch.zeros_like(embeddings, dtype=dtype)

    @cached_property
    def mask(self) -> Tensor:
        """See `Site`: B x T x 1, true at words."""
        padding = self.looks_up(self.model).embed_tokens.padding_idx
        return self.looked_up[0].ne(padding).unsqueeze(-1)

    @contextmanager
    def apply(self, edit: Edit) -> Iterator[None]:
        """See `FairseqSite`. Raises UnsupportedModel where words are looked up more than once."""
        with self._hooked(lambda tokens, embeddings: edited(embeddings, edit)):
            yield

    @contextmanager
    def _hooked(self, hook: Hook) -> Iterator[None]:
        part = self.looks_up(self.model)
        running, seen = False, False

        def begin(*_: Any) -> None:
            nonlocal running
            running = True

        def end(*_: Any) -> None:
            nonlocal running
            running = False

        def embedded(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            nonlocal seen
            if not running:
                return None
            if seen:
                raise UnsupportedModel(f"the {self.part} looks words up more than once per pass")
            seen = True
            return hook(inputs[0], output)

        with ExitStack() as hooks:
            hooks.callback(part.register_forward_pre_hook(begin).remove)
            hooks.callback(part.register_forward_hook(end).remove)
            hooks.callback(part.embed_tokens.register_forward_hook(embedded).remove)
            yield

    @cached_property
    def looked_up(self) -> tuple[Tensor, Tensor]:
        """What is looked up: tokens, B x T, and embeddings, B x T x C, without gradient.

        The encoder or decoder is called for that on its own, and left as soon as it is known.
        """
        found: list[Tensor] = []

        def stop(tokens: Tensor, embeddings: Tensor) -> Tensor | None:
            found.extend((tokens, embeddings))
            raise _Found

        with torch.no_grad(), self._hooked(stop):
            try:
                self.looks_up(self.model)(*self._inputs)
            except _Found:
                return found[0], found[1]
        raise UnsupportedModel(f"the {self.part} does not look words up in embed_tokens")

    @property
    @abstractmethod
    def _inputs(self) -> Sequence[Tensor]:
        """Arguments of the part, as far as it needs them to look words up."""


class _Found(Exception):
    """Ends a pass at the lookup of words."""


@register_site("source")
class SourceEmbeddings(Embeddings):
    """What the encoder looks up."""

    part = "encoder"

    @cached_property
    def spared(self) -> Tensor:
        """See `Site`: the last token, and where a sentence begins or ends in a text of several."""
        tokens, words = self.looked_up[0], self.model.encoder.dictionary
        number = self.mask.squeeze(-1).cumsum(1)
        spared = number == number[:, -1:]
        return (spared | tokens.eq(words.bos()) | tokens.eq(words.eos())).unsqueeze(-1) & self.mask

    @property
    def _inputs(self) -> Sequence[Tensor]:
        words = self.sample["net_input"]
        return words["src_tokens"], words["src_lengths"]


@register_site("target")
class TargetEmbeddings(Embeddings):
    """What the decoder looks up."""

    part = "decoder"

    @cached_property
    def spared(self) -> Tensor:
        """See `Site`: the token that the decoder starts from."""
        return (self.mask.cumsum(1) == 1) & self.mask

    @property
    def _inputs(self) -> Sequence[Tensor]:
        return (self.sample["net_input"]["prev_output_tokens"],)
