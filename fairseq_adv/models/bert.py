"""BERT (Devlin et al., NAACL 2019) as an encoder of sentences and pairs, with its own weights.

fairseq's RoBERTa is BERT but for three things, which are here: embeddings of the two segments, a
layer norm with an epsilon of 1e-12, and a pooler that all heads share, for it comes with the
weights. `python -m data_prep encoder` makes checkpoints of it. Tests: tests/models/test_bert.py.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta import RobertaEncoder, RobertaModel
from fairseq.models.roberta.model import base_architecture as roberta_architecture
from fairseq.models.transformer import TransformerEncoder
from fairseq.modules.transformer_sentence_encoder import init_bert_params
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

from fairseq_adv.models.heads import Head, fit_heads, put_head

logger = logging.getLogger(__name__)

EPSILON = 1e-12
"""Of every layer norm; fairseq has torch's 1e-5."""
_POOLER = "pooler.dense."


class SegmentedEncoder(TransformerEncoder):
    """fairseq's encoder that also knows the first text of a pair from the second.

    Segments are read off the tokens, `<s> a </s> b </s>`: 0 up to the first `</s>`, 1 behind it.
    """

    def __init__(self, args: Any, dictionary: Any, embed_tokens: nn.Embedding) -> None:
        super().__init__(args, dictionary, embed_tokens)
        self.end_idx = dictionary.eos()
        self.embed_segments = nn.Embedding(2, embed_tokens.embedding_dim)
        for part in self.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = EPSILON
        if args.activation_fn == "gelu":
            # fairseq's goes through float32: a game in float64 would be no game in float64.
            for layer in self.layers:
                layer.activation_fn = functional.gelu

    def segments(self, src_tokens: Tensor) -> Tensor:
        """Return the number of the segment of each token, B x T, 0 or 1."""
        ends = src_tokens.eq(self.end_idx).long()
        return (ends.cumsum(1) - ends).clamp(max=1)

    def forward_embedding(
        self, src_tokens: Tensor, token_embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what the first layer gets, B x T x C, and the embeddings of words alone."""
        embed = self.embed_tokens(src_tokens) if token_embedding is None else token_embedding
        x = embed + self.embed_positions(src_tokens)
        x = x + self.embed_segments(self.segments(src_tokens))
        return self.dropout_module(self.layernorm_embedding(x)), embed


class BertEncoder(RobertaEncoder):
    """A `SegmentedEncoder` in the place of RoBERTa's, without a language model's head."""

    def build_encoder(self, args: Any, dictionary: Any, embed_tokens: nn.Embedding) -> nn.Module:
        """See `RobertaEncoder`."""
        encoder = SegmentedEncoder(args, dictionary, embed_tokens)
        encoder.apply(init_bert_params)
        return encoder

    def build_lm_head(self, *_: Any, **__: Any) -> None:
        """None: BERT predicts no words here."""

    def output_layer(self, features: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return the features, B x T x C: there is no head of words."""
        return features


class Pooler(nn.Module):
    """What BERT makes of a sentence: tanh of a projection of its first token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return one vector for each sentence, B x C, of features, B x T x C."""
        return torch.tanh(self.dense(features[:, 0]))


@register_model("bert")
class BertModel(RobertaModel):
    """fairseq's `RobertaModel` with BERT's encoder, pooler and heads.

    A checkpoint without a pooler gets a fresh one, and the log says so.
    """

    def __init__(self, args: Any, encoder: BertEncoder) -> None:
        super().__init__(args, encoder)
        self.pooler = Pooler(args.encoder_embed_dim)
        self.pooler.apply(init_bert_params)

    @classmethod
    def hub_models(cls) -> dict[str, str]:
        """None: `python -m data_prep encoder` gets them."""
        return {}

    @classmethod
    def build_model(cls, args: Any, task: Any) -> BertModel:
        """See `RobertaModel`. Exits in one line with --spectral-norm-classification-head."""
        if getattr(args, "spectral_norm_classification_head", False):
            raise SystemExit(
                "fairseq_adv: --spectral-norm-classification-head: BERT's heads have none;"
                " leave it out"
            )
        is_config = OmegaConf.is_config(args)  # of a checkpoint; its options are all there are
        if is_config:
            OmegaConf.set_struct(args, False)
        base_architecture(args)
        if getattr(args, "max_positions", None) is None:
            args.max_positions = task.max_positions()
        encoder = BertEncoder(args, task.source_dictionary)
        if is_config:
            OmegaConf.set_struct(args, True)
        return cls(args, encoder)

    def forward(
        self,
        src_tokens: Tensor,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        classification_head_name: str | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return features, B x T x C, or with the name of a head its logits, B x K; and extras.

        :param src_tokens: B x T, `<s> a </s>` or `<s> a </s> b </s>`, padded on the right.
        """
        x, extra = self.encoder(src_tokens, True, return_all_hiddens, **kwargs)
        if classification_head_name is not None:
            x = self.classification_heads[classification_head_name](self.pooler(x))
        return x, extra

    def register_classification_head(
        self, name: str, num_classes: int | None = None, inner_dim: int | None = None, **_: Any
    ) -> None:
        """Add a head, or replace one. `inner_dim` is the pooler's, and cannot be another.

        Raises ValueError if it is.
        """
        dim = self.args.encoder_embed_dim
        if inner_dim not in (None, dim):
            raise ValueError(f"inner_dim {inner_dim}: BERT's pooler has {dim}")
        assert num_classes is not None
        head = Head(dim, num_classes, self.args.pooler_dropout)
        head.apply(init_bert_params)
        put_head(self.classification_heads, name, head.to(self.pooler.dense.weight))

    def upgrade_state_dict_named(self, state_dict: dict[str, Any], name: str) -> None:
        """Fit a checkpoint's pooler and heads to those that are here, in place.

        Heads that are not here, or have other sizes, are left out; with --load-checkpoint-heads
        they are made. What a checkpoint lacks stays as it was initialised.
        """
        super(RobertaModel, self).upgrade_state_dict_named(state_dict, name)  # of its parts
        prefix = f"{name}." if name else ""
        makes = getattr(self.args, "load_checkpoint_heads", False)
        make = self.register_classification_head if makes else None
        fit_heads(self.classification_heads, state_dict, prefix, make)
        if f"{prefix}{_POOLER}weight" not in state_dict:
            logger.info("the checkpoint has no pooler: a fresh one is trained")
        for key, value in self.pooler.dense.state_dict().items():
            state_dict.setdefault(prefix + _POOLER + key, value)
        for key in [key for key in state_dict if key.startswith(f"{prefix}encoder.lm_head.")]:
            del state_dict[key]


@register_model_architecture("bert", "bert")
def base_architecture(args: Any) -> None:
    """BERT-base: 12 layers of 768 channels."""
    args.pooler_dropout = getattr(args, "pooler_dropout", 0.1)
    roberta_architecture(args)


def _sized(args: Any, layers: int, dim: int, inner: int, heads: int) -> None:
    args.encoder_layers = getattr(args, "encoder_layers", layers)
    args.encoder_embed_dim = getattr(args, "encoder_embed_dim", dim)
    args.encoder_ffn_embed_dim = getattr(args, "encoder_ffn_embed_dim", inner)
    args.encoder_attention_heads = getattr(args, "encoder_attention_heads", heads)
    base_architecture(args)


@register_model_architecture("bert", "bert_24_layers")
def large_architecture(args: Any) -> None:
    """BERT-large: 24 layers of 1,024 channels. (fairseq has another model called `bert_large`.)"""
    _sized(args, 24, 1024, 4096, 16)


@register_model_architecture("bert", "bert_minilm")
def minilm_architecture(args: Any) -> None:
    """MiniLM (Wang et al., NeurIPS 2020) of 6 layers of 384 channels."""
    _sized(args, 6, 384, 1536, 12)
