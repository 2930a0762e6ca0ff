"""Attention scores: what a softmax makes weights of, before masks and after any scaling.

The place of attack of Kitada and Iyatomi (2021), there in a classifier with one layer of additive
attention, which is `attention_classifier` here. Beside it: the decoder's attention over the source
in a Transformer (all layers and heads), an LSTM and a convolutional model; self-attention in a
RoBERTa or BERT (all layers and heads).

A place is a query, of which that classifier has one in a sentence; its components are its scores
over layers, heads and keys, in this order. Norms, balls and starts are therefore those of any site:
the norm of a sentence is over all its scores, that of a token over those of one query. Padded
queries and masked keys are not there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from fairseq.models import fconv, lstm
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

from fairseq_adv.core.sites import ATTENTION, Edit, Keep
from fairseq_adv.games.sites.embeddings import Embeddings, SourceEmbeddings, TargetEmbeddings
from fairseq_adv.games.sites.site import FairseqSite, UnsupportedModel, edited, register_site
from fairseq_adv.models.attention_classifier import AdditiveAttention
from fairseq_adv.replaced import replaced

Change = Callable[[int, Tensor, int], Tensor]
"""Gets a layer's number, scores B x H x T x S, and the number of the first of their queries."""


class Layers(ABC):
    """The layers of attention of one model, and their scores.

    :param modules: one for each layer.
    """

    queries: type[Embeddings] = TargetEmbeddings
    """Whose words ask, where it is words."""
    heads = 1

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules

    def opened(self) -> AbstractContextManager[None]:
        """A block for one pass whose scores are computed where they can be changed."""
        return nullcontext()

    def asked(self, model: nn.Module, sample: dict[str, Any]) -> Tensor:
        """Where there are scores, B x T x S: true where a word asks a word of the source."""
        queries, keys = (side(model, sample).mask for side in (self.queries, SourceEmbeddings))
        return queries & keys.mT

    @abstractmethod
    def changed(self, change: Change) -> AbstractContextManager[None]:
        """A block for one pass that is open, in which scores are changed."""


class MultiHead(Layers):
    """fairseq's `MultiheadAttention`, which is made to compute its scores itself."""

    def __init__(self, modules: Sequence[MultiheadAttention]) -> None:
        super().__init__(modules)
        self.heads = modules[0].num_heads

    @contextmanager
    def opened(self) -> Iterator[None]:
        """See `Layers`: else torch's own function is called, whose scores nobody sees."""
        with ExitStack() as blocks:
            for module in self.modules:
                blocks.enter_context(replaced(module, "skip_embed_dim_check", True))
            yield

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """See `Layers`: at the identity between product and masks that is for sparse attention."""

        def scores(number: int, found: Tensor, queries: int, keys: int, sentences: int) -> Tensor:
            by_head = found.view(sentences, -1, queries, keys)
            return change(number, by_head, 0).reshape(found.shape)

        with ExitStack() as blocks:
            for number, module in enumerate(self.modules):
                blocks.enter_context(replaced(module, "apply_sparse_mask", partial(scores, number)))
            yield


class SelfAttention(MultiHead):
    """That of an encoder, all of whose words ask all."""

    queries = SourceEmbeddings


class Recurrent(Layers):
    """The LSTM's, which is asked by one target word after another."""

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """See `Layers`: in its softmax, where masked scores are those that are -inf."""
        asked = 0

        def softmax(scores: Tensor, dim: int) -> Tensor:  # S x B
            nonlocal asked
            query, asked = asked, asked + 1
            masked = scores == -torch.inf
            known = scores.masked_fill(masked, 0).t()[:, None, None]
            found = change(0, known, query)[:, 0, 0].t().masked_fill(masked, -torch.inf)
            return nn.functional.softmax(found, dim=dim)

        with replaced(lstm, "F", _With(softmax)):
            yield


class Convolutional(Layers):
    """Those of a convolutional decoder: the first of the two products of each."""

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """See `Layers`."""
        seen: set[int] = set()

        def product(number: int, of: Any, x: Tensor, y: Tensor) -> Tensor:
            found: Tensor = of(x, y)
            if number in seen:
                return found
            seen.add(number)
            return change(number, found[:, None], 0)[:, 0]

        with ExitStack() as blocks:
            for number, module in enumerate(self.modules):
                blocks.enter_context(replaced(module, "bmm", partial(product, number, module.bmm)))
            yield


class Additive(Layers):
    """A classifier's, which asks once in a sentence."""

    def asked(self, model: Any, sample: dict[str, Any]) -> Tensor:
        """See `Layers`: B x 1 x S, true at words that the model attends to."""
        return model.encoder.attended(sample["net_input"]["src_tokens"])[:, None]

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """See `Layers`."""
        (module,) = self.modules
        of = module.scores

        def scores(*inputs: Tensor | None) -> Tensor:
            return change(0, of(*inputs)[:, None, None], 0)[:, 0, 0]

        with replaced(module, "scores", scores):
            yield


class _With:
    """torch.nn.functional, with another softmax."""

    def __init__(self, softmax: Callable[..., Tensor]) -> None:
        self.softmax = softmax

    def __getattr__(self, name: str) -> Any:
        return getattr(nn.functional, name)


def layers_of(model: Any) -> Layers:
    """Return the layers of attention that are attacked. Raises UnsupportedModel without any."""
    decoder = getattr(model, "decoder", None)
    encoder = getattr(getattr(model, "encoder", None), "sentence_encoder", None)
    name, attribute, kind = "encoder_attn", decoder, MultiHead
    if decoder is None:
        name, attribute, kind = "self_attn", encoder, SelfAttention
    layers = getattr(attribute, "layers", nn.Module()).children()  # iterating itself may drop some
    modules = [getattr(layer, name, None) for layer in layers]
    found = [module for module in modules if isinstance(module, MultiheadAttention)]
    if found and len({module.num_heads for module in found}) == 1:
        return kind(found)
    attention = getattr(getattr(model, "encoder", None), "attention", None)
    if isinstance(attention, AdditiveAttention):
        return Additive([attention])
    attention = getattr(decoder, "attention", None)
    if isinstance(attention, lstm.AttentionLayer):
        return Recurrent([attention])
    if isinstance(attention, nn.ModuleList):
        found = [module for module in attention if isinstance(module, fconv.AttentionLayer)]
        if found:
            return Convolutional(found)
    raise UnsupportedModel(
        f"{type(model).__name__} has no attention whose scores can be perturbed: that of a "
        "Transformer's, an LSTM's or a convolutional decoder over the source, self-attention of "
        "RoBERTa or BERT, or that of attention_classifier"
    )


@register_site(ATTENTION)
class AttentionScores(FairseqSite):
    """See the module: B x T queries, layers * heads * S scores each."""

    @staticmethod
    def check(model: nn.Module) -> None:
        """See `FairseqSite`. Raises UnsupportedModel for checkpointed layers, too."""
        layers_of(model)
        if any(hasattr(module, "precheckpoint_forward") for module in model.modules()):
            raise UnsupportedModel(
                "--checkpoint-activations, --offload-activations with --perturb attention: "
                "layers that are run again in the backward pass are not perturbed there: leave "
                "them out"
            )

    @cached_property
    def _layers(self) -> Layers:
        return layers_of(self.model)

    @cached_property
    def mask(self) -> Tensor:
        """See `Site`: B x T x C, true where there are scores."""
        of_each = len(self._layers.modules) * self._layers.heads
        return self._layers.asked(self.model, self.sample).repeat(1, 1, of_each)

    @cached_property
    def zero(self) -> Tensor:
        """See `Site`: B x T x C."""
        dtype = torch.promote_types(next(self.model.parameters()).dtype, torch.float32)
        return torch.zeros_like(self.mask, dtype=dtype)

    def open(self) -> AbstractContextManager[None]:
        """See `FairseqSite`."""
        return self._layers.opened()

    def apply(self, edit: Edit) -> AbstractContextManager[None]:
        """See `FairseqSite`."""
        values = edit.where if isinstance(edit, Keep) else edit.values
        by_layer = self.by_layer(values.expand(self.zero.shape))

        def change(layer: int, scores: Tensor, first: int) -> Tensor:
            of = by_layer[:, first : first + scores.size(2), layer].transpose(1, 2)
            return edited(scores, type(edit)(of))

        return self._layers.changed(change)

    def by_layer(self, values: Tensor) -> Tensor:
        """What belongs to scores, B x T x C, by layer, head and key: B x T x L x H x S, a view."""
        layers = self._layers
        return values.unflatten(-1, (len(layers.modules), layers.heads, -1))

    @contextmanager
    def watched(self, *, held: bool) -> Iterator[Callable[[], Tensor]]:
        """A block for one pass, after which what it gives returns the weights, of each layer.

        They are B x layers x heads x queries x S, 0 where there is no key, and without gradient.

        :param held: let no gradient of the pass flow through them: they are constants to it.
        """
        seen: dict[int, list[Tensor]] = {}

        def watch(layer: int, scores: Tensor, _: int) -> Tensor:
            seen.setdefault(layer, []).append(scores.detach())
            return scores.detach() if held else scores

        def weights() -> Tensor:
            scores = torch.stack([torch.cat(seen[layer], 2) for layer in sorted(seen)], 1)
            keys = self.mask.any(1).unflatten(-1, (*scores.shape[1:3], -1)).unsqueeze(3)
            least = torch.finfo(scores.dtype).min
            return scores.masked_fill(~keys, least).softmax(-1) * keys  # a text may have no word

        with self.open(), self._layers.changed(watch):
            yield weights
