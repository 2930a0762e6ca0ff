"""A BiLSTM with one layer of additive attention, which classifies a text or a pair of texts.

The model of Kitada and Iyatomi (2021), section III, after Jain and Wallace (NAACL 2019): the one
that their adversarial training of attention was made for (`games/sites/attention.py`). Texts are
words, `a </s>` or, with the task's --separator-token, `a </s> [separator] b </s>`; LSTMs and
attention see words only, whatever marks stand between them and wherever padding is.

Of a pair, h_a of the first text alone is decoded, as in Eq. 8. The published code of Jain and
Wallace decodes tanh(A h_a + B h_q) instead, with the other text's last state h_q.

`python -m data_prep CORPUS --encoder words` makes vocabularies and checkpoints for it.
Tests: tests/models/test_attention_classifier.py.
"""

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.models import FairseqEncoder, FairseqEncoderModel, register_model
from fairseq.modules import FairseqDropout
from omegaconf import II
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fairseq_adv.models.heads import Head, fit_heads, put_head

logger = logging.getLogger(__name__)

_EMBEDDINGS = "encoder.embed_tokens.weight"


class AdditiveAttention(nn.Module):
    """Eqs. 2 and 3, and 7 for pairs: scores of hidden states, and their softmax over words.

    :param states: components m of a hidden state.
    :param dim: d', of what is compared; half of m in the released code.
    :param asks: whether there is a second text, whose last state asks.
    """

    def __init__(self, states: int, dim: int, asks: bool) -> None:
        super().__init__()
        self.key = nn.Linear(states, dim)  # W (or W_1) and b
        self.query = nn.Linear(states, dim, bias=False) if asks else None  # W_2
        self.score = nn.Linear(dim, 1, bias=False)  # c

    def forward(self, states: Tensor, query: Tensor | None, words: Tensor) -> Tensor:
        """Return weights, B x T: of words they sum to 1, all else is 0.

        :param states: B x T x m.
        :param query: B x m, of pairs.
        :param words: B x T, true at words.
        """
        scores = self.scores(states, query)
        # In float32 or wider: in half precision the least number is no mask.
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        least = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~words, least).softmax(-1) * words  # a text may have no word
        return weights.to(states.dtype)

    def scores(self, states: Tensor, query: Tensor | None) -> Tensor:
        """Return a~, B x T, of all states, whether there is a word or not."""
        compared = self.key(states)
        if self.query is not None:
            compared = compared + self.query(query)[:, None]
        return self.score(torch.tanh(compared)).squeeze(-1)


class WordEncoder(FairseqEncoder):
    """Word embeddings, a BiLSTM for each text, and attention over the first one's states.

    :param marks: numbers of symbols that are no words, beside fairseq's own.
    :param pairs: whether there are second texts.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        *,
        embed_dim: int,
        hidden_size: int,
        dropout: float,
        max_positions: int,
        pairs: bool,
        marks: tuple[int, ...] = (),
    ) -> None:
        super().__init__(dictionary)
        self.embed_tokens = nn.Embedding(len(dictionary), embed_dim, dictionary.pad())
        nn.init.normal_(self.embed_tokens.weight, std=embed_dim**-0.5)
        nn.init.zeros_(self.embed_tokens.weight[dictionary.pad()])
        self.dropout_module = FairseqDropout(dropout, module_name=self.__class__.__name__)
        self.lstm = nn.LSTM(embed_dim, hidden_size, batch_first=True, bidirectional=True)
        self.second_lstm = (
            nn.LSTM(embed_dim, hidden_size, batch_first=True, bidirectional=True) if pairs else None
        )
        self.attention = AdditiveAttention(2 * hidden_size, hidden_size, pairs)
        self._max_positions = max_positions
        self._marks = {dictionary.bos(), dictionary.pad(), dictionary.eos(), *marks}

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return h_a, B x m, and attention weights, B x T, 0 where there is no word of the first.

        :param src_tokens: B x T; see the module.
        :param src_lengths: not needed: padding is known by its symbol.
        """
        embedded = self.dropout_module(self.embed_tokens(src_tokens))
        first = self.attended(src_tokens)
        states = _encoded(self.lstm, embedded, first)[0]
        query = None
        if self.second_lstm is not None:
            second = self._words(src_tokens) & ~first
            query = _encoded(self.second_lstm, embedded, second)[1]
        weights = self.attention(states, query, first)
        return (weights[:, None] @ states).squeeze(1), weights

    def attended(self, src_tokens: Tensor) -> Tensor:
        """Return where there is a word of the first text, B x T."""
        words = self._words(src_tokens)
        if self.second_lstm is None:
            return words
        return words & (src_tokens.eq(self.dictionary.eos()).cumsum(1) == 0)

    def _words(self, src_tokens: Tensor) -> Tensor:
        marks = torch.tensor(sorted(self._marks), device=src_tokens.device)
        return torch.isin(src_tokens, marks, invert=True)

    def max_positions(self) -> int:
        """The longest input, marks included."""
        return self._max_positions


def _encoded(lstm: nn.LSTM, embedded: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return hidden states, B x T x m, and the last ones of both directions, B x m.

    States of tokens that are no words are of some word. A text without any leaves an LSTM at its
    zero state.

    :param embedded: B x T x C.
    :param words: B x T, which of these the LSTM reads.
    """
    lengths = words.sum(1)
    longest = max(1, int(lengths.max()))
    order = words.int().argsort(dim=1, descending=True, stable=True)[:, :longest, None]
    read = embedded.gather(1, order.expand(-1, -1, embedded.size(2)))
    packed = pack_padded_sequence(
        read, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    outputs, (last, _) = lstm(packed)
    states, _ = pad_packed_sequence(outputs, batch_first=True)  # B x longest x m
    places = (words.cumsum(1) - 1).clamp(min=0)[:, :, None]
    by_token = states.gather(1, places.expand(-1, -1, states.size(2)))
    return by_token, last.transpose(0, 1).flatten(1) * lengths.gt(0)[:, None]


@dataclass
class AttentionClassifierConfig(FairseqDataclass):
    """Sizes: the paper's are 300 and 256, and of bAbI 50 and 64 (Appendix B).

    Its hidden size counts both directions: the released configuration, and Jain and Wallace's code,
    have 128 units in each, 32 for bAbI, and compare as many (d').
    """

    encoder_embed_dim: int = field(default=300, metadata={"help": "channels of a word's embedding"})
    encoder_hidden_size: int = field(
        default=128, metadata={"help": "units of the LSTM in each direction, and of the attention"}
    )
    dropout: float = field(
        default=0.0,
        metadata={"help": "of embeddings, and of what the head gets; the paper has none"},
    )
    max_positions: int = II("task.max_positions")  # which fairseq's task puts here


@register_model("attention_classifier", dataclass=AttentionClassifierConfig)
class AttentionClassifier(FairseqEncoderModel):
    """A `WordEncoder` with heads, called as fairseq's `RobertaModel` is."""

    def __init__(self, args: Any, encoder: WordEncoder) -> None:
        super().__init__(encoder)
        self.args = args
        self.classification_heads = nn.ModuleDict()

    @classmethod
    def build_model(cls, args: Any, task: Any) -> "AttentionClassifier":
        """Build a model for a task, whose --separator-token says that texts are pairs."""
        separator, begin = task.cfg.separator_token, task.cfg.init_token
        encoder = WordEncoder(
            task.source_dictionary,
            embed_dim=args.encoder_embed_dim,
            hidden_size=args.encoder_hidden_size,
            dropout=args.dropout,
            max_positions=args.max_positions,
            pairs=separator is not None,
            marks=tuple(mark for mark in (separator, begin) if mark is not None),
        )
        return cls(args, encoder)

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        features_only: bool = False,
        classification_head_name: str | None = None,
        **_: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return h_a, B x m, or with the name of a head its logits, B x K; and `attention`.

        That is the weights, B x T over `src_tokens`, 0 where there is no word of the first text.
        """
        sentences, weights = self.encoder(src_tokens, src_lengths)
        if classification_head_name is not None:
            sentences = self.classification_heads[classification_head_name](sentences)
        return sentences, {"attention": weights}

    def register_classification_head(
        self, name: str, num_classes: int | None = None, **_: Any
    ) -> None:
        """Add a dense layer, Eq. 5's, or replace one."""
        assert num_classes is not None
        like = self.encoder.attention.key.weight
        head = Head(like.size(1), num_classes, self.args.dropout)
        put_head(self.classification_heads, name, head.to(like))

    def upgrade_state_dict_named(self, state_dict: dict[str, Any], name: str) -> None:
        """Fit a checkpoint's heads to those that are here, in place; see `fit_heads`.

        One that has embeddings and nothing else, as data_prep makes them, leaves all else as it was
        initialised.
        """
        super().upgrade_state_dict_named(state_dict, name)
        prefix = f"{name}." if name else ""
        if state_dict.keys() == {f"{prefix}{_EMBEDDINGS}"}:
            logger.info("the checkpoint has embeddings alone: a fresh model is trained")
            for key, value in self.encoder.state_dict(prefix=f"{prefix}encoder.").items():
                state_dict.setdefault(key, value)
        fit_heads(self.classification_heads, state_dict, prefix, None)
