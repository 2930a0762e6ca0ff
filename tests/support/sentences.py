"""Tiny classifiers and regressors of sentences, and their batches; see `tiny`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from fairseq.criterions.sentence_prediction import SentencePredictionCriterion
from fairseq.data import Dictionary, data_utils
from fairseq.models import BaseFairseqModel
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import base_architecture as roberta_base

from fairseq_adv.models.attention_classifier import AttentionClassifier
from fairseq_adv.models.bert import BertModel
from fairseq_adv.models.bert import base_architecture as bert_base
from fairseq_adv.tasks.adversarial_sentence_prediction import (
    AdversarialSentencePredictionConfig,
    AdversarialSentencePredictionTask,
)
from tests.support.tiny import WORDS, Family, initialised

HEAD = AdversarialSentencePredictionConfig.classification_head_name
SIZES = {"encoder_embed_dim": 8, "encoder_ffn_embed_dim": 12, "encoder_layers": 1}


def task(outputs: int = 2, **options: Any) -> AdversarialSentencePredictionTask:
    """A task of so many classes, or numbers; options as on the command line."""
    words, labels = Dictionary(), Dictionary()
    for word in range(WORDS):
        words.add_symbol(f"w{word}")
    for label in range(outputs):
        labels.add_symbol(str(label))
    config = AdversarialSentencePredictionConfig(data="nowhere", num_classes=outputs, **options)
    return AdversarialSentencePredictionTask(config, words, labels)


def batch(
    lengths: Sequence[tuple[int, int]] = ((5, 4), (3, 6), (2, 3)),
    *,
    outputs: int = 2,
    numbers: bool = False,
    seed: int = 3,
) -> dict[str, Any]:
    """A batch as fairseq's task collates it. Lengths are pairs, whose first one counts.

    Sentences and labels depend on the seed and the sentence alone. Sentences of six tokens or more
    are pairs: an end is in the middle.

    :param outputs: classes of labels, or numbers in each.
    """
    words = task().source_dictionary
    sentences, targets = [], []
    for i, (length, _) in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + i)
        tokens = torch.randint(4, 4 + WORDS, (length,), generator=generator)
        tokens[0], tokens[-1] = words.bos(), words.eos()
        if length >= 6:
            tokens[length // 2] = words.eos()
        sentences.append(tokens)
        label = torch.tensor([(seed + i) % outputs])
        targets.append(torch.randn(outputs, generator=generator) if numbers else label)
    return collated(sentences, targets, words.pad(), seed)


def collated(
    sentences: list[torch.Tensor], targets: list[torch.Tensor], pad: int, seed: int
) -> dict[str, Any]:
    """A batch as fairseq's datasets make it, whose sentences have ids by the seed."""
    return {
        "net_input": {
            "src_tokens": data_utils.collate_tokens(sentences, pad, left_pad=False),
            "src_lengths": torch.tensor([len(s) for s in sentences]),
        },
        "id": torch.arange(len(sentences)) + 100 * seed,
        "target": torch.stack(targets),
        "ntokens": sum(len(s) for s in sentences),
        "nsentences": len(sentences),
    }


def words_batch(
    lengths: Sequence[tuple[int, int]] = ((5, 4), (3, 6), (2, 3)),
    *,
    outputs: int = 2,
    pairs: bool = False,
    seed: int = 3,
) -> dict[str, Any]:
    """A batch of `a </s>` or, with pairs, of `a </s> </s> b </s>`; lengths count the ends.

    Sentences and labels depend on the seed and the sentence alone.
    """
    words = task().source_dictionary
    end = torch.tensor([words.eos()])
    sentences, targets = [], []
    for i, both in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + i)
        parts = []
        for length in both[: 1 + pairs]:
            drawn = torch.randint(3, 4 + WORDS, (length - 1,), generator=generator)
            parts += [end] * bool(parts) + [drawn, end]  # <unk> is a word
        sentences.append(torch.cat(parts))
        targets.append(torch.tensor([(seed + i) % outputs]))
    return collated(sentences, targets, words.pad(), seed)


def attention_classifier(
    *, outputs: int = 2, dropout: float = 0.0, pairs: bool = False
) -> BaseFairseqModel:
    """A BiLSTM of 2 * 3 units with attention, for texts or for pairs of them."""
    args = Namespace(encoder_embed_dim=8, encoder_hidden_size=3, dropout=dropout)
    args.max_positions = 64
    of = task(separator_token=2) if pairs else task()
    model = AttentionClassifier.build_model(args, of)
    model.register_classification_head(HEAD, num_classes=outputs)
    return initialised(model)


def roberta(**options: Any) -> BaseFairseqModel:
    """A RoBERTa of one layer, smooth (tanh) unless told otherwise; see `_model`."""
    return _model(RobertaModel, roberta_base, **options)


def bert(**options: Any) -> BaseFairseqModel:
    """A BERT, which tells the texts of a pair apart and has a pooler; see `_model`."""
    return _model(BertModel, bert_base, **options)


def _model(
    kind: Any, architecture: Any, *, outputs: int = 2, dropout: float = 0.0, **options: Any
) -> BaseFairseqModel:
    """A model with a head of so many classes, or numbers."""
    dropouts = ("dropout", "attention_dropout", "activation_dropout", "pooler_dropout")
    args = Namespace(
        **SIZES,
        **dict.fromkeys(dropouts, dropout),
        encoder_attention_heads=2,
        activation_fn="tanh",
        max_positions=64,
    )
    for name, value in options.items():
        setattr(args, name, value)
    architecture(args)
    model = kind.build_model(args, task())
    model.register_classification_head(HEAD, num_classes=outputs)
    return initialised(model)


def family(outputs: int, numbers: bool = False) -> Family:
    """Of so many classes or, with numbers, of so many of them."""
    plain = {"outputs": outputs, "regression_target": numbers}
    made = partial(task, outputs)
    return Family(
        task=made,
        batch=partial(batch, outputs=outputs, numbers=numbers),
        plain={"regression_target": numbers},
        stock=lambda: SentencePredictionCriterion(task(**plain).cfg, task(**plain)),
        clean_loss="clean_loss",
    )


TWO, THREE, NUMBER = family(2), family(3), family(1, numbers=True)
TEXTS = replace(TWO, batch=words_batch)
PAIRS = replace(THREE, batch=partial(words_batch, outputs=3, pairs=True))
