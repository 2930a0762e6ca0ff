"""Tiny fairseq models, batches and games for the tests: seconds matter, sizes do not."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from fairseq import utils
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY, CRITERION_REGISTRY, sentence_prediction
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary, data_utils
from fairseq.models import BaseFairseqModel
from fairseq.models.fconv import FConvModel
from fairseq.models.fconv import base_architecture as fconv_base
from fairseq.models.lstm import LSTMModel
from fairseq.models.lstm import base_architecture as lstm_base
from fairseq.models.transformer import TransformerModel
from fairseq.models.transformer.transformer_legacy import base_architecture as transformer_base
from torch import Tensor
from torch.nn import functional

from fairseq_adv.core.backward import Backward
from fairseq_adv.criterions.common.adversarial import AdversarialCriterion
from fairseq_adv.games.game import FairseqGame
from fairseq_adv.tasks.adversarial_translation import (
    AdversarialTranslationConfig,
    AdversarialTranslationTask,
)

WORDS = 11


def task(**options: Any) -> AdversarialTranslationTask:
    """A translation task of one dictionary; options as on the command line."""
    dictionary = Dictionary()
    for word in range(WORDS):
        dictionary.add_symbol(f"w{word}")
    config = AdversarialTranslationConfig(
        data="nowhere", source_lang="a", target_lang="b", **{"sentence_avg": False, **options}
    )
    return AdversarialTranslationTask(config, dictionary, dictionary)


def transformer(*, dropout: float = 0.0, **options: Any) -> BaseFairseqModel:
    """A Transformer of 1 + 1 layers, smooth (tanh) unless told otherwise."""
    sizes = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (
            ("embed_dim", 8),
            ("ffn_embed_dim", 12),
            ("layers", 1),
            ("attention_heads", 2),
        )
    }
    args = Namespace(
        **sizes,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        activation_fn="tanh",
        max_source_positions=64,
        max_target_positions=64,
    )
    for name, value in options.items():
        setattr(args, name, value)
    transformer_base(args)
    return initialised(TransformerModel.build_model(args, task()))


def shared_transformer(**options: Any) -> BaseFairseqModel:
    """A Transformer with one embedding for source, target and output."""
    return transformer(share_all_embeddings=True, **options)


def lstm(*, dropout: float = 0.0) -> BaseFairseqModel:
    """An LSTM with attention; its encoder turns left padding into right padding."""
    args = Namespace(dropout=dropout, encoder_embed_dim=8, decoder_embed_dim=8, criterion="salt")
    args.encoder_hidden_size = args.decoder_hidden_size = args.decoder_out_embed_dim = 8
    args.max_source_positions = args.max_target_positions = 64
    lstm_base(args)
    return initialised(LSTMModel.build_model(args, task()))


def convolutional(*, dropout: float = 0.0) -> BaseFairseqModel:
    """A convolutional model, whose encoder scales its gradient on purpose."""
    args = Namespace(dropout=dropout, encoder_embed_dim=8, decoder_embed_dim=8, criterion="salt")
    args.encoder_layers = args.decoder_layers = "[(8, 3)] * 2"
    args.decoder_out_embed_dim = 8
    args.max_source_positions = args.max_target_positions = 64
    fconv_base(args)
    return initialised(FConvModel.build_model(args, task()))


def initialised(model: BaseFairseqModel) -> BaseFairseqModel:
    """Parameters far from zero: fairseq's small initial ones make every gradient tiny."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.5, generator=generator)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                module.weight[module.padding_idx] = 0.0
    return model.train()


def batch(
    lengths: Sequence[tuple[int, int]] = ((5, 4), (3, 6), (2, 3)),
    *,
    left_pad_source: bool = True,
    seed: int = 3,
) -> dict[str, Any]:
    """A batch as fairseq's LanguagePairDataset collates it, from (source, target) lengths.

    Sentences come longest source first; word ids depend on the seed and the sentence alone.
    """
    dictionary = task().source_dictionary
    pad, eos = dictionary.pad(), dictionary.eos()
    sources, targets = [], []
    for i, (source, target) in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + i)
        for length, sentences in ((source, sources), (target, targets)):
            words = torch.randint(4, 4 + WORDS, (length - 1,), generator=generator)
            sentences.append(torch.cat([words, torch.tensor([eos])]))

    def collate(sentences: list[Tensor], left: bool, **kwargs: Any) -> Tensor:
        return data_utils.collate_tokens(sentences, pad, eos, left, **kwargs)

    return {
        "net_input": {
            "src_tokens": collate(sources, left_pad_source),
            "src_lengths": torch.tensor([len(s) for s in sources]),
            "prev_output_tokens": collate(targets, False, move_eos_to_beginning=True),
        },
        "id": torch.arange(len(sources)) + 100 * seed,
        "target": collate(targets, False),
        "ntokens": sum(len(t) for t in targets),
        "nsentences": len(sources),
    }


ELSEWHERE = {
    "ema_fp32": False,
    "update_freq": [1],
    "ddp_backend": "legacy_ddp",
    "pipeline_model_parallel": False,
    "model_parallel_size": 1,
    "use_bmuf": False,
    "tpu": False,
    "bf16": False,
    "fp16": False,
    "amp": False,
    "quantization_config_path": None,
}
"""What fairseq fills in from its other options."""


@dataclass(frozen=True)
class Family:
    """A kind of task, tiny: what a game is played about.

    :param task: makes one, of options as on the command line.
    :param batch: makes one, of (source, target) lengths; see `batch`.
    :param plain: options of the task that games are played with.
    :param stock: fairseq's own criterion, by hand, for such a game.
    :param clean_loss: what the clean loss is called in the log.
    """

    task: Callable[..., Any]
    batch: Callable[..., dict[str, Any]]
    plain: Mapping[str, Any]
    stock: Callable[[], Any]
    clean_loss: str

    @property
    def words(self) -> tuple[str, ...]:
        """The sites of words."""
        return tuple(self.task().game.words)

    def criterion(self, name: str = "salt", **options: Any) -> AdversarialCriterion:
        """A criterion; its options and its task's."""
        task = self.task()
        plain = {f.name for f in fields(task.plain_options)} & options.keys()
        of_task = {**self.plain, **{option: options.pop(option) for option in plain}}
        config = CRITERION_DATACLASS_REGISTRY[name](_name=name)
        for option, value in {**ELSEWHERE, "store_ema": name == "smart"}.items():
            if hasattr(config, option):
                setattr(config, option, value)
        for option, value in options.items():
            assert hasattr(config, option), option
            setattr(config, option, value)
        criterion: AdversarialCriterion = CRITERION_REGISTRY[name](config, self.task(**of_task))
        return criterion

    def game(self, model: BaseFairseqModel, sample: dict[str, Any], **more: Any) -> FairseqGame:
        """The game that any criterion plays."""
        criterion = self.criterion()
        made: FairseqGame = criterion.task.game(model, sample, criterion.plain, **more)
        return made


TRANSLATION = Family(
    task=task,
    batch=batch,
    plain={"label_smoothing": 0.1},
    stock=lambda: LabelSmoothedCrossEntropyCriterion(task(), False, 0.1),
    clean_loss="nll_loss",
)
criterion = TRANSLATION.criterion
game = TRANSLATION.game


accumulate = Backward()


class _Untyped:
    """torch.nn.functional, whose log-softmax is in the type of what it gets."""

    log_softmax = staticmethod(lambda x, dim, dtype: functional.log_softmax(x, dim))

    def __getattr__(self, name: str) -> Any:
        return getattr(functional, name)


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Let fairseq compute in the type of the model where it asks for float32.

    It does so for softmax whatever the model is, which would blur every comparison in float64.
    """
    before = utils.softmax, utils.log_softmax, sentence_prediction.F
    to_float32 = Tensor.float
    utils.softmax = lambda x, dim, onnx_trace=False: functional.softmax(x, dim)
    utils.log_softmax = lambda x, dim, onnx_trace=False: functional.log_softmax(x, dim)
    sentence_prediction.F = _Untyped()
    Tensor.float = lambda x: x if x.dtype == torch.float64 else to_float32(x)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        utils.softmax, utils.log_softmax, sentence_prediction.F = before
        Tensor.float = to_float32  # type: ignore[method-assign]
